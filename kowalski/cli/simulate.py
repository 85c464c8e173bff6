"""``simulate``: alert packets for a night that never was."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from kowalski.cli.console import survey_name


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("simulate", rich_help_panel="Alerts")(simulate)


def simulate(
    out: Annotated[Path, typer.Option(help="Folder for the packets; made if it is not there.")],
    survey: Annotated[str, typer.Option(help="Whose packets.")] = "ztf",
    n: Annotated[int, typer.Option(min=1, help="How many.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes another sky.")] = 1,
    obsdate: Annotated[str, typer.Option(help="The night, YYYYMMDD.")] = "20231012",
    repeat_frac: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Part of the packets that visit an object once more.")
    ] = 0.2,
) -> None:
    """Make schema-true alert packets of supernovae, variable stars, active nuclei, asteroids and artefacts.

    One Avro file per packet, named by its candid; `truth.csv` says what each of them is. Equal options make equal
    files. Send them with `stream --topic ztf_20231012_programid1 --path OUT`.
    """
    from rich.progress import track

    from kowalski.testing.simulator import SIMULATED
    from kowalski.testing.simulator import simulate as packets

    if survey_name(survey) not in SIMULATED:
        raise typer.BadParameter(f"packets of {survey} can't be simulated; {', '.join(SIMULATED)} can")
    try:
        night = datetime.strptime(obsdate, "%Y%m%d").date()
    except ValueError as error:
        raise typer.BadParameter(f"{obsdate} is no night; write it as YYYYMMDD, e.g. 20231012") from error
    out.mkdir(parents=True, exist_ok=True)
    truth = ["candid,objectId,class"]
    for packet in track(packets(n, seed, night, repeat_frac), f"simulating {n} alerts", total=n):
        (out / f"{packet.candid}.avro").write_bytes(packet.value)
        truth.append(f"{packet.candid},{packet.object_id},{packet.kind}")
    (out / "truth.csv").write_text("\n".join(truth) + "\n")
    typer.echo(f"{n} packets are in {out}")
