"""The way of one alert: from Kafka through the stages on the Dask workers into MongoDB and the outbox."""
