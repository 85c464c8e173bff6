"""``ingest``: load a catalog from files into the archive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kowalski.cli.console import errors, output, settings

if TYPE_CHECKING:
    from kowalski.archive.loads import Progress
    from kowalski.config import Settings
    from kowalski.ingesters.declarations import Table
    from kowalski.ingesters.loading import Job, Report
    from kowalski.ingesters.sources import Found

FILES, COLUMNS, ROWS, HOW = "Files", "Columns", "Rows", "How"
HELP = """Load a catalog from files into the archive.

NAME is the collection that the catalog becomes; if it is one of the catalogs that `ingest --list` names, all is known
of its columns. PATH is a file, a folder, a glob or a URL; there may be several. FITS, CSV, TSV, Parquet, HDF5 and
VOTable are told by their suffix, also behind .gz, .bz2 and .zst. A catalog may be partitioned as HATS does it.

Examples:

  ./kowalski.py ingest my_stars stars.csv                        # columns ra and dec are found by their names

  ./kowalski.py ingest my_stars stars.fits --dry-run             # what would a document look like?

  ./kowalski.py ingest my_stars parts/ --id source_id --null -999 --columns source_id,ra,dec,gmag

  ./kowalski.py ingest blazars b.csv --ra R.A. --dec Dec         # sexagesimal positions are understood

  ./kowalski.py ingest ZTF_matchfiles data/ --tag 20210401       # a catalog that is known by name

Rows that can't be stored are written with the reason into a file of the run folder; nothing is left out silently. An
interrupted load goes on with --resume. The same rows may be loaded twice: they are stored once.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(help=HELP)(ingest)


def _listed(value: bool) -> None:
    if not value:
        return
    from kowalski.ingesters import declarations

    for name, declared in declarations.known().items():
        collections = ", ".join(table.collection for table in declared.tables)
        output().print(f"{name:28}{declared.about}\n{'':28}{declared.files} → {collections}", markup=False)
    raise typer.Exit


def ingest(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Collection, or a catalog that --list names.")],
    paths: Annotated[list[str], typer.Argument(metavar="PATH…", help="Files, folders, globs or URLs.")],
    list_: Annotated[
        bool, typer.Option("--list", is_eager=True, callback=_listed, help="Name the catalogs that are known.")
    ] = False,
    tag: Annotated[
        str | None, typer.Option(help="Release, for catalogs that have several.", rich_help_panel=FILES)
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="csv, tsv, parquet, fits, hdf5 or votable.", rich_help_panel=FILES),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(help="Table of a file: FITS HDU, HDF5 path, number in a VOTable.", rich_help_panel=FILES),
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="Between values, if not a comma.", rich_help_panel=FILES)
    ] = None,
    ra: Annotated[str | None, typer.Option(help="Column of right ascension.", rich_help_panel=COLUMNS)] = None,
    dec: Annotated[str | None, typer.Option(help="Column of declination.", rich_help_panel=COLUMNS)] = None,
    unit: Annotated[str | None, typer.Option(help="Of positions: deg, rad or hour.", rich_help_panel=COLUMNS)] = None,
    no_positions: Annotated[
        bool, typer.Option("--no-positions", help="The catalog has none.", rich_help_panel=COLUMNS)
    ] = False,
    position_from: Annotated[
        str | None,
        typer.Option("--position-from-catalog", help="Take positions from this one, by id.", rich_help_panel=COLUMNS),
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", help="Column that becomes _id.", rich_help_panel=COLUMNS)] = None,
    columns: Annotated[
        str | None, typer.Option(help="Columns to keep, with commas in between.", rich_help_panel=COLUMNS)
    ] = None,
    rename: Annotated[list[str] | None, typer.Option(help="OLD=NEW, may be repeated.", rich_help_panel=COLUMNS)] = None,
    null: Annotated[
        list[str] | None, typer.Option(help="Value that stands for none, e.g. -999.", rich_help_panel=COLUMNS)
    ] = None,
    order: Annotated[
        list[int] | None,
        typer.Option(min=0, max=29, help="HEALPix order of cells.  [default: 16 14 8]", rich_help_panel=COLUMNS),
    ] = None,
    max_docs: Annotated[int | None, typer.Option(min=1, help="Store no more than this.", rich_help_panel=ROWS)] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a load was interrupted.", rich_help_panel=ROWS)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read everything, write nothing.", rich_help_panel=ROWS)
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare what is stored with the files; write nothing.", rich_help_panel=ROWS),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace documents of the same id.", rich_help_panel=ROWS)
    ] = False,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="If no Dask cluster runs.  [default: one per core]", rich_help_panel=HOW),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=100_000, help="Rows at a time.", rich_help_panel=HOW)] = 5000,
    no_indexes: Annotated[
        bool, typer.Option("--no-indexes", help="Build no indexes afterwards.", rich_help_panel=HOW)
    ] = False,
) -> None:
    """Load a catalog: what the command is told becomes jobs."""
    from dataclasses import replace as changed

    from kowalski.archive.inventory import STANDARD_ORDERS
    from kowalski.ingesters.loading import Job
    from kowalski.ingesters.writing import Mode

    current = settings(warn=True)
    given = {
        "ra": ra, "dec": dec, "unit": _unit(unit), "no_positions": no_positions, "position_from": position_from,
        "id": id_, "only": _names(columns), "renamed": _pairs(rename or []), "nulls": tuple(null or ()),
    }  # fmt: skip
    tables, pattern = _tables(name, tag)
    for one in tables:
        found = _find(current, paths, format_, one.format, pattern)
        own: dict[str, Any] = {option: value for option, value in given.items() if value}
        if found.ra is not None and found.dec is not None:
            own = {"ra": found.ra, "dec": found.dec} | own
        if "ra" in own or "dec" in own:
            own = {"position_from": None} | own
        told = changed(one.columns, **own, dropped=one.columns.dropped | found.dropped)
        job = Job(
            catalog=one.collection,
            rejects=current.path.run / "ingest" / f"{one.collection}-rejected.jsonl",
            columns=told,
            options=_options(one, table, delimiter, told.nulls),
            orders=() if told.no_positions else tuple(sorted(set(order or STANDARD_ORDERS), reverse=True)),
            mode=Mode.REPLACE if replace else one.mode,
            enriched=one.enriched,
            batch_size=batch_size,
            max_docs=max_docs,
            resume=resume,
            verify=verify,
            dry_run=dry_run,
        )
        _load(current, job, found, one, processes, indexed=not no_indexes)


