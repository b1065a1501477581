"""maildrop/maildir/sizes.py: the size on the wire is what is sent, and what is remembered is what was stored."""

import os
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.maildrop.maildir import sizes
from popad.maildrop.maildir.directories import Look
from popad.maildrop.maildir.names import order_for
from popad.maildrop.maildir.sizes import FEW, Known, WireSize, measure, pack, unpack
from popad.maildrop.private import PrivateFiles, SharedDirectory
from popad.protocol.replies import body

pieces = st.lists(st.text("ab.\r\n", min_size=1, max_size=6).map(str.encode), max_size=8)


@given(pieces)
def test_it_is_what_is_sent(blocks: list[bytes]) -> None:
    """Octet for octet, but for the dots that are stuffed."""
    counted = WireSize()
    for block in blocks:
        counted.add(block)
    sent = b"".join(body(blocks))
    stuffed = sum(line.startswith(b".") for line in sent.split(b"\r\n"))
    assert counted.total == len(sent) - stuffed


@pytest.mark.parametrize(
    ("content", "size"), [(b"", 0), (b"a", 3), (b"a\n", 3), (b"a\r\n", 3), (b"a\r", 4), (b"\n\n", 4), (b"a\nb", 6)]
)
def test_measures(tmp_path: Path, content: bytes, size: int) -> None:
    (tmp_path / "m").write_bytes(content)
    with (tmp_path / "m").open("rb") as file:
        assert measure(file.fileno()) == size


def test_a_line_end_between_two_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "BLOCK", 2)
    (tmp_path / "m").write_bytes(b"a\r\nb\n\r\n")
    with (tmp_path / "m").open("rb") as file:
        assert measure(file.fileno()) == 8


LOOK = 1, 2, 3, 4


def filled(files: PrivateFiles | None, count: int, look: Look | None = LOOK) -> Known:
    known = Known(files, 1000)
    known.look = look
    known.names = [f"{n}.\udcff.h:2,S" for n in range(count)]
    known.in_new = bytearray(n % 2 for n in range(count))
    known.columns = [array("q", range(place, count + place)) for place in range(3)]
    return known


def parts(known: Known) -> tuple[Look | None, list[str], bytearray, list[list[int]]]:
    return known.look, known.names, known.in_new, [list(column) for column in known.columns]


NOTHING = parts(Known(None, 1000))


def test_what_is_remembered(tmp_path: Path) -> None:
    tmp_path.chmod(0o1733)
    directory = SharedDirectory(str(tmp_path))
    try:
        files = directory.files_of("/srv/m")
        assert parts(Known(files, 1000)) == NOTHING
        known = filled(files, FEW)
        known.store()
        assert parts(Known(files, 1000)) == parts(known)
        assert list(Known(files, 1000).rows_for(["3.\udcff.h"])) == [(3, 4, 5)]
        assert parts(Known(files, 0)) == NOTHING  # more than there may be
        assert parts(Known(directory.files_of("/srv/other"), 1000)) == NOTHING
        filled(files, FEW - 1).store()  # so few are read as fast
        assert parts(Known(files, 1000)) == NOTHING
    finally:
        directory.close()


def test_a_row_that_the_name_has_is_none() -> None:
    known = filled(None, 2)
    known.columns = [array("q", [7, 8]), array("q", [0, 1]), array("q", [0, 1])]
    assert list(known.rows_for([f"{n}.\udcff.h" for n in range(2)])) == [None, (8, 1, 1)]


usual = st.integers(1_600_000_000, 1_600_000_009).map(lambda n: f"{n}.h")
lists = st.lists(usual | st.sampled_from(["a", "9.h", "10.h", "1600000000", "~"]), unique=True)


@given(lists, lists)
def test_rows_are_those_of_their_names(there: list[str], wanted: list[str]) -> None:
    """Whatever has come and gone in between, and with other flags."""
    known = Known(None, 1000)
    known.names = sorted((f"{name}:2,S" for name in there), key=order_for(there))
    numbers = range(1, len(there) + 1)
    known.columns = [array("q", numbers) for _ in range(3)]
    rows = dict(zip((name[:-4] for name in known.names), numbers, strict=True))
    wanted.sort(key=order_for(wanted))
    assert list(known.rows_for(wanted)) == [(rows[name],) * 3 if name in rows else None for name in wanted]


def test_a_cache_that_takes_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(0o1733)
    directory = SharedDirectory(str(tmp_path))
    known = filled(directory.files_of("/srv/m"), FEW)
    os.close(directory.fd)
    directory.fd = os.open(os.devnull, os.O_RDONLY)
    known.store()  # it costs time, and no more
    filled(None, FEW).store()
    directory.close()


def read(octets: bytes) -> Known:
    known = Known(None, 1000)
    unpack(memoryview(octets), known)
    return known


@given(st.binary(max_size=200))
def test_what_was_never_stored(octets: bytes) -> None:
    known = read(octets)
    assert len(known.names) == len(known.in_new) == len(known.columns[0])


def test_what_nobody_stores() -> None:
    whole = pack(filled(None, 3))
    assert parts(read(whole)) == parts(filled(None, 3))
    for name in ("../../etc/passwd", "", "two\0names"):
        known = filled(None, 3)
        known.names[1] = name
        assert parts(read(pack(known))) == NOTHING
    for place in range(3):
        known = filled(None, 3)
        known.columns[place][2 - place] = -1
        assert parts(read(pack(known))) == NOTHING
    assert parts(read(pack(Known(None, 3)).replace(b" 0 0 ", b" 0 2 ") + b"ab")) == NOTHING  # names of nothing
    for wrong in (
        whole[:-1],
        whole + b"x",
        whole.replace(b"\0", b"x", 1),
        b"x" + whole,
        whole[:-1] + b"\xff",
    ):
        assert parts(read(wrong)) == NOTHING


@given(st.integers(0, 5), st.booleans())
def test_there_and_back(count: int, has_look: bool) -> None:
    known = filled(None, count, LOOK if has_look else None)
    again = read(pack(known))
    assert parts(again)[1:] == parts(known)[1:]
    assert again.look == (LOOK if has_look else sizes.NO_LOOK)
