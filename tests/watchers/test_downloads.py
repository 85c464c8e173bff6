"""Downloads: whole and checked, or not there; resumed; of the version that is there now."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from kowalski.config.watchers import Tns, Watchers
from kowalski.watchers.checks import fits_file, gzipped, hdf5
from kowalski.watchers.downloads import download
from kowalski.watchers.errors import Malformed, Unavailable, WatcherError
from kowalski.watchers.web import Web

from .conftest import Remote, broken_off, status, whole

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def web(waits: list[float]):
    with Web(Watchers(attempts=3), Tns(requests_per_minute=None), waits.append) as client:
        yield client


def is_alone(target: Path) -> bool:
    return [path.name for path in target.parent.iterdir()] == [target.name]


def test_what_broke_off_goes_on_where_it_ended(remote: Remote, web: Web, tmp_path: Path) -> None:
    target = tmp_path / "below" / "file"
    remote.pages["/file"] = CONTENT
    remote.says_first("/file", broken_off(CONTENT, 5000))
    got = download(web, f"{remote.url}/file", target, md5=MD5)
    assert target.read_bytes() == CONTENT
    assert (got.size, got.md5) == (len(CONTENT), MD5)
    assert is_alone(target)
    start = remote.asked[1].headers["Range"]
    assert start.startswith("bytes=")
    assert 0 < int(start[6:-1]) <= 5000


def test_a_download_goes_on_in_the_next_pass(remote: Remote, web: Web, tmp_path: Path) -> None:
    target = tmp_path / "file"
    remote.says_first("/file", broken_off(CONTENT, 4000), status(500), status(500))
    with pytest.raises(Unavailable):
        download(web, f"{remote.url}/file", target, md5=MD5)
    assert not target.exists()
    remote.pages["/file"] = CONTENT
    download(web, f"{remote.url}/file", target, md5=MD5)
    assert target.read_bytes() == CONTENT
    assert "Range" in remote.asked[-1].headers


def test_another_version_starts_anew(remote: Remote, web: Web, tmp_path: Path) -> None:
    target = tmp_path / "file"
    remote.pages["/file"] = whole(CONTENT, '"v2"')
    remote.says_first("/file", broken_off(b"\0" * len(CONTENT), 5000, '"v1"'))
    download(web, f"{remote.url}/file", target)
    assert target.read_bytes() == CONTENT


def test_a_wrong_sum_is_never_taken(remote: Remote, web: Web, tmp_path: Path) -> None:
    target = tmp_path / "file"
    remote.pages["/file"] = CONTENT[:-1] + b"?"
    with pytest.raises(Unavailable, match="MD5"):
        download(web, f"{remote.url}/file", target, md5=MD5)
    assert list(tmp_path.iterdir()) == []
    remote.says_first("/file", whole(CONTENT[:-1] + b"?"), whole(CONTENT))
    download(web, f"{remote.url}/file", target, md5=MD5)
    assert target.read_bytes() == CONTENT


def test_a_disk_that_is_too_small(remote: Remote, web: Web, tmp_path: Path) -> None:
    remote.pages["/file"] = CONTENT
    with pytest.raises(WatcherError, match="GB are free"):
        download(web, f"{remote.url}/file", tmp_path / "file", keep_free=2**60)
    assert not (tmp_path / "file").exists()


@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("cut", [0, 10, 1])
def test_formats(tmp_path: Path, cut: int) -> None:
    """A whole file is taken, one that lacks bytes or is something else is not."""
    files = {"gzip": (tmp_path / "a.gz", gzipped), "fits": (tmp_path / "a.fits", fits_file)}
    files["gzip"][0].write_bytes(gzip.compress(CONTENT))
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.arange(5000.0))]).writeto(files["fits"][0])
    h5py = pytest.importorskip("h5py", reason="HDF5 is looked through by h5py")
    files["hdf5"] = (tmp_path / "a.h5", hdf5)
    with h5py.File(files["hdf5"][0], "w") as file:
        file["data"] = np.arange(5000.0)
    for name, (path, check) in files.items():
        if not cut:
            check(path)
            continue
        content = path.read_bytes()
        path.write_bytes(content[: -len(content) // cut])
        with pytest.raises(Malformed):
            check(path)
        path.write_bytes(b"<html>not found</html>")
        with pytest.raises(Malformed):
            check(path)
        assert name