def _load(current: Settings, job: Job, found: Found, table: Table, processes: int | None, *, indexed: bool) -> None:
    from kowalski.ingesters import indexing, loading
    from kowalski.ingesters.writing import Mode

    if job.mode is not Mode.HISTORIES:
        _check(job.catalog)
    if job.dry_run and job.mode is not Mode.HISTORIES:
        _preview(job, found)
    work = loading.plan(current, job, found.files)
    begun = time.monotonic()
    with _bar(job, work.rows) as report:
        done = loading.run(current, job, work, processes, report)
    seconds = time.monotonic() - begun
    _tell(job, done, done.rows - work.done.rows, seconds)
    if job.leaves_traces and indexed and done.new + done.present:
        from kowalski.archive import client

        begun = time.monotonic()
        with client.connect(current) as connection:
            built = indexing.build(
                client.data_database(connection, current),
                job.catalog,
                job.orders,
                table.indexes,
                has_positions=not job.columns.no_positions,
                report=lambda index: errors().print(f"building the index {index}", markup=False),
            )
        if built:
            output().print(f"indexes: {', '.join(built)} ({time.monotonic() - begun:.1f} s)", markup=False)
    if done.rejected:
        output().print(f"rejected rows, with reasons: {job.rejects}", markup=False)
        if job.verify or not done.new + done.present + done.left_out:
            raise typer.Exit(1)


def _check(catalog: str) -> None:
    """Refuse names that are none, or those of collections that are no catalogs."""
    from kowalski.archive import names
    from kowalski.ingesters.errors import IngestError
    from kowalski.surveys import SURVEYS

    reserved = names.SYSTEM | {each for survey in SURVEYS.values() for each in (survey.alerts, survey.objects)}
    if catalog in reserved or catalog.startswith("system.") or not catalog or "$" in catalog:
        raise IngestError(f"{catalog!r} can't be the name of a catalog")


def _tell(job: Job, done: Progress, looked_at: int, seconds: float) -> None:
    what = {job.dry_run: "would be stored", job.verify: "are stored as they are in the files"}.get(True, "stored")
    number = done.present if job.verify else done.new
    parts = [f"{job.catalog}: {number:,} {what}"]
    if done.present and not job.verify:
        parts.append(f"{done.present:,} were there already")
    if done.left_out:
        parts.append(f"{done.left_out:,} left out by its conditions")
    parts.append(f"{done.rejected:,} rejected")
    rate = f" ({looked_at / seconds:,.0f} rows/s)" if seconds > 1.0 else ""
    output().print(", ".join(parts) + rate, markup=False)


def _preview(job: Job, found: Found) -> None:
    from kowalski.ingesters import loading

    document = None if job.columns.position_from else loading.preview(job, found.files[0])
    if document is not None:
        output().print("a document:", document, markup=False)


@contextmanager
def _bar(job: Job, rows: int | None) -> Iterator[Report]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=errors()) as bar:
        task = bar.add_task(job.catalog, total=rows, speed="")

        def report(now: Any) -> None:
            speed = bar.tasks[task].speed
            bar.update(task, completed=now.rows, speed=f"{speed:,.0f} rows/s" if speed else "")

        yield report


def _tables(name: str, tag: str | None) -> tuple[list[Table], str | None]:
    from kowalski.ingesters import declarations
    from kowalski.ingesters.declarations import Table

    declared = declarations.known().get(name)
    if declared is None:
        return [Table(collection=name)], None
    return [table.named(tag) for table in declared.tables], declared.files


def _find(current: Settings, paths: list[str], format_: str | None, declared: str | None, pattern: str | None) -> Found:
    from kowalski.ingesters import lightcurves, sources
    from kowalski.ingesters.errors import IngestError

    if format_ is not None and format_ not in {*sources.FORMATS, *lightcurves.READERS}:
        raise IngestError(f"there is no format {format_!r}; there are {', '.join(sources.FORMATS)}")
    return sources.find(paths, format_ or declared, pattern, current.path.run / "ingest" / "downloads")


def _options(table: Table, wanted: str | None, delimiter: str | None, nulls: tuple[str, ...]) -> Any:
    from kowalski.ingesters.errors import IngestError
    from kowalski.ingesters.tables import Options

    if delimiter is not None and len(delimiter := delimiter.replace("\\t", "\t")) != 1:
        raise IngestError("--delimiter is one character")
    return Options(wanted, table.names, delimiter, nulls)


def _unit(text: str | None) -> str | None:
    from kowalski.ingesters.columns import DEGREES
    from kowalski.ingesters.errors import IngestError

    if text is not None and text not in DEGREES:
        raise IngestError(f"there is no unit {text!r} of positions; there are {', '.join(DEGREES)}")
    return text


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _pairs(texts: list[str]) -> dict[str, str]:
    from kowalski.ingesters.errors import IngestError

    pairs = [text.split("=", 1) for text in texts]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise IngestError("--rename is OLD=NEW")
    return {pair[0]: pair[1] for pair in pairs}
