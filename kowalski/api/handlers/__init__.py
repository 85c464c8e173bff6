"""One module per resource; each lists its routes in ``ROUTES``."""
