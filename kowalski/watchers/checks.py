"""Whether a file is whole, by its format: what broke off or was garbled must not be taken for data."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

from astropy.io import fits

from kowalski.watchers.errors import Malformed, WatcherError

CHUNK = 1 << 20


def gzipped(path: Path) -> None:
    """Unpack a gzip file to its end, where its own checksum is."""
    if not path.stat().st_size:
        raise Malformed("is empty")
    try:
        with gzip.open(path) as file:
            while file.read(CHUNK):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise Malformed(f"is no whole gzip file: {error}") from error


def fits_file(path: Path) -> None:
    """Read all headers of a FITS file, and see whether the data are as long as they say."""
    try:
        with fits.open(path, mode="denywrite", memmap=True, lazy_load_hdus=False) as units:
            last = units[-1].fileinfo()
            end = last["datLoc"] + last["datSpan"]
    except (OSError, ValueError, KeyError, TypeError, fits.VerifyError) as error:
        raise Malformed(f"is no FITS file: {error}") from error
    if path.stat().st_size < end:
        raise Malformed(f"is no whole FITS file: {path.stat().st_size} of {end} bytes")


def hdf5(path: Path) -> None:
    """Open an HDF5 file, which knows its own length, and look at all that is in it."""
    try:
        import h5py  # comes with TensorFlow, which not everybody installs
    except ImportError as error:
        raise WatcherError("to check HDF5 files, h5py is needed: pip install h5py, or set check: size") from error
    try:
        with h5py.File(path) as file:
            file.visititems(lambda name, item: None)
    except (OSError, RuntimeError, KeyError) as error:
        raise Malformed(f"is no whole HDF5 file: {error}") from error


def nothing(path: Path) -> None:
    """Leave it at the size that the server has told."""


CHECKS: dict[str, Callable[[Path], None]] = {"size": nothing, "gzip": gzipped, "fits": fits_file, "hdf5": hdf5}
"""By the name that the settings have for it; each raises `Malformed`."""
