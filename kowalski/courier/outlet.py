"""Where the courier brings things: what an outlet must be able to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from kowalski.archive.client import Document


class Outlet(Protocol):
    """A place that takes what passes filters."""

    name: str
    """As the configuration and metrics call it."""

    async def deliver(self, document: Document, answered: Callable[[], None]) -> Mapping[str, str]:
        """Bring an outbox document there, as far as earlier attempts have not got.

        Parameters
        ----------
        document
            As it was read.
        answered
            Called whenever the outlet has taken something, or refused it for good.

        Returns
        -------
        Mapping
            Step -> why the outlet refused it for good, earlier attempts included.

        Raises
        ------
        TryAgain
            If the outlet can't take it now.
        Refused
            If it will never take anything of it.
        NotYet
            If the document must wait, which is nobody's fault.
        Stopped
            If the courier is to end.
        """
        ...

    async def attend(self) -> None:
        """Do what is to be done beside deliveries, until cancelled; may end at once."""
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
