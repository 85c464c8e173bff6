"""What requests and answers look like: the models that validate are those that the documentation shows."""
