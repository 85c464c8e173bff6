"""What can be wrong with files of dumps."""

from __future__ import annotations


class DumpError(Exception):
    """A dump can't be read or written, or is damaged; the text is for the operator."""
