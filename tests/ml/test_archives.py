"""Archives of SavedModels: unpacked whatever their compression, never out of their folder."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from kowalski.ml import archives
from kowalski.ml.archives import unpack
from kowalski.ml.specs import ModelError


def archive(path: Path, mode: str, *members: tuple[str, bytes] | tarfile.TarInfo) -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_the_ending_says_nothing_of_the_compression(tmp_path: Path, mode: str) -> None:
    source = archive(tmp_path / "a.tar.gz", mode, ("best/saved_model.pb", b"1"), ("best/variables/index", b"2"))
    unpack(source, tmp_path / "out")
    assert (tmp_path / "out" / "best" / "saved_model.pb").read_bytes() == b"1"
    assert (tmp_path / "out" / "best" / "variables" / "index").read_bytes() == b"2"


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil"])
def test_nothing_leads_out(tmp_path: Path, name: str) -> None:
    source = archive(tmp_path / "a.tar", "w", (name, b"evil"))
    with pytest.raises(ModelError, match="leads out of its folder"):
        unpack(source, tmp_path / "out")
    assert not list(tmp_path.glob("**/evil"))


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    members = []
    for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("pipe", tarfile.FIFOTYPE)):
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd"
        members.append(member)
    unpack(archive(tmp_path / "a.tar", "w", *members, ("good", b"1")), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good"]


def test_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_BYTES", 100)
    source = archive(tmp_path / "a.tar.gz", "w:gz", ("a", bytes(60)), ("b", bytes(60)))
    with pytest.raises(ModelError, match="more than 100 bytes"):
        unpack(source, tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00 cut off"])
def test_other_files_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.tar (is no readable tar archive|can't be unpacked)"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_a_cut_off_archive_is_named(tmp_path: Path) -> None:
    source = archive(tmp_path / "a.tar.gz", "w:gz", ("a", bytes(range(256)) * 400))
    source.write_bytes(source.read_bytes()[:300])
    with pytest.raises(ModelError, match="is no readable tar archive"):
        unpack(source, tmp_path / "out")
