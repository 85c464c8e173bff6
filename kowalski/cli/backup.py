"""``backup``: the archive as files, of which only what has changed is written."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from kowalski.cli.console import DocumentsBar, output, settings

if TYPE_CHECKING:
    from kowalski.config import Settings
    from kowalski.dumps.places import Place

Collections = Annotated[
    list[str] | None,
    typer.Option(
        "--collections",
        metavar="NAME[,NAME…]",
        help="Only these, may be repeated; those of the system database as system:NAME.  [default: all of the data]",
    ),
]
To = Annotated[str | None, typer.Option(metavar="DIR|URL", help="Folder, gs://… or s3://…  [default: data/backups]")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(backup)


def backup(
    collections: Collections = None,
    system: Annotated[
        bool, typer.Option("--system", help="Users, filters, outboxes and dead letters, too: keep them as secret.")
    ] = False,
    since: Annotated[
        datetime | None,
        typer.Option(help="Read only alerts observed since then (UTC) and their objects; the rest as it was before."),
    ] = None,
    to: To = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Restore it into a scratch database and compare counts and checksums.")
    ] = False,
    keep: Annotated[int | None, typer.Option(min=1, help="Keep so many of the backups at this place.")] = None,
) -> None:
    """Back up the archive; documents that an earlier backup at the same place has are not written again.

    Every backup is a whole point to restore from, with `seed`.
    """
    from kowalski.dumps import backup as making
    from kowalski.dumps import manifest
    from kowalski.dumps.places import Place

    current = settings()
    place = Place.of(to or str(current.path.data / "backups"))
    names = [name for text in collections or () for name in text.split(",") if name]
    wanted = making.Wanted(names, system, since)
    with DocumentsBar() as bar:
        made = making.make(current, place, wanted, bar)
    console = output()
    console.print(
        f"{made.name}: {made.written.rows:,} documents written ({made.written.size / 1e6:,.1f} MB), "
        f"{made.kept.rows:,} were there already",
        markup=False,
    )
    if verify:
        _verify(current, place, made.name)
    if keep is not None:
        removed, files = manifest.prune(place, keep)
        console.print(f"{removed} older backups removed, with {files} files that no other needs")


def _verify(current: Settings, place: Place, name: str) -> None:
    from kowalski.dumps.verify import verify

    console = output()
    with DocumentsBar() as bar:
        found = list(verify(current, place, name, bar))
    wrong = [(label, trouble) for label, trouble in found if trouble is not None]
    for label, trouble in wrong:
        console.print(f"{label}: {trouble}", markup=False)
    if wrong:
        console.print(f"{len(wrong)} of {len(found)} collections do not come back as they were")
        raise typer.Exit(1)
    console.print(f"verified: {len(found)} collections come back with the same documents and checksums")
