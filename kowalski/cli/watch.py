"""``watch``: look elsewhere for what the archive should have, as a service or once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kowalski.cli.console import complain, output, settings

if TYPE_CHECKING:
    from kowalski.config import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(watch)


def watch(
    name: Annotated[str, typer.Argument(help="tns, ztf_ops, ztf_alerts …: the keys of `watchers` in the settings.")],
    once: Annotated[bool, typer.Option("--once", help="Look once; exit status 1 if something was not taken.")] = False,
    links: Annotated[bool, typer.Option("--list", help="Write what there is as CSV, and fetch nothing.")] = False,
    first_night: Annotated[str | None, typer.Option(help="YYYYMMDD: only files from this night on.")] = None,
    last_night: Annotated[str | None, typer.Option(help="YYYYMMDD: only files up to this night.")] = None,
) -> None:
    """Watch one source; `up` runs all that are configured. Names and settings: docs/watchers.md."""
    from kowalski.runtime import logs
    from kowalski.watchers import service

    current = settings()
    logs.configure(current)
    _choose_nights(current, name, first_night, last_night)
    if links:
        _list(current, name)
        return
    outcome = service.main(current, name, once=once)
    if outcome is None:
        return
    output().print(f"{name}: {outcome.summary}", markup=False)
    for what, reason in outcome.rejected.items():
        complain(f"{what}: {reason}")
    raise typer.Exit(1 if outcome.rejected else 0)


def _choose_nights(current: Settings, name: str, first: str | None, last: str | None) -> None:
    from kowalski.config import ConfigError
    from kowalski.config.watchers import Files
    from kowalski.watchers.kinds import settings_of

    given = {key: value for key, value in (("first_night", first), ("last_night", last)) if value is not None}
    if not given:
        return
    found, own = settings_of(current.watchers, name)
    if not isinstance(own, Files) or "(?P<date>" not in own.pattern:
        raise ConfigError(f"{found} has no files of nights to choose from")
    for value in given.values():
        if len(value) != 8 or not value.isdecimal():
            raise ConfigError(f"{value} is no night; write it as YYYYMMDD, e.g. 20231012")
    setattr(current.watchers, found, own.model_copy(update=given))


def _list(current: Settings, name: str) -> None:
    import time

    from kowalski.config import ConfigError
    from kowalski.config.watchers import Files
    from kowalski.watchers.kinds import settings_of
    from kowalski.watchers.listings import listing
    from kowalski.watchers.web import client_of

    found, own = settings_of(current.watchers, name)
    if not isinstance(own, Files):
        raise ConfigError(f"{found} has no files to list")
    with client_of(current.watchers, own, time.sleep) as web:
        typer.echo("name,url,md5")
        for remote in listing(web, own):
            typer.echo(f"{remote.name},{remote.url},{remote.md5 or ''}")
