"""maildrop/mbox/copying.py: octets are read, written and copied until all is done."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.maildrop.mbox import copying

TEXT = b"0123456789" * 10


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(TEXT)
    fd = os.open(tmp_path / "file", os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_spans_are_copied_one_after_the_other(fd: int, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Towards the front of the same file, too."""
    monkeypatch.setattr(copying, "BLOCK", block)
    copying.copy(fd, [(20, 25), (31, 33)], fd, 3)
    assert os.pread(fd, 100, 0) == TEXT[:3] + TEXT[20:25] + TEXT[31:33] + TEXT[10:]


def test_octets_of_spans(fd: int) -> None:
    assert copying.octets_of(fd, [(1, 3), (98, 100)]) == b"1289"


def test_a_file_that_ends_before(fd: int) -> None:
    with pytest.raises(OSError, match="end of file at octet 100, 101 expected"):
        copying.octets_of(fd, [(99, 101)])


def test_a_short_write_is_gone_on_with(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, place: real(fd, data[:2], place))
    copying.write(fd, b"abcde", 10)
    assert os.pread(fd, 7, 9) == b"9abcde5"


def test_pages() -> None:
    assert [copying.pages(octets) for octets in (0, 1, 4096, 4097)] == [0, 4096, 4096, 8192]
