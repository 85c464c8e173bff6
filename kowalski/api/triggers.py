"""Requests for targets of opportunity, handed on to the server of an observatory."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from kowalski.api.errors import ApiError, InvalidRequestError

MAX_BYTES = 10 * 1024 * 1024
"""Of an observatory's answer."""


class ObservatoryError(ApiError):
    """An observatory can't be asked, or has not answered as expected.

    It is no 5xx: clients would send the request again, and it may have been accepted.
    """


@dataclass(frozen=True, slots=True)
class Answer:
    """What an observatory has answered."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The content, decoded.

        Raises
        ------
        ObservatoryError
            If it is no JSON.
        """
        try:
            return orjson.loads(self.content)
        except orjson.JSONDecodeError as error:
            raise ObservatoryError(f"the observatory has not answered with JSON: {error}") from error


async def ask(method: str, url: str, body: dict[str, Any], seconds: float) -> Answer:
    """Send a request and wait for the answer.

    Raises
    ------
    ObservatoryError
        If there is none in time, or it is too large.
    InvalidRequestError
        If a number in the request is not finite.
    """
    try:
        text = json.dumps(body, allow_nan=False)
    except ValueError as error:
        raise InvalidRequestError("numbers must be finite") from error
    headers = {"Content-Type": "application/json"}
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(trust_env=False, timeout=seconds, headers=headers) as client,
            client.stream(method, url, content=text.encode()) as answer,
        ):
            content = b""
            async for part in answer.aiter_bytes():
                content += part
                if len(content) > MAX_BYTES:
                    raise ObservatoryError(f"the observatory's answer is larger than {MAX_BYTES} bytes")
            return Answer(answer.status_code, dict(answer.headers), content)
    except (TimeoutError, httpx.TimeoutException) as error:
        raise ObservatoryError(
            f"the observatory has not answered within {seconds:g} s; it may have got the request all the same"
        ) from error
    except httpx.HTTPError as error:
        raise ObservatoryError(f"the observatory can't be reached: {type(error).__name__} {error}"[:500]) from error
