"""All stages of a batch, in order, and what happens when one of them fails.

A stage that MongoDB keeps from working is nobody's fault in the batch: the error goes up, the broker waits and sends
the batch again. A stage that fails otherwise fails on some packet: each is then tried alone, and the one that fails
alone is refused. Where every packet of a larger batch fails alone in the same way, the fault is in the system, not in
the packets: nothing is refused, and the broker waits for somebody to mend it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bson.errors import BSONError, InvalidDocument
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure, PyMongoError

from kowalski.archive import dead_letters, names
from kowalski.archive.activity import Cost, Work
from kowalski.broker import evolution
from kowalski.broker.batch import Batch, Packet, Rejected
from kowalski.broker.context import WorkerContext
from kowalski.broker.stages import crossmatch, decode, filter, handover, link, recall, score, store

Stage = Callable[[Batch, WorkerContext], None]

STAGES: tuple[tuple[str, Stage], ...] = (
    (recall.NAME, recall.recall),
    (score.NAME, score.score),
    (crossmatch.NAME, crossmatch.crossmatch),
    (store.NAME, store.store),
    (link.NAME, link.link),
    (filter.NAME, filter.filter_alerts),
    (handover.NAME, handover.hand_over),
)
"""What follows decoding."""

PACKETS_FAULT = (DocumentTooLarge, InvalidDocument, BSONError, OverflowError)
"""MongoDB errors that a packet's content causes."""
TOO_LARGE = frozenset({10334, 17419, 17420})
"""Codes of MongoDB for a document that grows beyond 16 MB."""
SYSTEMIC = 8
"""From so many packets on, all failing alone in one way means that the system is at fault."""


class SystemFault(Exception):
    """A stage fails on every packet: waiting and a repair help, refusing packets does not."""


class StageError(Exception):
    """A stage failed on a batch; ``__cause__`` says how."""

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self.stage = stage


@dataclass(slots=True)
class BatchReport(Work):
    """What became of a batch; small, because it travels back to the broker."""


def process(packets: Sequence[Packet], context: WorkerContext) -> BatchReport:
    """Take packets through all stages; when it returns, every effect of them is durable.

    Raises
    ------
    pymongo.errors.PyMongoError
        If MongoDB can't do its part: to be sent again, as it is.
    SystemFault
        If a stage fails on every packet.
    """
    report = BatchReport(packets=len(packets))
    with _timed(report, decode.NAME):
        batch = decode.decode(packets, context.survey, context.decoder)
    if context.decoder.unseen:
        evolution.watch(context.decoder, context.survey, context.system)
    rejected = run(batch, context, report, STAGES)
    if rejected:
        with _timed(report, "deadletter"):
            _refuse(rejected, context)
    now = time.time()
    report.waiting.add(max(0.0, now - packet.timestamp / 1e3) for packet in packets if packet.timestamp > 0)
    return report


def run(
    batch: Batch, context: WorkerContext, report: BatchReport, stages: Sequence[tuple[str, Stage]]
) -> list[Rejected]:
    """Take a batch through stages, and count in ``report`` what became of it; what was refused is returned.

    Raises
    ------
    pymongo.errors.PyMongoError, SystemFault
        As `process` does.
    """
    rejected = batch.rejected
    try:
        finished = [_run(batch, context, report, stages)]
    except StageError as error:
        finished, refused = _one_by_one(batch, context, report, stages, error)
        rejected = rejected + refused
    for done in finished:
        report.alerts += len(done.works)
        report.passes += sum(len(work.passes) for work in done.works)
    report.rejected = len(rejected)
    return rejected


def _run(batch: Batch, context: WorkerContext, report: BatchReport, stages: Sequence[tuple[str, Stage]]) -> Batch:
    for name, stage in stages:
        with _timed(report, name):
            try:
                stage(batch, context)
            except Exception as error:
                if _is_dependency(error):
                    raise
                raise StageError(name) from error
    return batch


def _is_dependency(error: Exception) -> bool:
    """Whether MongoDB, and not a packet, is at fault."""
    if not isinstance(error, PyMongoError) or isinstance(error, PACKETS_FAULT):
        return False
    if isinstance(error, BulkWriteError):
        failures = (error.details or {}).get("writeErrors", [])
        return not any(failure["code"] in TOO_LARGE for failure in failures)
    return not (isinstance(error, OperationFailure) and error.code in TOO_LARGE)


def _one_by_one(
    batch: Batch,
    context: WorkerContext,
    report: BatchReport,
    stages: Sequence[tuple[str, Stage]],
    first: StageError,
) -> tuple[list[Batch], list[Rejected]]:
    """Run each alert as a batch of its own, in the order in which they would have been processed."""
    finished: list[Batch] = []
    refused: list[Rejected] = []
    faults: set[tuple[str, str]] = set()
    for work in batch.works:
        alone = Batch(batch.survey, [work])
        try:
            finished.append(_run(alone, context, report, stages))
            refused += alone.rejected
        except StageError as error:
            reason = f"{type(error.__cause__).__name__}: {error.__cause__}"[:500]
            faults.add((error.stage, type(error.__cause__).__name__))
            refused.append(Rejected(work.packet, error.stage, reason))
    if len(batch.works) >= SYSTEMIC and not any(done.works for done in finished) and len(faults) == 1:
        raise SystemFault(f"stage {first.stage} fails on every alert: {refused[-1].reason}") from first
    return finished, refused


def _refuse(rejected: list[Rejected], context: WorkerContext) -> None:
    dead_letters.write(
        context.system[names.DEAD_LETTERS],
        context.survey.name,
        [
            (
                dead_letters.letter_id(one.packet.topic, one.packet.partition, one.packet.offset, one.packet.record),
                one.packet.timestamp,
                one.packet.value,
                one.stage,
                one.reason,
            )
            for one in rejected
        ],
    )


class _timed:
    """Adds the time of a ``with`` block to a stage of a report."""

    def __init__(self, report: BatchReport, stage: str) -> None:
        self._times = report.stages.setdefault(stage, Cost())

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.thread_time()

    def __exit__(self, *_: object) -> None:
        self._times.wall += time.perf_counter() - self._wall
        self._times.cpu += time.thread_time() - self._cpu
