"""A performance report to Slack: with a bot's token text and file, through an incoming webhook the text alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from kowalski.config.watchers import Report
from kowalski.watchers.errors import Malformed, Refused
from kowalski.watchers.web import Web

LONGEST = 3500
"""Characters of a message; Slack cuts longer ones."""


def send(web: Web, own: Report, text: str, file: Path) -> None:
    """Post a report.

    Raises
    ------
    kowalski.watchers.errors.WatcherError
        If Slack does not take it.
    """
    message = f"```\n{text[:LONGEST]}\n```"
    if own.slack_webhook is not None:
        web.post(own.slack_webhook, json={"text": message})
    if own.slack_token is None:
        return
    content = file.read_bytes()
    place = _call(web, own, "files.getUploadURLExternal", filename=file.name, length=str(len(content)))
    web.post(str(place["upload_url"]), content=content)
    files = orjson.dumps([{"id": place["file_id"], "title": file.name}]).decode()
    whole = {"files": files, "channel_id": str(own.slack_channel), "initial_comment": message}
    _call(web, own, "files.completeUploadExternal", **whole)


def _call(web: Web, own: Report, method: str, **form: str) -> dict[str, Any]:
    """Call a method of Slack's API, whose answers have status 200 also when it refuses."""
    headers = {"Authorization": f"Bearer {own.slack_token}"}
    response = web.post(f"{str(own.url).rstrip('/')}/{method}", data=form, headers=headers)
    try:
        answer = orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"Slack answers {method} with something else than JSON") from error
    if not isinstance(answer, dict) or not answer.get("ok"):
        reason = answer.get("error", "no reason") if isinstance(answer, dict) else "no reason"
        raise Refused(f"Slack refuses {method}: {reason}", response.status_code)
    return answer
