"""The client against the fake SkyPortal, and against servers that are none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web

from kowalski.config.outlets import SkyPortal as SkyPortalSettings
from kowalski.config.settings import Settings
from kowalski.courier.errors import AlreadyThere, Refused, TryAgain
from kowalski.skyportal.client import SkyPortal
from kowalski.skyportal.payloads import (
    AnnotationPost,
    AnnotationPut,
    CandidatePost,
    CommentPost,
    FollowupPost,
    FollowupPut,
    SourcePost,
)
from kowalski.testing import services
from kowalski.testing.skyportal import Fault

MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
Serve = Callable[[Callable[[web.Request], Awaitable[web.StreamResponse]]], Awaitable[SkyPortal]]


def candidate(*filters: int, object_id: str = "A/1") -> CandidatePost:
    facts: dict[str, Any] = {"ra": 1.0, "dec": 2.0, "score": 0.5, "passing_alert_id": 1, "passed_at": MOMENT}
    return CandidatePost(id=object_id, filter_ids=list(filters), **facts)


async def test_looking_up(skyportal: SkyPortal) -> None:
    assert [each.id for each in await skyportal.instruments("ZTF")] == [1]
    assert "ZTF Public" in [each.name for each in await skyportal.streams()]
    group = await skyportal.group(7)
    assert group.shown == "group 7"
    assert not await skyportal.knows("A/1")


async def test_candidate_and_its_repetition(skyportal: SkyPortal, fake: Any) -> None:
    await skyportal.post_candidate(candidate(1, 2))
    assert await skyportal.knows("A/1")
    with pytest.raises(AlreadyThere, match="candidates_main_index"):
        await skyportal.post_candidate(candidate(2, 3))
    assert [each["filter_id"] for each in fake.memory.candidates] == [1, 2]


async def test_annotations(skyportal: SkyPortal) -> None:
    await skyportal.post_candidate(candidate(1))
    content: dict[str, Any] = {"obj_id": "A/1", "origin": "g:f", "data": {"x": 1}, "group_ids": [1]}
    await skyportal.post_annotation(AnnotationPost(**content))
    (there,) = await skyportal.annotations("A/1")
    await skyportal.put_annotation(there.id, AnnotationPut(author_id=there.author_id, **content))
    with pytest.raises(AlreadyThere):
        await skyportal.post_annotation(AnnotationPost(**content))


def followup(**changes: Any) -> FollowupPost:
    conditions = dict.fromkeys(
        ("not_if_classified", "not_if_spectra_exist", "not_if_tns_classified", "not_if_duplicates"), True
    )
    facts: dict[str, Any] = {"obj_id": "A/1", "allocation_id": 5, "target_group_ids": [1], "source_group_ids": [1]}
    return FollowupPost(**(facts | {"payload": {"priority": 2}, "radius": 0.5} | conditions | changes))


async def test_sources_and_comments(skyportal: SkyPortal) -> None:
    await skyportal.post_candidate(candidate(1))
    assert await skyportal.source_groups("A/1") == []
    saved = await skyportal.post_source(SourcePost(id="A/1", group_ids=[1, 2], saver_per_group_id={"2": 5}))
    assert saved.saved_to_groups == [1, 2]
    assert [group.id for group in await skyportal.source_groups("A/1")] == [1, 2]
    assert await skyportal.comments("A/1") == []
    await skyportal.post_comment("A/1", CommentPost(text="young", group_ids=[1]))
    (comment,) = await skyportal.comments("A/1")
    assert (comment.text, [group.id for group in comment.groups]) == ("young", [1])


async def test_follow_up_requests(skyportal: SkyPortal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kowalski.skyportal.client.PAGE", 2)
    for name in ("A/1", "A/10"):  # sourceID finds both
        await skyportal.post_candidate(candidate(1, object_id=name))
        await skyportal.post_source(SourcePost(id=name, group_ids=[1]))
        for allocation in (5, 6, 7):
            far = {"obj_id": name, "allocation_id": allocation, "not_if_duplicates": False}
            assert not (await skyportal.post_followup(followup(**far))).ignored
    found = await skyportal.followup_requests("A/1")
    assert [(one.obj_id, one.allocation_id, one.status) for one in found] == [
        ("A/1", allocation, "submitted") for allocation in (5, 6, 7)
    ]
    again = await skyportal.post_followup(followup())
    assert (again.id, again.ignored) == (None, True)
    assert "already" in (again.message or "")
    change = FollowupPut(obj_id="A/1", allocation_id=5, payload={"priority": 4})
    await skyportal.put_followup(found[0].id, change)
    assert (await skyportal.followup_requests("A/1"))[0].payload == {"priority": 4}


@pytest.mark.parametrize("status", [401, 405, 408, 425, 429, 502, 503, 504])
async def test_answers_that_mean_skyportal_is_away(skyportal: SkyPortal, fake: Any, status: int) -> None:
    fake.fail(Fault(status=status))
    with pytest.raises(TryAgain, match=f"GET /api/streams: {status}") as caught:
        await skyportal.streams()
    assert caught.value.away


@pytest.mark.parametrize("status", [500, 507])
async def test_answers_that_may_be_the_calls_own_trouble(skyportal: SkyPortal, fake: Any, status: int) -> None:
    fake.fail(Fault(status=status))
    with pytest.raises(TryAgain) as caught:
        await skyportal.streams()
    assert not caught.value.away


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 422])
async def test_answers_that_are_final(skyportal: SkyPortal, fake: Any, status: int) -> None:
    fake.fail(Fault(status=status))
    with pytest.raises(Refused, match=str(status)) as caught:
        await skyportal.streams()
    assert not isinstance(caught.value, AlreadyThere)


@pytest.mark.parametrize("status", [401, 500, 503])
async def test_not_knowing_is_not_absence(skyportal: SkyPortal, fake: Any, status: int) -> None:
    fake.fail(Fault(method="HEAD", status=status))
    with pytest.raises(TryAgain):
        await skyportal.knows("A/1")


async def test_a_lost_answer(skyportal: SkyPortal, fake: Any) -> None:
    fake.fail(Fault(method="POST", drop=True, times=1))
    with pytest.raises(TryAgain) as caught:
        await skyportal.post_candidate(candidate(1))
    assert caught.value.away
    with pytest.raises(AlreadyThere):
        await skyportal.post_candidate(candidate(1))


async def test_nobody_listens(settings: Settings, skyportal: SkyPortal, fake: Any) -> None:
    await fake.stop()
    with pytest.raises(TryAgain) as caught:
        await skyportal.streams()
    assert caught.value.away
    assert not caught.value.lost


@pytest.mark.parametrize(
    ("fault", "lost"),
    [
        (Fault(drop=True), True),
        (Fault(status=500), True),
        (Fault(status=502), True),
        (Fault(status=429), False),
        (Fault(status=401), False),
    ],
)
async def test_whether_a_call_may_have_had_its_effect(
    skyportal: SkyPortal, fake: Any, fault: Fault, lost: bool
) -> None:
    fake.fail(fault)
    with pytest.raises(TryAgain) as caught:
        await skyportal.post_comment("A/1", CommentPost(text="x", group_ids=[1]))
    assert caught.value.lost is lost


async def test_a_slow_answer(settings: Settings, fake: Any) -> None:
    settings.skyportal.timeout_seconds = 0.1
    fake.fail(Fault(delay=5.0))
    client = SkyPortal(settings.skyportal)
    with pytest.raises(TryAgain):
        await client.streams()
    await client.aclose()


async def test_the_token_is_sent(settings: Settings, fake: Any) -> None:
    settings.skyportal.token = "wrong"
    client = SkyPortal(settings.skyportal)
    with pytest.raises(TryAgain, match="Token"):
        await client.streams()
    await client.aclose()


async def test_retry_after_in_seconds(skyportal: SkyPortal, fake: Any) -> None:
    fake.fail(Fault(status=429, retry_after=7))
    with pytest.raises(TryAgain) as caught:
        await skyportal.streams()
    assert caught.value.pause == 7.0


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Answer every call by a handler of the test's own."""
    runners, clients = [], []

    async def start(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> SkyPortal:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        (port,) = services.free_ports(1)
        await web.TCPSite(runner, "127.0.0.1", port).start()
        runners.append(runner)
        clients.append(SkyPortal(SkyPortalSettings(host="127.0.0.1", port=port, token="secret")))
        return clients[-1]

    yield start
    for client in clients:
        await client.aclose()
    for runner in runners:
        await runner.cleanup()


async def test_headers(serve: Serve) -> None:
    seen: dict[str, str] = {}

    async def handler(request: web.Request) -> web.Response:
        seen.update(request.headers)
        return web.json_response({"status": "success", "data": []})

    client = await serve(handler)
    await client.streams()
    assert seen["Authorization"] == "token secret"
    assert seen["User-Agent"].startswith("Kowalski 4.")


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, "<html>Welcome</html>", {}),
        (200, "[]", {}),
        (200, '{"status": "success", "data": [{"name": "no id"}]}', {}),
        (302, "", {"Location": "/login"}),
    ],
)
async def test_something_else_answers(serve: Serve, status: int, body: str, headers: dict[str, str]) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, text=body, headers=headers)

    with pytest.raises(TryAgain) as caught:
        await (await serve(handler)).streams()
    assert caught.value.away


async def test_an_error_with_status_200_is_one(serve: Serve) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"status": "error", "message": "no such stream"})

    with pytest.raises(Refused, match="no such stream"):
        await (await serve(handler)).streams()


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        (format_datetime(datetime.now(UTC) + timedelta(hours=9)), 3600.0, 3600.0),
        (format_datetime(datetime.now(UTC) - timedelta(hours=9), usegmt=True), 0.0, 0.0),
        ("99999", 3600.0, 3600.0),
        ("soon", None, None),
    ],
    ids=["a later date", "a past date", "seconds", "nonsense"],
)
async def test_retry_after_is_a_date_or_nonsense(
    serve: Serve, text: str, low: float | None, high: float | None
) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": text})

    with pytest.raises(TryAgain) as caught:
        await (await serve(handler)).streams()
    pause = caught.value.pause
    assert pause is None if low is None or high is None else pause is not None and low <= pause <= high
