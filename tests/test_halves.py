"""maildrop/halves.py: two processes find what one finds, and one does what the other cannot."""

import os
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popad.errors import MaildropUnavailable
from popad.maildrop import halves, scan
from popad.maildrop.scan import Messages, Scan
from tests.test_scan import REFUSED, SIZES, mailboxes

MAIL = b"From a\nDate: 1\n\nbody\n\n"


@pytest.fixture(autouse=True)
def two_halves_of_anything(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(halves, "WORTH_IT", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    yield
    with pytest.raises(ChildProcessError):  # nobody is left
        os.waitpid(-1, os.WNOHANG)


def rows(found: Messages) -> tuple[object, ...]:
    columns = (found.froms, found.starts, found.ends, found.sizes)
    return found.end, found.crc, [column.tolist() for column in columns]


def outcome(text: bytes, find: "object", limit: int = 100) -> object:
    def read(count: int, offset: int) -> bytes:
        return text[offset : offset + count]

    try:
        if find is Scan:
            return rows(Scan(read, len(text), limit).run())
        return rows(halves.scan(read, len(text), limit))
    except MaildropUnavailable as unavailable:
        return unavailable.code, unavailable.reason


def same(text: bytes, limit: int = 100) -> object:
    expected = outcome(text, Scan, limit)
    assert outcome(text, halves, limit) == expected
    return expected


@pytest.mark.parametrize("text", [*REFUSED, *(text for text, _ in SIZES)])
def test_the_same_with_mail_before_and_behind(text: bytes) -> None:
    for whole in (text, MAIL * 3 + text, text + MAIL * 3, text + b"\n\n" + MAIL * 3):
        same(whole)


@settings(max_examples=40)
@given(st.lists(mailboxes, min_size=1, max_size=4).map(b"\n".join), st.integers(8, 64))
def test_any_mailbox(text: bytes, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in (halves, scan):
            patch.setattr(module, "BLOCK", block)
        same(text)


def test_many_messages() -> None:
    """More than a pipe holds."""
    assert len(MAIL * 18000) > 2 * scan.BLOCK
    froms = list(range(0, len(MAIL) * 18000, len(MAIL)))
    found = same(MAIL * 18000, limit=18000)
    assert isinstance(found, tuple)
    assert found[:2] == (len(MAIL * 18000), zlib.crc32(MAIL * 18000))
    assert found[2][0] == froms


@pytest.mark.parametrize("limit", [1, 4, 5, 9])
def test_too_many_messages(limit: int) -> None:
    assert same(MAIL * 10, limit) == ("SYS/PERM", f"more than {limit} messages")


@pytest.mark.parametrize("octets", [0, 1, 8, 12, 24, 40, 24 + 4 * 8 * 2, 24 + 4 * 8 * 4])
def test_a_second_process_that_dies(octets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in its answer."""
    real, written = os.write, 0

    def write(fd: int, data: bytes) -> int:
        nonlocal written
        count = real(fd, memoryview(data).cast("B")[: octets - written])
        written += count
        if written == octets:
            os._exit(1)
        return count

    monkeypatch.setattr(os, "write", write)
    same(MAIL * 10)


@pytest.mark.parametrize("call", ["fork", "pipe"])
def test_no_second_process_to_be_had(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise BlockingIOError

    monkeypatch.setattr(os, call, fail)
    before = os.listdir("/proc/self/fd")
    same(MAIL * 10)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("why", ["one core", "small"])
def test_when_one_process_is_enough(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    if why == "small":
        monkeypatch.setattr(halves, "WORTH_IT", len(MAIL * 10) + 1)
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1})
    same(MAIL * 10)


def test_the_second_process_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A half each: this one reads no more."""
    text = MAIL * 10_000
    read_here = 0

    def read(count: int, offset: int) -> bytes:
        nonlocal read_here
        read_here += count
        return text[offset : offset + count]

    assert len(halves.scan(read, len(text), 10_000).sizes) == 10_000
    assert len(text) / 2 < read_here < len(text) * 0.6


def test_a_mailbox_that_shrinks_meanwhile() -> None:
    def read(count: int, offset: int) -> bytes:
        return MAIL[:20][offset : offset + count]

    with pytest.raises(MaildropUnavailable) as unavailable:
        halves.scan(read, len(MAIL) * 10, 10)
    assert unavailable.value.code == "SYS/TEMP"


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_crc_of_two_parts(one: bytes, other: bytes) -> None:
    assert halves.joined_crc(zlib.crc32(one), zlib.crc32(other), len(other)) == zlib.crc32(one + other)
