"""The performance report: what brokers, filters and courier did on a day, as figures and plots."""
