"""``/api/triggers``: requests for targets of opportunity; for administrators.

Names with ``.test`` at their end answer like an observatory and ask none.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

from aiohttp import web

from kowalski.api import answers, bodies, services, triggers
from kowalski.api.context import USER
from kowalski.api.errors import ConflictError, InvalidRequestError, NotFoundError
from kowalski.api.models import triggers as models
from kowalski.api.models.triggers import TriggerBody
from kowalski.api.routes import Access, Route
from kowalski.api.triggers import Answer, ObservatoryError
from kowalski.config.serving import Telescope

MODELS: dict[tuple[str, Literal["queue", "skymap"]], type[TriggerBody]] = {
    ("PUT", "queue"): models.Queue,
    ("GET", "queue"): models.QueueSelection,
    ("DELETE", "queue"): models.QueueName,
    ("PUT", "skymap"): models.Fields,
    ("GET", "skymap"): models.FieldsSelection,
    ("DELETE", "skymap"): models.FieldsName,
}

log = logging.getLogger(__name__)


async def submit(request: web.Request) -> web.Response:
    """Hand a request on."""
    body = await _body(request)
    answer = await _ask(request, body)
    if answer.status == 200:
        raise ConflictError(f"{body.name_field} {getattr(body, body.name_field)} already exists")
    if answer.status != 201:
        raise _unexpected(answer)
    return answers.success("submitted", answer.headers)


async def withdraw(request: web.Request) -> web.Response:
    """Delete a request."""
    answer = await _ask(request, await _body(request))
    if answer.status != 200:
        raise _unexpected(answer)
    return answers.success("deleted")


async def show(request: web.Request) -> web.Response:
    """Show requests."""
    answer = await _ask(request, await _body(request))
    if answer.status != 200:
        raise _unexpected(answer)
    return answers.success("retrieved", answer.json)


async def submit_test(request: web.Request) -> web.Response:
    """Check a request and hand it to nobody."""
    await _body(request)
    return answers.success("submitted")


async def withdraw_test(request: web.Request) -> web.Response:
    """Check a deletion and hand it to nobody."""
    await _body(request)
    return answers.success("deleted")


async def show_test(request: web.Request) -> web.Response:
    """Show a request that nobody has made."""
    body = await _body(request)
    return answers.success("submitted", [{body.name_field: "test"}])


def _telescope(request: web.Request) -> Telescope:
    name, known = request.match_info["telescope"], services.of(request).settings.triggers.telescopes
    if name not in known:
        raise NotFoundError(f"there is no telescope {name}; known: {', '.join(known)}")
    return known[name]


async def _body(request: web.Request) -> TriggerBody:
    """Read the body; to show requests, the query string will do."""
    model = MODELS[request.method, _telescope(request).kind]
    if request.method != "GET":
        return await bodies.read(request, model)
    if await request.read():
        try:
            return await bodies.read(request, model)
        except InvalidRequestError:
            log.debug("a body that is no selection; the query string is taken")
    return bodies.read_query(request, model)


async def _ask(request: web.Request, body: TriggerBody) -> Answer:
    telescope, settings = _telescope(request), services.of(request).settings.triggers
    name = request.match_info["telescope"]
    if telescope.url is None:
        raise ObservatoryError(f"no server is configured for {name}: set triggers.telescopes.{name}.url")
    sent = body.model_dump(mode="json", exclude_none=True)
    answer = await triggers.ask(request.method, telescope.url, sent, settings.timeout_seconds)
    log.info("%s %s by %s: %d", request.method, name, request[USER].name, answer.status)
    return answer


def _unexpected(answer: Answer) -> ObservatoryError:
    text = " ".join(answer.content[:300].decode(errors="replace").split())
    return ObservatoryError(f"the observatory has answered with {answer.status}: {text}")


WHERE = "/api/triggers/{telescope:[a-z0-9_-]+}"
TELESCOPE = {"telescope": {"type": "string", "description": "A name in `triggers.telescopes` of the configuration."}}
REFUSED = {404: "there is no such telescope"}
QUEUE: dict[str, Any] = {
    "queue_name": "ToO_S230623ai",
    "validity_window_mjd": [60118.1, 60118.4],
    "targets": [{"request_id": 1, "field_id": 600, "filter_id": 1, "exposure_time": 300}],
    "queue_type": "list",
    "user": "provider",
}
FIELDS: dict[str, Any] = {
    "trigger_name": "S230623ai",
    "trigger_time": 60118.65,
    "fields": [{"field_id": 600, "probability": 0.1}],
    "user": "provider",
}


def _routes(path: str, handlers: tuple[Any, Any, Any], note: str) -> tuple[Route, ...]:
    put, get, delete = handlers
    common: dict[str, Any] = {
        "access": Access.ADMIN,
        "tag": "triggers",
        "description": note,
        "parameters": TELESCOPE,
        "response": models.TriggerAnswer,
    }
    return (
        Route(
            "PUT",
            path,
            put,
            summary="Ask for observations",
            request=models.NewTrigger,
            errors={409: "there is a request of that name", **REFUSED},
            examples={"queue": QUEUE, "fields": FIELDS},
            **common,
        ),
        Route(
            "GET",
            path,
            get,
            summary="Show requests for observations",
            query=models.TriggerSelection,
            errors={400: "the observatory can't be asked", **REFUSED},
            **common,
        ),
        Route(
            "DELETE",
            path,
            delete,
            summary="Withdraw a request for observations",
            request=models.OldTrigger,
            errors=REFUSED,
            examples={
                "queue": {"queue_name": QUEUE["queue_name"], "user": "provider"},
                "fields": {"trigger_name": FIELDS["trigger_name"], "user": "provider"},
            },
            **common,
        ),
    )


ROUTES = (
    *_routes(WHERE, (submit, show, withdraw), "What is sent is handed on to the telescope's server."),
    *_routes(f"{WHERE}.test", (submit_test, show_test, withdraw_test), "Nothing is handed on: for trying clients."),
)
