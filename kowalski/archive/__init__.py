"""MongoDB: connections, collection names, indexes, and one module per kind of document."""
