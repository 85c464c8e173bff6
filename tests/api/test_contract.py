"""What clients rely on: the routes with their methods, statuses and envelopes, and everything that must stay as it is.

A running server is asked by plain HTTP, as any client would do it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt
import pytest
from bson import json_util

CANDID = 1105522281015015000
PUBLIC, USER, ADMIN = "public", "user", "admin"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")

ROUTES = {
    "/": {"GET": USER},
    "/api/auth": {"POST": PUBLIC},
    "/api/users": {"GET": ADMIN, "POST": ADMIN},
    "/api/users/somebody": {"PUT": ADMIN, "DELETE": ADMIN},
    "/api/queries": {"POST": USER},
    "/api/queries/crossmatch": {"POST": USER},
    "/api/filters": {"POST": ADMIN, "PATCH": ADMIN},
    "/api/filters/123": {"GET": ADMIN, "DELETE": ADMIN},
    "/api/filters/123/test": {"POST": ADMIN},
    "/api/filters/123/dryrun": {"POST": ADMIN},
    "/api/filters/123/statistics": {"GET": ADMIN},
    "/api/skymap": {"PUT": USER, "GET": USER, "DELETE": USER},
    "/api/cutouts/ztf/1105522281015015000/science/png": {"GET": USER},
    "/lab/ztf-alerts/1105522281015015000/cutout/science/png": {"GET": USER},
    "/api/classifications/ztf": {"PUT": USER, "DELETE": USER},
    "/api/classifications/ztf/1105522281015015000": {"GET": USER},
    "/api/triggers/ztf": {"PUT": ADMIN, "GET": ADMIN, "DELETE": ADMIN},
    "/api/triggers/ztf.test": {"PUT": ADMIN, "GET": ADMIN, "DELETE": ADMIN},
    "/status/": {"GET": PUBLIC},
    "/docs/api/": {"GET": PUBLIC},
    "/docs/api/swagger.json": {"GET": PUBLIC},
    "/docs/api/static/swagger-ui.css": {"GET": PUBLIC},
    "/healthz": {"GET": PUBLIC},
    "/readyz": {"GET": PUBLIC},
    "/metrics": {"GET": PUBLIC},
}
ALSO = {
    "/api/triggers/ztfmma": {"PUT": ADMIN, "GET": ADMIN, "DELETE": ADMIN},
    "/api/triggers/ztfmma.test": {"PUT": ADMIN, "GET": ADMIN, "DELETE": ADMIN},
    "/api/cutouts/wntr/1/difference/fits": {"GET": USER},
}
"""Other values of parameters that clients use."""
EACH = [(method, path, who) for path, methods in (ROUTES | ALSO).items() for method, who in methods.items()]


@pytest.fixture(scope="module")
def nobody(served: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def admin(served: Any) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


@pytest.fixture(scope="module")
def user(served: Any, admin: httpx.Client) -> Iterator[httpx.Client]:
    assert admin.post("/api/users", json={"username": "vera", "password": "rubin"}).status_code == 200
    with served.client("vera", "rubin") as client:
        yield client


def error(answer: httpx.Response, status: int) -> str:
    """Check that an answer is an error as all errors are, and give its message."""
    content = answer.json()
    assert (answer.status_code, content["status"]) == (status, "error"), answer.text
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert content["request_id"] == answer.headers["X-Request-ID"]
    return str(content["message"])


def query(client: httpx.Client, kind: Any, what: Any, **kwargs: Any) -> Any:
    """Send a query and decode the whole answer as clients do."""
    answer = client.post("/api/queries", json={"query_type": kind, "query": what, "kwargs": kwargs})
    content = json_util.loads(answer.text)
    assert isinstance(content, dict)
    return content


# Routes, and who may use them


def test_every_route_is_in_this_table(nobody: httpx.Client) -> None:
    paths = nobody.get("/docs/api/swagger.json").json()["paths"]
    known = {(method, path) for path, methods in ROUTES.items() for method in methods}
    for path, methods in paths.items():
        filled = path
        for name, value in NAMES.items():
            filled = filled.replace(f"{{{name}}}", value)
        for method in methods:
            assert (method.upper(), filled) in known, f"{method} {path}"
            known.remove((method.upper(), filled))
    assert not known


NAMES = {
    "username": "somebody",
    "filter_id": "123",
    "name": "swagger-ui.css",
    "survey": "ztf",
    "candid": str(CANDID),
    "cutout": "science",
    "file_format": "png",
    "telescope": "ztf",
}


@pytest.mark.parametrize(("method", "path", "who"), EACH, ids=lambda value: value)
def test_who_may(nobody: httpx.Client, user: httpx.Client, method: str, path: str, who: str) -> None:
    without = nobody.request(method, path)
    if who == PUBLIC:
        assert without.status_code not in (401, 403, 404, 405, 500)
        return
    assert error(without, 401) == "Unauthorized"
    assert without.headers["WWW-Authenticate"] == "Bearer"
    if who == ADMIN:
        assert error(user.request(method, path), 403) == "Forbidden"
    else:
        assert user.request(method, path).status_code not in (401, 403, 405, 500)


@pytest.mark.parametrize("path", ROUTES | ALSO)
def test_another_method_is_refused_with_those_there_are(admin: httpx.Client, path: str) -> None:
    for method in set(METHODS) - set((ROUTES | ALSO)[path]):
        answer = admin.request(method, path)
        assert answer.status_code == 405, method
        assert set(answer.headers["Allow"].split(",")) == set((ROUTES | ALSO)[path])
        if method != "HEAD":
            assert error(answer, 405) == "Method Not Allowed"


# Statuses


@pytest.mark.filterwarnings("ignore:The HMAC key")  # of the algorithm that is refused
def test_what_is_wrong_with_a_token_is_never_a_server_error(served: Any, nobody: httpx.Client) -> None:
    key = served.settings.server.jwt_secret_key
    claims = jwt.decode(served.token(), options={"verify_signature": False})
    wrong = {
        "": (401, "Unauthorized"),
        "Bearer": (401, "Unauthorized"),
        "no_token": (400, "token is invalid"),
        "Bearer no_token": (400, "token is invalid"),
        "a.b.c": (400, "token is invalid"),
        "é": (400, "token is invalid"),
        "x" * 60000: (400, "token is invalid"),
        jwt.encode(claims, "another key of thirty-two letters"): (400, "token is invalid"),
        jwt.encode(claims, key, "HS512"): (400, "token is invalid"),
        jwt.encode(claims, None, "none"): (400, "token is invalid"),
        jwt.encode({}, key): (400, "token is invalid"),
        jwt.encode({"user_id": ["admin"]}, key): (400, "token is invalid"),
        jwt.encode({"user_id": "admin", "exp": 1}, key): (400, "token has expired"),
        jwt.encode({"user_id": "admin", "exp": "never"}, key): (400, "token is invalid"),
        jwt.encode({"user_id": "nobody"}, key): (401, "Unauthorized"),
        jwt.encode({**claims, "stamp": "another"}, key): (401, "Unauthorized"),
        jwt.encode({"user_id": "admin"}, key): (401, "Unauthorized"),  # as systems without stamps made it
    }
    assert nobody.get("/", headers={"Authorization": jwt.encode(claims, key)}).status_code == 200
    for path, method in (("/", "GET"), ("/api/queries", "POST")):
        for token, (status, message) in wrong.items():
            answer = nobody.request(method, path, headers={"Authorization": token.encode("latin-1")})  # type: ignore[dict-item]
            assert error(answer, status) == message, token


def test_paths_that_are_none(nobody: httpx.Client) -> None:
    for path in ("/nowhere", "/api/filters/one", "/api/filters/-1", "/api", "/api/queries/", "/%00"):
        assert error(nobody.get(path), 404) == "Not Found"


def test_a_body_that_is_too_large(served: Any, admin: httpx.Client) -> None:
    body = b'{"query_type": "' + b"x" * served.settings.server.client_max_size + b'"}'
    answer = admin.post("/api/queries", content=body)
    error(answer, 413)
    assert "Retry-After" not in answer.headers  # penquins would send it again


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "3", "\udcff", '{"a": ' + "[" * 5000])
@pytest.mark.parametrize(("method", "path"), [(m, p) for m, p, _ in EACH if m in ("POST", "PUT", "PATCH")])
def test_a_body_that_is_none(admin: httpx.Client, method: str, path: str, body: str) -> None:
    answer = admin.request(method, path, content=body.encode(errors="surrogateescape"))
    assert error(answer, 400).startswith("ValidationError: ")


# What must stay as it is


def test_1_every_version_of_penquins_logs_in(nobody: httpx.Client) -> None:
    login = {"username": "admin", "password": "admin"}
    for version in ("2.0.0", "2.2.1", "2.4.2", "9.9.9", None):
        answer = nobody.post("/api/auth", json={**login, **({"penquins.__version__": version} if version else {})})
        assert answer.status_code == 200
        assert set(answer.json()) == {"status", "token"}
        assert answer.json()["status"] == "success"
    for missing in login:
        refused = nobody.post("/api/auth", json={**login, missing: ""})
        assert error(refused, 400) == f"ValidationError: missing {missing}"
    for wrong in ({"password": "no"}, {"username": "nobody"}):  # they look alike
        assert error(nobody.post("/api/auth", json={**login, **wrong}), 401) == "Unauthorized"


def test_2_bare_and_bearer_tokens(served: Any, nobody: httpx.Client) -> None:
    token = served.token()
    for header in (token, f"Bearer {token}", f"bearer {token}", f"BEARER   {token}"):
        assert nobody.get("/", headers={"Authorization": header}).status_code == 200


def test_3_the_ping(user: httpx.Client, nobody: httpx.Client) -> None:
    answer = user.get("/")
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "success", "message": "greetings from Kowalski!"},
    )
    assert nobody.get("/").status_code != 200
    assert nobody.get("/", headers={"Authorization": "no_token"}).status_code != 200


def test_4_queries_always_answer_with_an_object(user: httpx.Client) -> None:
    good = {"catalog": "ZTF_alerts", "filter": {}}
    for kind, what in (
        ("find", good),
        ("find", {**good, "filter": {"$where": "1"}}),
        ("find", {"catalog": "users", "filter": {}}),
        ("drop", {"catalog": "ZTF_alerts"}),
        ("nothing", None),
        (None, good),
        ("find", "ZTF_alerts"),
        ("info", {"command": "catalog_names"}),
        ("count_documents", good),
        ("find", {**good, "filter": {"candidate.drb": {"$gt": float("inf")}}}),
    ):
        text = json.dumps({"query_type": kind, "query": what})  # writes Infinity, as Python clients do
        answer = user.post("/api/queries", content=text)
        assert isinstance(json_util.loads(answer.text), dict)
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.json()["status"] == ("success" if answer.status_code == 200 else "error")


def test_5_catalog_names(user: httpx.Client, admin: httpx.Client) -> None:
    for client in (user, admin):
        names = query(client, "info", {"command": "catalog_names"})["data"]
        assert {"ZTF_alerts", "Gaia_EDR3"} <= set(names)
        assert not {"users", "filters", "logins", "counts", "audit", "outbox", "dead_letters"} & set(names)
        assert not [name for name in names if name.startswith("system.")]


def test_6_what_would_only_come_again_is_no_status_that_penquins_repeats(
    admin: httpx.Client, user: httpx.Client
) -> None:
    good = {"catalog": "ZTF_alerts", "filter": {}}
    requests = [
        ("POST", "/api/users", {"username": "vera", "password": "another"}),
        ("PUT", "/api/users/nobody", {"password": "x"}),
        ("DELETE", "/api/users/nobody", None),
        ("PATCH", "/api/filters", {"filter_id": 999, "active": True}),
        ("DELETE", "/api/filters/999", None),
        ("POST", "/api/filters/999/test", {"object_ids": ["ZTF23aaaaaa1"]}),
        ("GET", "/api/skymap", None),
        ("DELETE", "/api/skymap", {"localization_name": "x", "dateobs": "2023-06-23T15:42:26"}),
        *(
            ("POST", "/api/queries", {"query_type": kind, "query": what})
            for kind, what in (
                ("find", {**good, "filter": {"$nonsense": 1}}),
                ("find", {**good, "projection": {"a": 1, "b": 0}}),
                ("aggregate", {"catalog": "ZTF_alerts", "pipeline": [{"$out": "x"}]}),
                ("aggregate", {"catalog": "ZTF_alerts", "pipeline": [{"$project": {"x": {"$divide": [1, 0]}}}]}),
                ("near", {"radec": [[500, 100]], "catalogs": {"ZTF_alerts": {}}}),
                ("skymap", {**good, "skymap": {"localization_name": "none", "trigger_id": 1}}),
            )
        ),
    ]
    for method, path, body in requests:
        answer = admin.request(method, path, json=body)
        assert error(answer, answer.status_code), (method, path, body)
        assert 400 <= answer.status_code < 500, (method, path, body)
        assert answer.status_code not in (405, 413, 429), (method, path, body)
        assert "Retry-After" not in answer.headers


def test_7_unknown_options_are_ignored(user: httpx.Client) -> None:
    what = {"catalog": "ZTF_alerts", "filter": {"candid": CANDID}, "projection": {"candid": 1}, "kwargs": {"limit": 0}}
    answer = query(user, "find", what, save=False, _id="a" * 32, filter_first=True, comment={"$": 1}, limit=1)
    assert answer["data"] == [{"_id": CANDID, "candid": CANDID}]


def test_8_every_object_has_a_list(user: httpx.Client) -> None:
    catalogs = {"ZTF_alerts": {"projection": {"_id": 1}}, "Gaia_EDR3": {}, "nowhere": {"filter": {"a": 1}}}
    radec = {"one.dot": [150.0, 20.0], "none": [10.0, -60.0]}
    cone = {"radec": radec, "cone_search_radius": "2", "cone_search_unit": "arcsec"}
    found = query(user, "cone_search", {"object_coordinates": cone, "catalogs": catalogs})["data"]
    assert found["ZTF_alerts"] == {"one_dot": [{"_id": CANDID}], "none": []}
    assert [source["_id"] for source in found["Gaia_EDR3"]["one_dot"]] == [0]
    assert found["nowhere"] == {"one_dot": [], "none": []}
    near = query(user, "near", {"radec": radec, "catalogs": {"ZTF_alerts": {}}})["data"]
    assert {name: len(sources) for name, sources in near["ZTF_alerts"].items()} == {"one_dot": 1, "none": 0}


@pytest.mark.parametrize(
    ("radec", "name"),
    [
        ({"a": [150.0, 20.0]}, "a"),
        ([[150.0, 20.0]], "[150_0, 20_0]"),
        ("[(150.0, 20.0)]", "(150_0, 20_0)"),
        ("{'n': (150.0, 20.0)}", "n"),
        ("150.0 20.0", "(150_0, 20_0)"),
        ("10:00:00.00 +20:00:00.0", "('10:00:00_00', '+20:00:00_0')"),
        ("10h00m00.0s +20d00m00.0s", "('10h00m00_0s', '+20d00m00_0s')"),
        ({"a": ["10:00:00", "20:00:00"]}, "a"),
        ({"a": ["150.0", 20.0]}, "a"),
    ],
)
def test_9_every_form_of_positions(user: httpx.Client, radec: Any, name: str) -> None:
    cone = {"radec": radec, "cone_search_radius": 2, "cone_search_unit": "arcsec"}
    what = {"object_coordinates": cone, "catalogs": {"ZTF_alerts": "{'projection': {'_id': 1}}"}}
    what["catalogs"] = {"ZTF_alerts": {"filter": "{}", "projection": "{'_id': 1}"}}
    assert query(user, "cone_search", what)["data"] == {"ZTF_alerts": {name: [{"_id": CANDID}]}}


def test_9_python_literals(user: httpx.Client) -> None:
    found = query(user, "find", {"catalog": "ZTF_alerts", "filter": f"{{'candid': {CANDID}, 'gone': None}}"})
    assert [alert["candid"] for alert in found["data"]] == [CANDID]
    pipeline = f"[{{'$match': {{'candid': {CANDID}}}}}, {{'$project': {{'_id': False, 'candid': True}}}}]"
    assert query(user, "aggregate", {"catalog": "ZTF_alerts", "pipeline": pipeline})["data"] == [{"candid": CANDID}]


def test_10_messages_and_kinds_of_data(user: httpx.Client, admin: httpx.Client) -> None:
    good = {"catalog": "ZTF_alerts", "filter": {}}
    for kind, expected in (("find", list), ("find_one", dict), ("count_documents", int)):
        answer = query(user, kind, good)
        assert answer["message"] == "Successfully executed query"
        assert isinstance(answer["data"], expected)
    assert query(user, "estimated_document_count", {"catalog": "ZTF_alerts"})["data"] == 10
    assert "data" not in query(user, "find_one", {**good, "filter": {"candid": 1}})
    localization = {"dateobs": "2023-06-23T15:42:26", "skymap": {"ra": 90, "dec": 30, "error": 10}, "contours": [90]}
    assert user.put("/api/skymap", json=localization).status_code in (200, 409)
    named = {"localization_name": "90.00000_30.00000_10.00000", "dateobs": "2023-06-23T15:42:26", "contour": 20}
    answer = query(user, "skymap", {**good, "skymap": named})
    assert answer["message"] == "ValueError: Contour level 20 not found in skymap"


def test_11_filters(admin: httpx.Client) -> None:
    body = {
        "group_id": 1,
        "filter_id": 11,
        "catalog": "ZTF_alerts",
        "permissions": [1],
        "pipeline": [{"$match": {"candidate.drb": {"$gt": 0.5}}}],
    }
    saved = json_util.loads(admin.post("/api/filters", json=body).text)
    assert {"fid", "pipeline", "created_at"} <= set(saved["data"])
    for answer in (
        admin.get("/api/filters/11"),
        admin.patch("/api/filters", json={"filter_id": 11, "update_annotations": True}),
    ):
        found = json_util.loads(answer.text)["data"]
        assert {"_id", "active_fid", "autosave", "update_annotations", "auto_followup"} <= set(found)
        assert found["active_fid"] == saved["data"]["fid"]
    assert admin.get("/api/filters/11").json()["message"] == "Retrieved filter id 11"
    assert admin.delete("/api/filters/11").json()["message"] == "Removed filter id 11"
    assert error(admin.get("/api/filters/11"), 400) == "Filter id 11 not found"


def test_12_localizations(user: httpx.Client) -> None:
    event = {"dateobs": "2024-01-02T03:04:05"}
    body = {**event, "skymap": {"ra": 10, "dec": 20, "error": 1}, "contours": [90]}
    assert user.put("/api/skymap", json=body).json()["status"] == "success"
    again = user.put("/api/skymap", json=body)
    assert (again.status_code, again.json()["status"]) == (409, "already_exists")
    for parameters in ({"contours": 90}, {"contours": [90]}, {"contour": 90}, {}):
        found = user.get("/api/skymap", params={**event, **parameters})
        assert (found.status_code, found.json()["status"]) == (200, "success"), parameters


def test_13_writes_can_be_repeated_after_a_lost_answer(admin: httpx.Client, user: httpx.Client) -> None:
    new = {"username": "henrietta", "password": "leavitt"}
    change = {"password": "swan", "permissions": {"ZTF": [1, 2]}, "username": "henrietta.leavitt"}
    flags = {"filter_id": 13, "active": False}
    version = {
        "group_id": 1,
        "filter_id": 13,
        "catalog": "ZTF_alerts",
        "permissions": [1],
        "pipeline": [{"$match": {"candidate.drb": {"$gt": 0.5}}}],
    }
    for method, path, body in (
        ("POST", "/api/users", new),
        ("PUT", "/api/users/henrietta", change),
        ("POST", "/api/filters", version),
        ("PATCH", "/api/filters", flags),
    ):
        answers = [admin.request(method, path, json=body) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200], (method, path, answers[-1].text)
    versions = json_util.loads(admin.get("/api/filters/13").text)["data"]
    assert versions["active_fid"] == versions["fv"][-1]["fid"]


def test_14_many_requests_over_ten_connections(served: Any, user: httpx.Client) -> None:
    limits = httpx.Limits(max_connections=10, max_keepalive_connections=10)
    with httpx.Client(base_url=served.url, headers=user.headers, limits=limits, timeout=60) as client:

        def find(number: int) -> Any:
            what = {"catalog": "ZTF_alerts", "filter": {"candid": CANDID + number % 10}, "projection": {"candid": 1}}
            answer = client.post("/api/queries", json={"query_type": "find", "query": what})
            assert answer.headers.get("Connection", "keep-alive").lower() == "keep-alive"
            return answer.json()["data"][0]["candid"]

        with ThreadPoolExecutor(10) as threads:
            assert list(threads.map(find, range(60))) == [CANDID + number % 10 for number in range(60)]


def test_15_a_delete_may_have_a_body(user: httpx.Client) -> None:
    body = {"dateobs": "2024-02-03T04:05:06", "skymap": {"ra": 10, "dec": 20, "error": 1}, "contours": [90]}
    saved = user.put("/api/skymap", json=body).json()["data"]
    named = {"localization_name": saved["localization_name"], "dateobs": saved["dateobs"]}
    removed = user.request("DELETE", "/api/skymap", json=named)
    assert (removed.status_code, removed.json()["message"]) == (200, "deleted 1 skymap")
