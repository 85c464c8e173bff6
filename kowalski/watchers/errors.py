"""What keeps a watcher from its work; the texts are sentences for operators."""

from __future__ import annotations


class WatcherError(Exception):
    """A pass can't go on."""


class Unavailable(WatcherError):
    """The server can't be worked with now; trying again makes sense.

    Attributes
    ----------
    pause
        Seconds for which the server asks to be left alone; None if it says nothing.
    """

    def __init__(self, text: str, pause: float | None = None) -> None:
        super().__init__(text)
        self.pause = pause


class Refused(WatcherError):
    """The server will answer the same however often it is asked.

    Attributes
    ----------
    status
        The HTTP status.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


class Malformed(WatcherError):
    """What came is not what it should be."""


class Stopped(Exception):
    """The service was told to end."""
