"""Histories of objects from archives of alert packets, for nights whose alerts are not wanted themselves.

Surveys keep each night's packets as a tar archive; every packet holds its object's past measurements. These, and the
catalog sources near the object, become the object's document as if the alert had come by Kafka.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence

import bson
import pyarrow as pa
from pymongo.database import Database

from kowalski.archive import alerts, objects
from kowalski.archive.catalogs import Catalogs
from kowalski.archive.client import Document
from kowalski.broker.avro import Decoder
from kowalski.broker.batch import Batch as Alerts
from kowalski.broker.batch import Packet, Work
from kowalski.broker.schemas import SchemaStore
from kowalski.broker.stages import crossmatch, decode, store
from kowalski.config import Settings
from kowalski.ingesters.errors import IngestError
from kowalski.ingesters.sources import ARCHIVE, Source
from kowalski.ingesters.tables import Batch, Layout, Reader
from kowalski.ingesters.writing import Written
from kowalski.science import lightcurve
from kowalski.surveys import SURVEYS

AT_ONCE = 128
"""Packets of a batch; one takes up to 100 kB."""


class Archive(Reader):
    """A tar archive, packed or not, as a table of its files; those before the first row are passed over unread."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.layout = Layout(("file", "packet"))

    def read(self, start: int, end: int | None, size: int) -> Iterator[Batch]:
        """Read files from ``start`` to before ``end`` in batches of at most ``size``."""
        names: list[str] = []
        packets: list[bytes] = []
        first = start
        for row, (name, packet) in enumerate(self._files(start, end), start):
            names.append(name)
            packets.append(packet)
            if len(names) == min(size, AT_ONCE):
                yield _batch(first, names, packets)
                first, names, packets = row + 1, [], []
        if names:
            yield _batch(first, names, packets)

    def _files(self, start: int, end: int | None) -> Iterator[tuple[str, bytes]]:
        path = self._source.path
        try:
            with (
                pa.input_stream(str(path), compression=self._source.codec) as unpacked,
                tarfile.open(fileobj=unpacked, mode="r|") as archive,
            ):
                files = (member for member in archive if member.isfile() and not _is_hidden(member.name))
                for row, member in enumerate(files):
                    if end is not None and row >= end:
                        return
                    file = archive.extractfile(member) if row >= start else None
                    if file is not None:
                        yield member.name, file.read()
        except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
            raise IngestError(f"{path}: can't be read to its end as a tar archive: {error}") from error


class Histories:
    """Stores what packets, as the field ``packet`` of documents, tell of a survey's objects.

    Parameters
    ----------
    collection
        That of the survey's objects, by which the survey is known.
    """

    def __init__(self, settings: Settings, data: Database[Document], collection: str) -> None:
        self._survey = next(survey for survey in SURVEYS.values() if survey.objects == collection)
        self._data = data
        self._decoder = Decoder(SchemaStore.of(settings, self._survey))
        self._catalogs = Catalogs(data, settings.database.xmatch.get(self._survey.name, {}))

    def store(self, documents: Sequence[bytes]) -> Written:
        """Store what is not there, and tell what was; may be repeated."""
        batch, written = self._told(documents)
        if batch.works:
            crossmatch.match_objects(batch, self._catalogs)
            store.store_objects(batch, self._data)
        return written

    def compare(self, documents: Sequence[bytes]) -> list[tuple[int, str]]:
        """Tell by their place which packets can't be read, and which hold rows that the archive has not."""
        batch, written = self._told(documents)
        lacking = [(work.packet.offset, f"object {work.alert.object_id} lacks rows of it") for work in batch.works]
        return sorted({**dict(lacking), **dict(written.refused)}.items())

    def _told(self, documents: Sequence[bytes]) -> tuple[Alerts, Written]:
        """Decode packets and leave out those that tell nothing new, so that the batch holds what is to be stored."""
        packets = [
            Packet(ARCHIVE, 0, place, 0, bson.decode(document)["packet"]) for place, document in enumerate(documents)
        ]
        batch = decode.decode(packets, self._survey, self._decoder)
        self._leave_out_stored(batch)
        history = self._survey.histories[0]
        for work in batch.works:
            work.alert.histories = {history.name: lightcurve.merge(history, work.alert.histories[history.name])}
            work.alert.keeps = frozenset({history.name})
        since = min((row["jd"] for work in batch.works for row in work.alert.histories[history.name]), default=0.0)
        known = objects.recall(self._data[self._survey.objects], list(batch.objects()), [history], since)
        batch.works = [work for work in batch.works if self._is_new(work, known)]
        batch.known = {object_id: known[object_id] for object_id in batch.objects() if object_id in known}
        new, refused = len(batch.works), [(each.packet.offset, each.reason) for each in batch.rejected]
        return batch, Written(new, len(packets) - new - len(refused), refused)

    def _leave_out_stored(self, batch: Alerts) -> None:
        """Leave out alerts that are in the archive: their objects hold all of their rows, and more of some."""
        candids = [work.alert.candid for work in batch.works]
        owners = alerts.owners(self._data[self._survey.alerts], candids, self._survey.object_id_field)
        foreign = [
            work for work in batch.works if owners.get(work.alert.candid, work.alert.object_id) != work.alert.object_id
        ]
        batch.reject(
            [(work, f"candid {work.alert.candid} belongs to {owners[work.alert.candid]}") for work in foreign], ARCHIVE
        )
        batch.works = [work for work in batch.works if work.alert.candid not in owners]

    def _is_new(self, work: Work, known: Mapping[str, objects.Known]) -> bool:
        history = self._survey.histories[0]
        stored = known.get(work.alert.object_id)
        if stored is None:
            return True
        return bool(lightcurve.news(history, stored.rows.get(history.name, ()), work.alert.histories[history.name]))


def _is_hidden(name: str) -> bool:
    return name.rpartition("/")[2].startswith(".")


def _batch(start: int, names: list[str], packets: list[bytes]) -> Batch:
    table = pa.RecordBatch.from_arrays(
        [pa.array(names, pa.string()), pa.array(packets, pa.binary())], ["file", "packet"]
    )
    return Batch(start, len(names), table)
