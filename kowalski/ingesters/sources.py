"""Where the files of a catalog are: files, folders, globs, URLs, and catalogs that are partitioned as HATS does it.

HATS: https://hats.readthedocs.io; its folder ``dataset`` holds ``Norder=*/Dir=*/Npix=*.parquet``, and
``hats.properties`` (``properties`` in older ones) names the columns of positions.
"""

from __future__ import annotations

import glob
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from kowalski.ingesters.errors import IngestError

FORMATS = {
    "csv": (".csv", ".txt"),
    "tsv": (".tsv", ".tab"),
    "parquet": (".parquet", ".parq", ".pq"),
    "fits": (".fits", ".fit", ".fts"),
    "hdf5": (".hdf5", ".h5", ".hdf", ".pytable"),
    "votable": (".vot", ".votable", ".xml"),
}
"""Format -> suffixes by which it is told."""
ARCHIVE = "packets"
"""Format of tar archives of alert packets, which no suffix tells."""
PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
STREAMED = ("csv", "tsv")
"""Formats that are unpacked while they are read; files of others are unpacked into a temporary one."""
PROPERTIES = ("hats.properties", "properties")
CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Source:
    """One file.

    Attributes
    ----------
    key
        What it is called within the catalog, whatever folder it lies in: with the row it makes up the rows' ids.
    """

    path: Path
    key: str
    format: str

    @property
    def codec(self) -> str | None:
        """How it is packed, in the words of Arrow."""
        return PACKED.get(self.path.suffix.lower())


@dataclass(frozen=True, slots=True)
class Found:
    """All files of a catalog, and what the catalog itself tells of its columns."""

    files: list[Source]
    ra: str | None = None
    dec: str | None = None
    dropped: frozenset[str] = field(default_factory=frozenset)


def find(paths: Iterable[str], format_: str | None, pattern: str | None, downloads: Path) -> Found:
    """Find the files that are meant.

    Parameters
    ----------
    paths
        Files, folders (with all below), globs and URLs; the latter are fetched into ``downloads`` first.
    format_
        One of `FORMATS`; by default what a file's suffix says.
    pattern
        Glob for the names of files in folders.

    Raises
    ------
    IngestError
        If there are none, two can't be told apart, or the format of one is not known.
    """
    found: dict[str, Source] = {}
    ra = dec = None
    dropped: frozenset[str] = frozenset()
    for path in (each for text in paths for each in _local(text, downloads)):
        hats = next((path / name for name in PROPERTIES if (path / name).is_file()), None)
        if hats is not None:
            named = dict(_property(line) for line in hats.read_text().splitlines() if "=" in line)
            ra, dec = named.get("hats_col_ra"), named.get("hats_col_dec")
            dropped = frozenset({"Norder", "Dir", "Npix"})
            files = sorted((path / "dataset").rglob("Npix=*.parquet")) + sorted(
                (path / "dataset").rglob("Npix=*/*.parquet")
            )
        else:
            files = [path] if path.is_file() else sorted(_within(path, format_, pattern))
        for file in files:
            key = file.name if file == path else f"{path.name}/{file.relative_to(path)}"
            kind = format_ or format_of(file)
            if kind is None:
                raise IngestError(f"{file}: the format is not known by its name; say --format {'|'.join(FORMATS)}")
            if found.setdefault(key, source := Source(file.resolve(), key, kind)) != source:
                raise IngestError(f"two files are called {key}; name the folder above them instead")
    if not found:
        raise IngestError(f"there are no files to load in {' '.join(paths)}")
    return Found(list(found.values()), ra, dec, dropped)


def format_of(path: Path) -> str | None:
    """Tell the format by a file's suffix, behind those of packers."""
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in PACKED]
    return next((kind for kind, known in FORMATS.items() if suffixes and suffixes[-1] in known), None)


def unpacked(source: Source, folder: Path) -> Path:
    """Give a file as it is, unpacked into ``folder`` if need be.

    Raises
    ------
    IngestError
        If it is damaged.
    """
    if source.codec is None:
        return source.path
    target = folder / source.path.with_suffix("").name
    try:
        with pa.input_stream(str(source.path), compression=source.codec) as packed, target.open("wb") as plain:
            while piece := packed.read(CHUNK):
                plain.write(piece)
    except OSError as error:
        raise IngestError(f"{source.path}: can't be unpacked: {error}") from error
    return target


def _within(folder: Path, format_: str | None, pattern: str | None) -> Iterable[Path]:
    for file in folder.rglob(pattern or "*"):
        hidden = any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
        if file.is_file() and not hidden and (pattern is not None or format_of(file) in _wanted(format_)):
            yield file


def _wanted(format_: str | None) -> tuple[str, ...]:
    return (format_,) if format_ is not None else tuple(FORMATS)


def _property(line: str) -> tuple[str, str]:
    name, _, value = line.partition("=")
    return name.strip(), value.strip()


def _local(text: str, downloads: Path) -> list[Path]:
    if "://" in text:
        return [_fetched(text, downloads)]
    path = Path(text).expanduser()
    if path.exists():
        return [path]
    matching = [Path(each) for each in sorted(glob.glob(str(path), recursive=True))]
    if not matching:
        raise IngestError(f"{text}: there is no such file or folder")
    return matching


def _fetched(url: str, downloads: Path) -> Path:
    """Fetch a file, unless it is there from an interrupted load."""
    import fsspec

    target = downloads / url.split("?")[0].rstrip("/").rpartition("/")[2]
    if target.exists():
        return target
    downloads.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        with fsspec.open(url, "rb") as remote, part.open("wb") as local:
            shutil.copyfileobj(remote, local, CHUNK)
    except ImportError as error:
        raise IngestError(f"{url}: {error}") from error
    except (OSError, ValueError) as error:
        part.unlink(missing_ok=True)
        raise IngestError(f"{url}: can't be fetched: {error or type(error).__name__}") from error
    part.rename(target)
    return target
