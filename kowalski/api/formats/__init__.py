"""How results are written: one module per format, over the encoder that all share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from kowalski.api.formats import csv_table, envelope, lines
from kowalski.api.formats.encoder import Encoder
from kowalski.api.results import Result


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write results.

    Attributes
    ----------
    pieces
        Writes message and result piece by piece.
    trailer
        Writes at the end of what was sent already why there is no more; None if the format has no place for that.
    is_table
        Whether only lists of documents can be written.
    """

    content_type: str
    pieces: Callable[[str, Result, Encoder], AsyncGenerator[bytes]]
    trailer: Callable[[str], bytes] | None = None
    is_table: bool = False


async def _parquet(message: str, result: Result, encoder: Encoder) -> AsyncGenerator[bytes]:
    from kowalski.api.formats import parquet  # 50 MB of memory, which many instances never need

    async for piece in parquet.pieces(message, result, encoder):
        yield piece


FORMATS = {
    "application/json": Format(envelope.CONTENT_TYPE, envelope.pieces),
    "application/x-ndjson": Format(lines.CONTENT_TYPE, lines.pieces, trailer=lines.trailer),
    "text/csv": Format(csv_table.CONTENT_TYPE, csv_table.pieces, is_table=True),
    "application/vnd.apache.parquet": Format("application/vnd.apache.parquet", _parquet, is_table=True),
}
"""Media type -> format; the first is what clients get that don't say what they want."""

ALTERNATIVES = {
    "application/x-ndjson": "A document per line, in relaxed Extended JSON.",
    "text/csv": "A table, where the answer is a list of documents.",
    "application/vnd.apache.parquet": "A table, where the answer is a list of documents.",
}
"""What else there is than JSON, for the documentation."""
