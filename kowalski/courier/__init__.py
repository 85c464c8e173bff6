"""From the outbox to the outlets: each pass once, in order for each object, through whatever happens."""
