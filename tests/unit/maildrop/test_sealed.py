"""maildrop/sealed.py: what is read is what was written, or nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.maildrop import sealed
from popad.maildrop.private import ForeignFile, PrivateFiles, SharedDirectory
from popad.maildrop.sealed import DIGEST, NEW

NAME, KIND, CONTENT = "name", b"kind", b"content!"


@pytest.fixture
def file(tmp_path: Path) -> Iterator[PrivateFiles]:
    state = SharedDirectory(str(tmp_path))
    yield state.files_of("/m")
    os.close(state.fd)


def load(file: PrivateFiles, name: str = NAME, kind: bytes = KIND, most: int = 100, unsealed: int = 0) -> bytes | None:
    found = sealed.load(file, name, kind, most, unsealed)
    return None if found is None else bytes(found)


@pytest.mark.parametrize("durable", [False, True])
def test_there_and_back(file: PrivateFiles, tmp_path: Path, durable: bool) -> None:
    sealed.store(file, NAME, KIND, CONTENT, durable)
    assert load(file) == CONTENT
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    sealed.store(file, NAME, KIND, b"", durable)
    assert load(file) == b""
    assert not (tmp_path / f"{NAME}{NEW}").exists()
    sealed.remove(file, NAME)
    sealed.remove(file, NAME)
    with pytest.raises(FileNotFoundError):
        load(file)


def test_what_is_not_believed(file: PrivateFiles, tmp_path: Path) -> None:
    sealed.store(file, NAME, KIND, CONTENT, durable=False)
    whole = (tmp_path / NAME).read_bytes()
    assert load(file, kind=b"other") is None
    assert load(file, most=len(CONTENT) - 1) is None
    (tmp_path / "copy").touch(0o600)
    (tmp_path / "copy").write_bytes(whole)
    assert load(file, "copy") is None
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        (tmp_path / NAME).write_bytes(changed)
        assert load(file) is None
        (tmp_path / NAME).write_bytes(whole[:place])
        assert load(file) is None
    (tmp_path / NAME).chmod(0o644)
    with pytest.raises(ForeignFile):
        load(file)


def test_the_last_octet_may_be_written_later(file: PrivateFiles, tmp_path: Path) -> None:
    sealed.store(file, NAME, KIND, CONTENT, durable=True, unsealed=1)
    with (tmp_path / NAME).open("r+b") as there:
        there.seek(DIGEST + len(CONTENT) - 1)
        there.write(b"?")
    assert load(file, unsealed=1) == CONTENT[:-1] + b"?"


def test_a_failure_leaves_the_old_file(file: PrivateFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed.store(file, NAME, KIND, CONTENT, durable=True)
    monkeypatch.setattr(os, "writev", lambda fd, parts: os.write(fd, parts[0]))
    with pytest.raises(OSError, match="No space left"):
        sealed.store(file, NAME, KIND, b"other", durable=True)
    assert load(file) == CONTENT
    assert not (tmp_path / f"{NAME}{NEW}").exists()


def test_what_a_dead_session_left_is_in_nobodys_way(file: PrivateFiles, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}{NEW}").write_bytes(b"half")
    sealed.store(file, NAME, KIND, CONTENT, durable=True)
    assert load(file) == CONTENT
