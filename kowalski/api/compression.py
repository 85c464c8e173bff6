"""Content codings: compressing an answer piece by piece."""

from __future__ import annotations

from typing import Protocol

import cramjam
from isal import isal_zlib

GZIP = 16 + 15
"""Window bits that make a gzip container (RFC 1952) of 32 kB windows."""
GZIP_LEVEL = 1
ZSTD_LEVEL = 1
"""Fast ones: an alert shrinks to a third at hundreds of MB/s, and stamps are compressed already."""


class Compressor(Protocol):
    """Compresses pieces of one answer."""

    def add(self, piece: bytes) -> bytes:
        """Compress a piece; what comes may be kept back for a later one."""

    def flush(self) -> bytes:
        """Give what was kept back."""

    def end(self) -> bytes:
        """Give what was kept back, and the end."""


class Gzip:
    """``gzip`` (RFC 1952)."""

    def __init__(self) -> None:
        self._inner = isal_zlib.compressobj(GZIP_LEVEL, wbits=GZIP)

    def add(self, piece: bytes) -> bytes:
        """Compress a piece."""
        return bytes(self._inner.compress(piece))

    def flush(self) -> bytes:
        """Give what was kept back."""
        return bytes(self._inner.flush(isal_zlib.Z_SYNC_FLUSH))

    def end(self) -> bytes:
        """Give the rest and the checksum."""
        return bytes(self._inner.flush())


class Zstd:
    """``zstd`` (RFC 8878)."""

    def __init__(self) -> None:
        self._inner = cramjam.zstd.Compressor(level=ZSTD_LEVEL)

    def add(self, piece: bytes) -> bytes:
        """Compress a piece, and flush: there is no other way to get a part."""
        self._inner.compress(piece)
        return self.flush()

    def flush(self) -> bytes:
        """Give what was kept back."""
        return bytes(self._inner.flush())

    def end(self) -> bytes:
        """Give the rest and the end of the frame."""
        return bytes(self._inner.finish())


def make(coding: str) -> Compressor:
    """Make a compressor for one of `kowalski.api.negotiation.CODINGS`."""
    return Gzip() if coding == "gzip" else Zstd()


def whole(coding: str, body: bytes) -> bytes:
    """Compress a body that is there as a whole."""
    compressor = make(coding)
    return compressor.add(body) + compressor.end()
