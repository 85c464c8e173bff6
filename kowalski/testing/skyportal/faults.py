"""How the fake SkyPortal fails when it is told to."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fault(BaseModel):
    """One way to fail; the first rule that fits a call is followed.

    Attributes
    ----------
    method, path
        Regular expressions that the whole method and the beginning of the path must match.
    times
        How often the rule is followed; None: always.
    probability
        The share of fitting calls that fail.
    delay
        Seconds before anything else happens.
    status
        The call is not carried out and answered with this status.
    retry_after
        ``Retry-After`` of that answer, seconds.
    drop
        The call is carried out, then the connection is cut before the answer.
    """

    model_config = ConfigDict(extra="forbid")

    method: str = ".*"
    path: str = "/api/"
    times: int | None = Field(default=None, ge=0)
    probability: float = Field(default=1.0, ge=0.0, le=1.0)
    delay: float = Field(default=0.0, ge=0.0)
    status: int | None = Field(default=None, ge=400, le=599)
    retry_after: int | None = Field(default=None, ge=0)
    drop: bool = False

    def fits(self, method: str, path: str, dice: random.Random) -> bool:
        """Whether the rule is to be followed for a call."""
        named = re.fullmatch(self.method, method) is not None and re.match(self.path, path) is not None
        return named and self.times != 0 and dice.random() < self.probability


class Faults:
    """The rules in force."""

    def __init__(self, seed: int = 1) -> None:
        self.rules: list[Fault] = []
        self._dice = random.Random(seed)

    def choose(self, method: str, path: str) -> Fault | None:
        """Find the rule to follow for a call, and count it."""
        for rule in self.rules:
            if rule.fits(method, path, self._dice):
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return None

    async def follow(self, rule: Fault, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a call as ``rule`` says."""
        await request.read()  # it has the whole call, even if the client does not wait for what becomes of it
        await asyncio.sleep(rule.delay)
        if rule.status is not None:
            headers = {} if rule.retry_after is None else {"Retry-After": f"{rule.retry_after}"}
            content = {"status": "error", "message": f"fault: {rule.status}", "data": {}}
            return web.json_response(content, status=rule.status, headers=headers)
        response = await handler(request)
        if rule.drop and request.transport is not None:
            request.transport.abort()
        return response
