"""``/status/``: how the instance does, as a page.

Who has not logged in sees surveys and services, users see catalogs as well, and administrators everything. Browsers log
in by a form, and keep the token in a cookie that no script can read, that goes to this page only, and that other sites
can't make them send. Programs may send the token as they do elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

import pymongo
from aiohttp import web
from pymongo.errors import PyMongoError

from kowalski import __version__
from kowalski.api import addresses, pages, services
from kowalski.api.context import ADDRESS
from kowalski.api.errors import ApiError, ForbiddenError, InvalidRequestError, InvalidTokenError, UnauthorizedError
from kowalski.api.routes import Access, Route
from kowalski.archive.users import User

COOKIE = "kowalski_status"
PATH = "/status/"
LOGIN = PATH + "login"
LOGOUT = PATH + "logout"
AWAY = "The database is not available: nobody can be recognized at the moment."
PATIENCE = 2.0
"""Seconds within which the database must tell who looks: the page is wanted most when it does not."""
LONGEST_FORM = 4096
"""Bytes of a name and a password."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks at the page, and what else there is to say about that."""

    user: User | None = None
    is_admin: bool = False
    note: str | None = None


async def show(request: web.Request) -> web.Response:
    """Show the page."""
    work = services.of(request)
    viewer = await _viewer(request)
    if viewer.user is None and not work.settings.status.public:
        return _login_page(request, viewer.note)
    return pages.respond(
        "status.html",
        server=work.settings.server.name,
        version=__version__,
        refresh=work.settings.status.refresh_seconds,
        viewer=viewer,
        overview=await work.overviews.latest(),
    )


async def login_form(request: web.Request) -> web.Response:
    """Show the form."""
    return _login_page(request)


async def log_in(request: web.Request) -> web.Response:
    """Take the form, and send the browser back to the page with a cookie."""
    name, password = await _credentials(request)
    accounts = services.of(request).accounts
    try:
        with pymongo.timeout(PATIENCE):
            token = await accounts.log_in(name, password, request[ADDRESS])
    except UnauthorizedError:
        return _login_page(request, "Name or password is wrong.", 401)
    except PyMongoError:
        return _login_page(request, AWAY, 503)
    except ApiError as error:
        answer = _login_page(request, f"{error}.", error.status)
        answer.headers.update(error.headers)
        return answer
    answer = _to_page()
    # The cookie ends with the browser, if the token has not ended before.
    answer.set_cookie(COOKIE, token, path=PATH, httponly=True, samesite="Strict", secure=_is_secure(request))
    return answer


async def log_out(request: web.Request) -> web.Response:
    """Take the cookie away."""
    _check_origin(request)
    answer = _to_page()
    answer.del_cookie(COOKIE, path=PATH, httponly=True, samesite="Strict", secure=_is_secure(request))
    return answer


async def to_page(request: web.Request) -> web.Response:
    """Send who forgot the slash to the page."""
    return web.Response(status=301, headers={"Location": PATH})


def add_forms(router: web.UrlDispatcher) -> None:
    """Add what belongs to the page for browsers alone; it is no part of the API that is described."""
    router.add_get("/status", to_page, allow_head=False)
    router.add_get(LOGIN, login_form, allow_head=False)
    router.add_post(LOGIN, log_in)
    router.add_post(LOGOUT, log_out)


async def _viewer(request: web.Request) -> Viewer:
    accounts = services.of(request).accounts
    cookie = request.cookies.get(COOKIE)
    if not cookie and "Authorization" not in request.headers:
        return Viewer()
    try:
        with pymongo.timeout(PATIENCE):
            user = await (accounts.owner(cookie) if cookie else accounts.identify(request))
    except (UnauthorizedError, InvalidTokenError):
        return Viewer(note="Your login has ended.")
    except PyMongoError:
        return Viewer(note=AWAY)
    return Viewer(user, accounts.is_admin(user))


def _login_page(request: web.Request, note: str | None = None, status: int = 200) -> web.Response:
    return pages.respond("login.html", status, server=services.of(request).settings.server.name, note=note)


async def _credentials(request: web.Request) -> tuple[str, str]:
    _check_origin(request)
    body = await request.read()
    if request.content_type != "application/x-www-form-urlencoded" or len(body) > LONGEST_FORM:
        raise InvalidRequestError("a form is wanted, with username and password")
    try:
        form = dict(parse_qsl(body.decode(), strict_parsing=True, errors="strict"))
        return form["username"], form["password"]
    except (ValueError, KeyError) as error:
        raise InvalidRequestError("the form must hold username and password") from error


def _check_origin(request: web.Request) -> None:
    """Refuse forms that another site sends: it could log a browser in as somebody else."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.host:
        raise ForbiddenError


def _is_secure(request: web.Request) -> bool:
    """Whether the browser speaks TLS with us or with a proxy of ours, whose word is believed."""
    is_ours = addresses.is_among(request.remote or "", services.of(request).proxies)
    return request.secure or (is_ours and request.headers.get("X-Forwarded-Proto") == "https")


def _to_page() -> web.Response:
    return web.Response(status=303, headers={"Location": PATH})


ROUTES = (
    Route(
        "GET",
        PATH,
        show,
        Access.PUBLIC,
        "service",
        "Show how the instance does as a page",
        "Anybody sees surveys and services (unless `status.public` is false), users see catalogs as well, and "
        "administrators everything. Browsers log in by a form; a token in `Authorization` does, too.",
        produces={"text/html": "The page."},
    ),
)
