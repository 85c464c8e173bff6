"""The commands of ``./kowalski.py``: each parses its options, calls the rest of the project, and prints."""
