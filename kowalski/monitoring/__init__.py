"""What can be measured of a running instance: published by each service, gathered in one place."""
