"""``crossmatch``: pairs of sources of two catalogs, into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kowalski.cli.console import complain, errors, output, settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(crossmatch)


def crossmatch(
    catalog: Annotated[str, typer.Option(help="Each source of this one is matched.")],
    with_: Annotated[str, typer.Option("--with", help="With sources of this one.")],
    radius: Annotated[float, typer.Option(min=1e-6, max=600.0, help="Arcsec.")],
    out: Annotated[Path, typer.Option(help="File of pairs: .csv or .parquet.")],
) -> None:
    """Match the sources of one catalog with those of another, within a radius."""
    import pyarrow as pa
    from pyarrow import csv, parquet
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from kowalski.archive import client, crossmatching

    if out.suffix not in {".csv", ".parquet"}:
        raise typer.BadParameter(f"{out}: pairs are written as .csv or .parquet", param_hint="--out")
    numbers = {name: pa.float64() for name in ("ra", "dec", "match_ra", "match_dec", "separation")}
    names = ("id", "ra", "dec", "match_id", "match_ra", "match_dec", "separation")
    schema = pa.schema([(name, numbers.get(name, pa.string())) for name in names])
    current, pairs = settings(), 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    part = out.with_name(out.name + ".part")
    writer = parquet.ParquetWriter if out.suffix == ".parquet" else csv.CSVWriter
    try:
        with (
            client.connect(current) as connection,
            Progress(*columns, console=errors()) as bar,
            writer(str(part), schema) as file,
        ):
            data = client.data_database(connection, current)
            task = bar.add_task(catalog, total=data[catalog].estimated_document_count())
            for looked_at, found in crossmatching.match(data, catalog, with_, radius):
                bar.advance(task, looked_at)
                pairs += len(found)
                if found:
                    file.write_table(pa.Table.from_pylist(found, schema))
        part.rename(out)
    except crossmatching.NoSuchCatalogError as error:
        complain(str(error))
        raise typer.Exit(1) from error
    finally:
        part.unlink(missing_ok=True)
    output().print(f"{pairs:,} pairs within {radius:g} arcsec: {out}", markup=False)
