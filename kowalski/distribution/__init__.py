"""What passes users' filters, onto Kafka topics for others."""
