"""``simulate``: write simulated alert packets."""

from __future__ import annotations

import csv
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from kowalski.cli.console import complain, errors, output, survey_name

TRUTH = "truth.csv"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(simulate)


def parse_night(text: str) -> date:
    """Read YYYYMMDD."""
    try:
        return datetime.strptime(text, "%Y%m%d").date()
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no date such as 20231012", param_hint="--obsdate") from error


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the packets; made if it does not exist.")],
    survey: Annotated[str | None, typer.Option(help="Whose packets.  [default: the first survey]")] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="How many packets.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same packets.")] = 1,
    obsdate: Annotated[str, typer.Option(help="Night of the alerts (UTC), YYYYMMDD.")] = "20231012",
    repeat_frac: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Part of the packets that are of an object already seen.")
    ] = 0.3,
) -> None:
    """Write simulated alerts, one file each, and truth.csv with the class of each."""
    from rich.progress import track

    from kowalski import surveys
    from kowalski.testing import simulator

    night, name = parse_night(obsdate), survey_name(survey or next(iter(surveys.SURVEYS)))
    if not simulator.can_simulate(name):
        possible = ", ".join(filter(simulator.can_simulate, surveys.SURVEYS))
        complain(f"alerts of {name} can't be simulated; of {possible} they can")
        raise typer.Exit(1)
    out.mkdir(parents=True, exist_ok=True)
    shape, writer = surveys.get(name).shape, simulator.writer(name)
    made = simulator.packets(n, name, seed, night, repeat_frac)
    with (out / TRUTH).open("w", newline="") as file:
        truth = csv.writer(file)
        truth.writerow(("candid", "objectId", "class"))
        for each in track(made, "simulating", total=n, console=errors()):
            alert = shape(each.packet)
            (out / f"{alert.candid}.avro").write_bytes(writer.encode(each.packet))
            truth.writerow((alert.candid, alert.object_id, each.kind))
    output().print(f"{n} packets are in {out}", markup=False)
