"""maildrop/mbox/record.py: a record there and back, damaged, made up, and of the version before."""

import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.maildrop.mbox.crc import joined_crc
from popad.maildrop.mbox.record import DONE, MAGIC_2, MOVED, MOVING, NUMBERS_2, SLOT, SLOTS, Record, current_record
from popad.maildrop.private import ForeignFile

SENSIBLE = {"first": 7, "size": 50, "gone": 9, "target": 8, "length": 5, "data": SLOTS, "sequence": 3}


@st.composite
def numbers(draw: st.DrawFn) -> dict[str, int]:
    """Of any record that can be: each number has its place."""
    any_number = st.integers(0, 2**62)
    found = dict.fromkeys(Record.NUMBERS, 0) | {name: draw(any_number) for name in Record.NUMBERS}
    found["gone"] = draw(st.integers(16, 2**62))
    found["size"] = found["gone"] + draw(any_number)
    end = found["size"] - found["gone"]
    found["target"] = draw(st.integers(0, end))
    found["first"] = draw(st.integers(0, found["target"]))
    found["before"] = draw(st.integers(0, found["target"]))
    found["length"] = draw(st.integers(0, end - found["target"]))
    found["data"] = SLOTS + found["plan"]
    return found


records = st.builds(
    lambda mark, mailbox, phase, tail, found: Record(mark, mailbox, phase, tail, **found),
    st.binary(min_size=1, max_size=16),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=40),
    st.sampled_from([MOVING, MOVED, DONE]),
    st.binary(max_size=64),
    numbers(),
)


def sealed(text: bytes) -> bytes:
    """A slot with this text and its CRC."""
    return (text + b"crc %d\n" % zlib.crc32(text)).ljust(SLOT, b"\0")


@given(records)
def test_record_there_and_back(record: Record) -> None:
    slot = record.pack()
    assert len(slot) == SLOT
    read = Record.unpack(slot)
    assert read is not None
    assert vars(read) == vars(record)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"phase moving\n", b"phase over\n"),
        (b"phase moving\n", b""),
        (b"phase moving\n", b"phase moving\nx\n"),
        (b"mark 6d\n", b"mark 6\n"),
        (b"mark 6d\n", b"mark \n"),
        (b"mark 6d\n", b"mark 6d6d6d6d6d6d6d6d6d6d\n"),  # longer than what goes
        (b"tail 74\n", b""),
        (b"first 7\n", b"first -7\n"),
        (b"first 7\n", b"first x\n"),
        (b"first 7\n", b"first 9\n"),  # behind the window
        (b"target 8\n", b"target 6\n"),
        (b"target 8\n", b"target 37\n"),  # the window would end behind N
        (b"before 0\n", b"before 9\n"),
        (b"plan 0\n", b"plan 1\n"),  # where the window is
    ],
)
def test_a_record_that_is_whole_and_not_ours(old: bytes, new: bytes) -> None:
    """Its CRC is right, so no crash made it: nothing of it is applied, nothing thrown away."""
    text = Record(b"m", "/mail/alice", MOVING, b"t", **SENSIBLE).pack().rpartition(b"crc ")[0]
    assert Record.unpack(sealed(text)) is not None
    assert old in text
    with pytest.raises(ForeignFile):
        Record.unpack(sealed(text.replace(old, new)))


@given(records, st.data())
def test_a_damaged_record_is_none(record: Record, data: st.DataObject) -> None:
    slot = bytearray(record.pack())
    text = len(bytes(slot).rstrip(b"\0"))
    place = data.draw(st.integers(0, text - 1))
    slot[place] ^= data.draw(st.integers(1, 255))
    assert Record.unpack(bytes(slot)) is None
    assert Record.unpack(bytes(record.pack()[:place])) is None


PATHS = [
    "/var/mail/alice",
    "/a\nsize 0\nb",
    "/\udcff",
    "/" + "x" * 2000,
    *("/" + "x" * n + "ä" * 300 for n in range(4)),
]


@pytest.mark.parametrize("mailbox", PATHS, ids=range(len(PATHS)))
def test_a_record_shows_the_mailbox_and_nothing_in_its_name_is_a_line(mailbox: str) -> None:
    record = Record(b"m", mailbox, MOVING, b"", **SENSIBLE)
    read = Record.unpack(record.pack())
    assert read is not None
    assert (read.size, read.phase) == (50, MOVING)
    assert b"mailbox /" in record.pack()
    assert mailbox.startswith(read.mailbox.removesuffix("\\")) or read.mailbox == mailbox


def test_the_record_with_the_higher_number_counts(tmp_path: Path) -> None:
    """A new one goes to the other slot; a torn one is none."""
    older, newer = (Record(b"m", "/m", MOVING, b"", **(SENSIBLE | {"sequence": number})) for number in (9, 10))
    for content, wanted in (
        (older.pack() + newer.pack(), 10),
        (newer.pack() + older.pack(), 10),
        (older.pack() + newer.pack()[:100], 9),
        (bytes(SLOT) + older.pack(), 9),
        (b"", None),
    ):
        (tmp_path / "journal").write_bytes(content)
        fd = os.open(tmp_path / "journal", os.O_RDONLY)
        found = current_record(fd)
        os.close(fd)
        assert (found and found.sequence) == wanted


def version_2(phase: bytes, words: Mapping[str, int]) -> bytes:
    """A slot as the version before wrote it."""
    lines = [MAGIC_2, b"phase " + phase, b"mark 00ffff", b"tail 7461", b"mailbox /mail/alice"]
    return sealed(b"\n".join([*lines, *(b"%b %d" % (name.encode(), number) for name, number in words.items())]) + b"\n")


WORDS_2 = dict(zip(NUMBERS_2, (4, 11, 100, 500, 300, 21, 22, 23), strict=True))


def test_what_was_moving_is_one_window() -> None:
    record = Record.unpack(version_2(b"moving", WORDS_2))
    assert record is not None
    assert (record.phase, record.sequence, record.inode) == (MOVING, 4, 11)
    assert (record.first, record.size, record.end, record.gone) == (100, 500, 400, 100)
    assert (record.target, record.length, record.logged, record.crc_window, record.data) == (100, 300, 1, 21, SLOTS)
    assert (record.before, record.crc_before) == (100, 22)
    assert (record.rest, record.behind, record.crc_behind) == (403, 97, 23)


def test_what_has_moved_is_all_before_the_end() -> None:
    record = Record.unpack(version_2(b"moved", WORDS_2))
    assert record is not None
    assert (record.phase, record.target, record.length, record.logged) == (MOVED, 400, 0, 0)
    assert (record.before, record.crc_before) == (400, joined_crc(22, 21, 300))
    assert (record.rest, record.behind, record.crc_behind) == (403, 97, 23)


@pytest.mark.parametrize("word", WORDS_2)
def test_a_record_of_the_version_before_that_is_not_its(word: str) -> None:
    words = {name: number for name, number in WORDS_2.items() if name != word}
    with pytest.raises(ForeignFile):
        Record.unpack(version_2(b"moving", words))
