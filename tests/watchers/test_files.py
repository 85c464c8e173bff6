"""The watcher of files: what is listed comes, once, whole, and into its folder."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Any

import pytest

from kowalski.watchers.errors import Malformed, Refused, Unavailable
from kowalski.watchers.files import FilesWatcher

from .conftest import Remote, broken_off, status, whole

NIGHTS = ("20260301", "20260302", "20260303")
FILES = {f"ztf_public_{night}.tar.gz": gzip.compress(night.encode() * 1000) for night in NIGHTS}


def index(*links: str) -> bytes:
    return ("<html><a href='?C=N'>Name</a><a href='/'>up</a>" + "".join(f'<a href="{x}">x</a>' for x in links)).encode()


def sums(files: dict[str, bytes]) -> bytes:
    return "".join(f"{hashlib.md5(content).hexdigest()}  {name}\n" for name, content in files.items()).encode()


@pytest.fixture
def nights(remote: Remote, watched) -> Any:
    """A server with archives of three nights, and the watcher's context."""
    remote.pages["/alerts/"] = index(*FILES, "MD5SUMS", "../secret.tar.gz", "other.txt")
    remote.pages["/alerts/MD5SUMS"] = sums(FILES)
    for name, content in FILES.items():
        remote.pages[f"/alerts/{name}"] = content
    return watched("ztf_alerts", url=f"{remote.url}/alerts", parallel=2)


def here(context: Any) -> dict[str, bytes]:
    folder: Path = context.settings.path.data / context.own.folder
    found = [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def fetched(remote: Remote) -> list[str]:
    return [path.rpartition("/")[2] for path in remote.paths() if path.endswith((".gz", ".pytable"))]


def test_what_is_listed_comes_once(remote: Remote, nights) -> None:
    assert FilesWatcher(nights).once().new == 3
    assert here(nights) == FILES
    for path in (nights.settings.path.data / nights.own.folder).iterdir():
        path.unlink()  # loaded, and so no longer needed
    assert FilesWatcher(nights).once().new == 0
    assert sorted(fetched(remote)) == sorted(FILES)
    changed = {**FILES, "ztf_public_20260302.tar.gz": gzip.compress(b"once more")}
    remote.pages["/alerts/ztf_public_20260302.tar.gz"] = whole(changed["ztf_public_20260302.tar.gz"], '"v2"')
    remote.pages["/alerts/MD5SUMS"] = sums(changed)
    assert FilesWatcher(nights).once().new == 1
    assert list(here(nights)) == ["ztf_public_20260302.tar.gz"]


def test_nights_can_be_chosen(remote: Remote, nights, watched) -> None:
    chosen = watched("ztf_alerts", url=f"{remote.url}/alerts", first_night="20260302", last_night="20260302")
    FilesWatcher(chosen).once()
    assert list(here(chosen)) == ["ztf_public_20260302.tar.gz"]


def test_one_that_cannot_be_had_holds_up_no_other_and_is_tried_again(remote: Remote, nights) -> None:
    remote.says_first("/alerts/ztf_public_20260301.tar.gz", status(404))
    remote.says_first("/alerts/ztf_public_20260302.tar.gz", *[whole(b"garbled")] * 5)
    outcome = FilesWatcher(nights).once()
    assert outcome.new == 1
    assert sorted(outcome.rejected) == ["ztf_public_20260301.tar.gz", "ztf_public_20260302.tar.gz"]
    assert "MD5" in outcome.rejected["ztf_public_20260302.tar.gz"]
    assert FilesWatcher(nights).once().new == 2
    assert here(nights) == FILES


def test_a_server_that_wants_to_be_left_alone_is(remote: Remote, nights) -> None:
    for name in FILES:
        remote.says_first(f"/alerts/{name}", status(503, Retry_After="5000"))
    with pytest.raises(Unavailable) as caught:
        FilesWatcher(nights).once()
    assert caught.value.pause == 5000.0


def test_after_a_kill_whole_files_are_found_again_and_halves_go_on(remote: Remote, nights) -> None:
    """As if killed between a file and the note of it, and in the middle of another."""
    name, other = list(FILES)[:2]
    folder = nights.settings.path.data / nights.own.folder
    folder.mkdir(parents=True)
    (folder / name).write_bytes(FILES[name])
    remote.says_first(f"/alerts/{other}", broken_off(FILES[other], 30), *[status(500)] * 4)
    assert list(FilesWatcher(nights).once().rejected) == [other]
    assert name not in fetched(remote)
    remote.asked.clear()
    assert FilesWatcher(nights).once().new == 1
    (again,) = [each for each in remote.asked if each.path.endswith(other)]
    assert again.headers["Range"] == "bytes=30-"
    assert here(nights) == FILES


@pytest.mark.parametrize("garbled", [b"", b"<html>busy</html>", index("a.txt")], ids=["empty", "busy", "others"])
def test_a_list_of_nothing_is_an_error(remote: Remote, nights, garbled: bytes) -> None:
    remote.pages["/alerts/"] = garbled
    with pytest.raises(Malformed, match="lists no file"):
        FilesWatcher(nights).once()


def test_sums_that_cannot_be_read_are_an_error(remote: Remote, nights) -> None:
    remote.pages["/alerts/MD5SUMS"] = b"<html>\n"
    with pytest.raises(Malformed, match="no MD5 sum"):
        FilesWatcher(nights).once()
    remote.says_first("/alerts/", status(403))
    with pytest.raises(Refused):
        FilesWatcher(nights).once()


def test_folders_are_looked_into_and_incomplete_sets_told(remote: Remote, watched) -> None:
    names = [f"ztf_000245_z{band}_c10_q1_match.pytable" for band in "gri"] + ["ztf_000269_zr_c10_q1_match.pytable"]
    remote.pages["/mf/"] = index("rc00/", "rc36/", "docs/")
    remote.pages["/mf/rc00/"] = index("fr000245-000300/")
    remote.pages["/mf/rc36/"] = index("/mf/rc36/" + names[3])
    remote.pages["/mf/rc00/fr000245-000300/"] = index(*names[:3], "%2e%2e%2f%2e%2e%2fevil_match.pytable")
    paths = [f"rc00/fr000245-000300/{name}" for name in names[:3]] + [f"rc36/{names[3]}"]
    for path in paths:
        remote.pages[f"/mf/{path}"] = path.encode()
    context = watched("ztf_matchfiles", url=f"{remote.url}/mf/", username="u", password="p", check="size")
    outcome = FilesWatcher(context).once()
    assert here(context) == {path: path.encode() for path in paths}
    assert outcome.rejected == {"field 000269 ccd 10 quad 1": "1 files instead of 3"}
    assert all("Authorization" in each.headers for each in remote.asked)
    assert "/mf/docs/" not in remote.paths()
