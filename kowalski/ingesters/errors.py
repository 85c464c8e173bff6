"""What may go wrong with a whole load; what is wrong with single rows is written to a file beside."""


class IngestError(Exception):
    """A catalog can't be loaded; the text says why, for the operator."""
