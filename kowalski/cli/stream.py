"""``stream``: put alert packets from files onto a Kafka topic."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from kowalski.cli.console import complain, errors, output, settings

if TYPE_CHECKING:
    from kowalski.broker.stream import Delivery
    from kowalski.config import Settings

PATIENCE = 10.0
"""Seconds that Kafka may take to answer."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(stream)


def parse_rate(text: str | None) -> float | None:
    """Read ``50`` or ``50/s`` as packets per second."""
    if text is None:
        return None
    try:
        rate = float(text.strip().removesuffix("/s"))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no rate such as 50/s", param_hint="--rate") from error
    if not 0.0 < rate < float("inf"):
        raise typer.BadParameter(f"{text!r} must be more than nothing", param_hint="--rate")
    return rate


def stream(
    topic: Annotated[str, typer.Option(help="Topic, e.g. ztf_20231012_programid1; made if it does not exist.")],
    path: Annotated[Path, typer.Option(help="Folder; all *.avro files in it and below are sent, in order of name.")],
    rate: Annotated[str | None, typer.Option(help="Packets per second, e.g. 50/s.  [default: unlimited]")] = None,
    limit: Annotated[int | None, typer.Option("--max", min=1, help="Send no more packets than this.")] = None,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Partitions of a new topic.  [default: kafka.partitions]")
    ] = None,
) -> None:
    """Put the alert packets of a folder onto a Kafka topic."""
    from kowalski.broker.stream import StreamError

    pace = parse_rate(rate)
    try:
        produce(settings(warn=True), topic, path, pace, limit, partitions)
    except StreamError as error:
        complain(str(error))
        raise typer.Exit(1) from error


def produce(
    current: Settings,
    topic: str,
    path: Path,
    rate: float | None = None,
    limit: int | None = None,
    partitions: int | None = None,
) -> Delivery:
    """Send the packets under ``path`` with a progress bar, and say what has become of them.

    Raises
    ------
    ServiceError, StreamError
        If Kafka can't be reached, there is nothing to send, or packets were not taken.
    """
    from kowalski.broker.stream import StreamError, ensure_topic, find_packets, send
    from kowalski.runtime import kafka

    # librdkafka tells of each of its own retries; what finally fails is reported below.
    logging.getLogger("kowalski.kafka").setLevel(logging.CRITICAL)
    packets = find_packets(path, limit)
    kafka.wait_until_up(current, PATIENCE)
    count = ensure_topic(current, topic, partitions)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=False),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=errors(),
    ) as progress:
        task = progress.add_task(topic, total=len(packets), speed="")

        def report(delivery: Delivery) -> None:
            speed = progress.tasks[task].finished_speed or progress.tasks[task].speed
            progress.update(task, completed=delivery.done, speed=f"{speed:.0f}/s" if speed else "")

        delivery = send(current, topic, packets, rate, report)
    size = delivery.sent_bytes / 2**20
    output().print(f"sent to {topic}: {delivery.sent} packets, {size:.1f} MB, over {count} partitions", markup=False)
    if delivery.failed:
        reasons = ", ".join(f"{reason}: {number}" for reason, number in delivery.failed.most_common())
        raise StreamError(f"{delivery.failed.total()} packets were not taken by Kafka ({reasons})")
    return delivery
