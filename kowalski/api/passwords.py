"""Passwords are hashed with Argon2id, in threads of their own: a hash takes tens of milliseconds.

Parameters: the first choice of the OWASP Password Storage Cheat Sheet (19 MiB, two passes, one lane).
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

THREADS = 2


class Passwords:
    """Hashes and checks passwords without holding up the event loop."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="passwords")
        self._nobody = self._hasher.hash("")

    async def hash(self, password: str) -> str:
        """Hash a password with a salt of its own."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._hasher.hash, password)

    async def matches(self, password: str, hashed: str | None) -> bool:
        """Check a password; without a hash, take the time it would need and say no."""
        loop = asyncio.get_running_loop()
        against = self._nobody if hashed is None else hashed
        matched = await loop.run_in_executor(self._threads, self._verify, password, against)
        return matched and hashed is not None

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False)

    def _verify(self, password: str, hashed: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False
