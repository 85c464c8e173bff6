"""How a delivery may end other than well; each outlet tells its troubles in these terms."""

from __future__ import annotations

from datetime import datetime


class DeliveryError(Exception):
    """A call was not successful; the text says which one and why."""


class TryAgain(DeliveryError):
    """The call may succeed later.

    Attributes
    ----------
    away
        Whether the outlet as a whole can't be worked with, rather than this call.
    pause
        Seconds that the outlet asks to wait, or None.
    lost
        Whether the call may have had its effect all the same, only its answer is missing.
    """

    def __init__(self, message: str, *, away: bool, pause: float | None = None, lost: bool = False) -> None:
        super().__init__(message)
        self.away = away
        self.pause = pause
        self.lost = lost


class Refused(DeliveryError):
    """The outlet will never accept this call."""


class AlreadyThere(Refused):
    """The outlet has it: an earlier call succeeded whose answer was lost."""


class NotYet(Exception):
    """Nobody's fault: the document can go on at ``until`` (UTC)."""

    def __init__(self, message: str, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class Stopped(Exception):
    """The courier is to end; what is left to do stays in the outbox."""
