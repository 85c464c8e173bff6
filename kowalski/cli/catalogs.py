"""``catalogs``: what the archive holds beside alerts, and the cells by which alerts are matched with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kowalski.cli.console import errors, output, settings

if TYPE_CHECKING:
    from pymongo.database import Database

    from kowalski.config import Settings

FINEST_ORDER = 29
Name = Annotated[str, typer.Argument(metavar="NAME", help="The catalog, as `list` prints it.")]
Orders = Annotated[
    list[int] | None,
    typer.Option(
        "--order",
        min=0,
        max=FINEST_ORDER,
        help="HEALPix order, may be repeated: 16 serves radii up to 2 arcsec, 14 up to 8, 8 up to 512.  "
        "[default: those that the configured cross-matches need]",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the group of commands."""
    group = typer.Typer(help="Catalogs that alerts are matched with: list, index, drop.", no_args_is_help=True)
    group.command("list")(list_)
    group.command()(index)
    group.command()(drop)
    app.add_typer(group, name="catalogs")


def list_() -> None:
    """List the catalogs of the archive, and those that the configuration names but nobody has ingested."""
    from rich.table import Table

    from kowalski.archive import inventory
    from kowalski.surveys import collections

    current = settings()
    with _data(current) as data:
        entries = inventory.take(data, current.database.xmatch, collections())
    table = Table(
        "catalog", "sources", "HEALPix orders", "indexes", "matched within", "", box=None, header_style="bold"
    )
    for entry in entries:
        table.add_row(
            entry.name,
            "" if entry.rows is None else f"{entry.rows:,}",
            " ".join(map(str, reversed(entry.orders))),
            " ".join(entry.indexes),
            ", ".join(f"{survey} {radius:g}″" for survey, radius in entry.radii.items()),
            entry.problem or "",
        )
    console = output()
    if entries:
        console.print(table)
    console.print(f"{sum(entry.rows is not None for entry in entries)} catalogs in the database {current.database.db}")


def index(name: Name, order: Orders = None) -> None:
    """Give every source of a catalog its HEALPix cells, and the catalog an index on them.

    Alerts are matched with a catalog ten times as fast by cells as by geometry. Sources that were added since the last
    time get theirs when the command is run again. NAME may also be a collection of alerts, of which those that an older
    system has stored have no cells.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from kowalski.archive import inventory
    from kowalski.ingesters.cells import add_cells

    current = settings()
    orders = order or inventory.wanted_orders(current.database.xmatch, name)
    with _data(current) as data:
        _check(data, name, current)
        if not orders:
            raise typer.BadParameter(
                f"no configured cross-match of {name} is served by a standard order; say which ones",
                param_hint="--order",
            )
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=errors()) as bar:
            task = bar.add_task(name, total=data[name].estimated_document_count())
            done = add_cells(data[name], orders, lambda n, total: bar.update(task, completed=n, total=max(n, total)))
    told = " and ".join(map(str, sorted(set(orders), reverse=True)))
    output().print(f"{done:,} sources of {name} carry cells of order {told}", markup=False)


def drop(
    name: Name, yes: Annotated[bool, typer.Option("--yes", help="Don't ask whether that is meant.")] = False
) -> None:
    """Take a catalog out of the archive, with its indexes and what is known of how it was loaded."""
    from kowalski.archive import client, inventory, loads
    from kowalski.surveys import collections

    current = settings()
    with client.connect(current) as connection:
        data = client.data_database(connection, current)
        there = {entry.name: entry.rows for entry in inventory.take(data, {}, collections())}
        if name not in there:
            known = f"there are {', '.join(there)}" if there else "there are none"
            raise typer.BadParameter(f"no catalog {name} in the database {current.database.db}; {known}")
        if not yes:
            typer.confirm(f"Drop {name} with its {there[name]:,} sources?", abort=True, err=True)
        data.drop_collection(name)
        loads.forget(client.system_database(connection, current), name)
    output().print(f"{name} is gone, with {there[name]:,} sources", markup=False)


def _check(data: Database[dict[str, Any]], name: str, current: Settings) -> None:
    """Refuse what is no catalog with positions."""
    from kowalski.archive import inventory
    from kowalski.surveys import SURVEYS

    there = [entry.name for entry in inventory.take(data, {}, [survey.objects for survey in SURVEYS.values()])]
    if name not in there:
        known = f"there are {', '.join(there)}" if there else "there are none"
        raise typer.BadParameter(f"no catalog {name} in the database {current.database.db}; {known}")
    if data[name].find_one({"coordinates.radec_geojson.coordinates": {"$exists": True}}, {"_id": 1}) is None:
        raise typer.BadParameter(f"the sources of {name} have no positions (coordinates.radec_geojson)")


@contextmanager
def _data(current: Settings) -> Iterator[Database[dict[str, Any]]]:
    from kowalski.archive import client

    with client.connect(current) as connection:
        yield client.data_database(connection, current)
