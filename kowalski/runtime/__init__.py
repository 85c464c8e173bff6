"""Starting and watching the services of an instance: programs, supervisor, health, embedded MongoDB and Kafka."""
