"""maildrop/mbox/parallel.py: two processes find what one finds, and one does what the other cannot."""

import os
import time
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox import parallel, scan
from popad.maildrop.mbox.crc import crc_of
from popad.maildrop.mbox.scan import Messages, Scan
from tests.support.descriptors import descriptors
from tests.support.mailboxes import REFUSED, SIZES, mailboxes
from tests.support.serving import children_of

Signature = tuple[int, int, int, int, int]
MAIL = b"From a\nDate: 1\n\nbody\n\n"


@pytest.fixture(autouse=True)
def two_processes_for_anything(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(parallel, "WORTH_IT", 1)
    monkeypatch.setattr(parallel, "SMALLEST", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    before = children_of(os.getpid())
    yield
    assert set(children_of(os.getpid())) <= set(before)  # nobody is left


class File:
    """A mailbox in memory, or wherever `read` finds it."""

    def __init__(self, read: Callable[[int, int], bytes], signature: Signature = (1, 2, 3, 4, 5)) -> None:
        self.read = read
        self.signature = signature

    def look(self) -> Signature:
        return self.signature

    def hold(self) -> None:
        pass


def scanned(read: Callable[[int, int], bytes], size: int, limit: int) -> Messages:
    """What two processes find, with the CRC that the second one tells, or one has to compute."""
    found, summing = parallel.scan(File(read), size, limit)
    if summing:
        found.crc, signature = summing.end() or (crc_of(read, 0, size), (1, 2, 3, 4, 5))
        assert signature == (1, 2, 3, 4, 5)
    return found


def rows(found: Messages) -> tuple[object, ...]:
    columns = (found.froms, found.starts, found.ends, found.sizes)
    return found.end, found.crc, [column.tolist() for column in columns]


def outcome(text: bytes, find: "object", limit: int = 100, slow: int = 0) -> object:
    def read(count: int, offset: int) -> bytes:
        if slow and os.getpid() == slow:
            time.sleep(0.01)
        return text[offset : offset + count]

    try:
        if find is Scan:
            return rows(Scan(read, len(text), limit).run())
        return rows(scanned(read, len(text), limit))
    except MaildropUnavailable as unavailable:
        return unavailable.code, unavailable.reason


def same(text: bytes, limit: int = 100, slow: int = 0) -> object:
    """`slow` is a process that the other one does not wait for."""
    expected = outcome(text, Scan, limit)
    assert outcome(text, parallel, limit, slow) == expected
    return expected


@pytest.mark.parametrize("text", [*REFUSED, *(text for text, _ in SIZES)])
def test_the_same_with_mail_before_and_behind(text: bytes) -> None:
    for whole in (text, MAIL * 3 + text, text + MAIL * 3, text + b"\n\n" + MAIL * 3):
        same(whole)


@settings(max_examples=40)
@given(st.lists(mailboxes, min_size=1, max_size=4).map(b"\n".join), st.integers(8, 64))
def test_any_mailbox(text: bytes, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module in (parallel, scan):
            patch.setattr(module, "BLOCK", block)
        same(text)


def test_many_messages() -> None:
    """More than a pipe holds."""
    count = max(2 * scan.BLOCK // len(MAIL) + 1, 18000)
    text = MAIL * count
    froms = list(range(0, len(text), len(MAIL)))
    found = same(text, limit=count)
    assert isinstance(found, tuple)
    assert found[:2] == (len(text), zlib.crc32(text))
    assert found[2][0] == froms


@pytest.mark.parametrize("limit", [1, 4, 5, 9])
def test_too_many_messages(limit: int) -> None:
    assert same(MAIL * 10, limit) == ("SYS/PERM", f"more than {limit} messages")


@pytest.mark.parametrize("octets", [0, 1, 8, 16, 32, 16 + 4 * 8 * 2, 16 + 4 * 8 * 2 + 8, 16 + 4 * 8 * 4])
def test_a_second_process_that_dies(octets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in its answer."""
    real, here, written = os.write, os.getpid(), 0

    def write(fd: int, data: bytes) -> int:
        nonlocal written
        if os.getpid() == here:
            return real(fd, data)
        count = real(fd, memoryview(data).cast("B")[: octets - written])
        written += count
        if written == octets:
            os._exit(1)
        return count

    monkeypatch.setattr(os, "write", write)
    same(MAIL * 10, slow=here)


def test_a_second_process_that_dies_over_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.getpid()
    text = MAIL * 10

    def read(count: int, offset: int) -> bytes:
        if os.getpid() != here and offset > len(text) // 2:
            os._exit(1)
        return text[offset : offset + count]

    assert rows(scanned(read, len(text), 10)) == outcome(text, Scan)


@pytest.mark.parametrize("call", ["fork", "pipe"])
def test_no_second_process_to_be_had(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise BlockingIOError

    monkeypatch.setattr(os, call, fail)
    before = descriptors()
    same(MAIL * 10)
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("why", ["one core", "small"])
def test_when_one_process_is_enough(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    if why == "small":
        monkeypatch.setattr(parallel, "WORTH_IT", len(MAIL * 10) + 1)
    else:
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1})
    same(MAIL * 10)


@pytest.mark.parametrize("slow", ["this one", "the second"])
def test_the_faster_process_does_more(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = MAIL * 8000
    here = os.getpid()
    read_here = 0

    def read(count: int, offset: int) -> bytes:
        nonlocal read_here
        read_here += count
        if (os.getpid() == here) == (slow == "this one"):
            time.sleep(0.05)
        return text[offset : offset + count]

    monkeypatch.setattr(parallel, "borders", lambda read, size: [*range(0, size, len(MAIL) * 1000), size])
    assert len(scanned(read, len(text), 8000).sizes) == 8000
    assert read_here < len(text) * 0.5 if slow == "this one" else read_here > len(text) * 0.5


@given(st.integers(0, 300), st.integers(1, 1000), st.integers(1, 200))
def test_borders(count: int, smallest: int, searched: int) -> None:
    """All but the ends are From lines, and a number of a part fits an octet."""
    text = MAIL * count
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "SMALLEST", smallest)
        patch.setattr(parallel, "SEARCHED", searched)
        begin, *places, end = parallel.borders(lambda count, offset: text[offset : offset + count], len(text))
    assert (begin, end) == (0, len(text))
    assert all(before < place for before, place in zip([0, *places], places, strict=False))
    assert not [place for place in places if place % len(MAIL) or place >= end]
    assert len(places) < 255


def test_a_large_message_is_not_searched_for_its_end() -> None:
    """What one process alone has to scan is read once, but for a few looks at where parts could begin."""
    text = MAIL + b"From b\nS: 1\n\n" + b"line\n" * 100_000
    read_here = 0

    def read(count: int, offset: int) -> bytes:
        nonlocal read_here
        read_here += count
        return text[offset : offset + count]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "SMALLEST", 50_000)
        patch.setattr(parallel, "SEARCHED", 1000)
        assert len(scanned(read, len(text), 2).sizes) == 2
    assert read_here < len(text) * 1.1


def test_a_mailbox_that_shrinks_meanwhile() -> None:
    def read(count: int, offset: int) -> bytes:
        return MAIL[:20][offset : offset + count]

    with pytest.raises(MaildropUnavailable) as unavailable:
        scanned(read, len(MAIL) * 10, 10)
    assert unavailable.value.code == "SYS/TEMP"
