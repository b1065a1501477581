"""maildrop/mbox/index.py: what is remembered equals what a scan finds, also when others change either."""

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popad.errors import MaildropChanged, MaildropUnavailable, MaildropUnreadable
from popad.maildrop.mbox import index, parallel
from popad.maildrop.mbox.file import take_signature
from popad.maildrop.mbox.index import HEADER, Index
from popad.maildrop.mbox.scan import Messages, Scan
from popad.maildrop.private import KEY
from popad.maildrop.sealed import DIGEST
from tests.support.box import ALL, MOST, ONE, THREE, TWO, Box, marks, texts
from tests.support.serving import Server


@pytest.fixture(autouse=True)
def all_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("popad.maildrop.mbox.store.LARGE", 1)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path, cached=True)
    yield box
    box.close()


def rows(messages: Messages) -> list[tuple[int, ...]]:
    return list(zip(messages.froms, messages.starts, messages.ends, messages.sizes, strict=True))


# -- what it saves


def test_an_unchanged_mailbox_is_not_read(box: Box) -> None:
    first = box.learn()
    second = box.open()
    assert second.octets == 0
    assert list(second.sizes) == list(first.sizes)
    assert list(second.id_numbers()) == list(first.id_numbers())
    assert second.octets == 0
    assert texts(second) == texts(first)


def test_ids_are_remembered_once_somebody_has_asked(box: Box) -> None:
    ids = list(box.learn(unique_ids=False).id_numbers())
    assert box.open().messages.ids.tolist() == ids
    store = box.open()
    assert list(store.id_numbers()) == ids


def test_ids_made_of_remembered_places(box: Box) -> None:
    box.learn(unique_ids=False)
    store = box.open()
    assert not store.messages.ids
    assert list(store.id_numbers()) == list(box.open(cached=False).id_numbers())


def test_of_a_grown_mailbox_the_new_part_is_scanned(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = list(box.learn().id_numbers())
    with box.path.open("ab") as file:
        file.write(ONE)
    scanned = []

    def scan(read: Callable[[int, int], bytes], size: int, most: int, known: Messages) -> Scan:
        scanned.append(known.end)
        return Scan(read, size, most, known)

    monkeypatch.setattr(index, "Scan", scan)
    store = box.open()
    assert scanned == [len(ONE + TWO)]  # the last message of before
    assert len(store.sizes) == 4
    assert store.messages.ids.tolist() == ids
    assert list(store.id_numbers()[:3]) == ids
    assert box.open().octets == 0


def test_another_file_with_the_same_mail_is_no_mailbox_that_has_grown(
    box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.learn()
    copy = box.path.with_name("copy")
    copy.write_bytes(box.path.read_bytes() + ONE)
    copy.replace(box.path)
    monkeypatch.setattr(index, "grown", lambda *_: pytest.fail("what is known is of another file"))
    assert len(box.open().sizes) == 4


def test_a_last_message_that_has_grown(box: Box) -> None:
    """A delivery that was cut short, and went on: the message is another now."""
    box.path.write_bytes(ALL + b"From d\nDate: 4")
    ids = list(box.learn().id_numbers())
    with box.path.open("ab") as file:
        file.write(b"4\n\nbody\n\n")
    store = box.open()
    assert store.messages.ids.tolist() == ids[:3]
    assert list(store.id_numbers()) == list(box.open(cached=False).id_numbers())
    assert store.id_numbers()[3] != ids[3]


@pytest.mark.parametrize("numbers", [(1,), (2,), (3,), (1, 3), (2, 3)])
@pytest.mark.parametrize("appended", [b"", b"From d\nDate: 4\n\nbody 4\n\n"])
def test_after_an_update_nothing_is_scanned(box: Box, numbers: tuple[int, ...], appended: bytes) -> None:
    store = box.learn()
    ids = store.id_numbers()
    with box.path.open("ab") as file:
        file.write(appended)
    store.remove(marks(store, *numbers))
    after = box.open()
    assert (after.octets == 0) == (not appended)
    full = box.open(cached=False)
    assert rows(after.messages) == rows(full.messages)
    assert (after.messages.end, after.messages.crc) == (full.messages.end, full.messages.crc)
    assert after.messages.ids.tolist() == [ids[number - 1] for number in (1, 2, 3) if number not in numbers]
    assert texts(after) == texts(full)


def test_after_an_update_the_mailbox_is_not_read_once_more(box: Box) -> None:
    """Its CRC comes from that of before, and of what went. The header of who is first now is looked at."""
    store = box.learn()
    store.octets = 0
    store.remove(marks(store, 1))
    first = store.messages.ends[1] - store.messages.starts[1]
    assert store.octets == store.messages.froms[1] + first
    assert box.open().octets == 0


def test_twins_keep_their_ids_when_the_first_goes(box: Box) -> None:
    """RFC 1939 section 7: an id stays, with the index and without."""
    box.path.write_bytes(ONE + ONE + TWO)
    store = box.learn()
    _, second, third = store.id_numbers()
    store.remove(marks(store, 1))
    assert list(box.open().id_numbers()) == [second, third]
    assert list(box.open(cached=False).id_numbers()) == [second, third]


def test_small_mailboxes_have_none(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    store = box.learn()
    monkeypatch.setattr("popad.maildrop.mbox.store.LARGE", len(ALL))
    store.remove(marks(store, 1))
    assert box.indexes == []
    box.open().id_numbers()
    assert box.indexes == []


# -- what others do to the mailbox


def same_size_same_times(path: Path) -> None:
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(ALL.index(b"body 2"))
        file.write(b"\nFrom ")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def rewritten_and_longer(path: Path) -> None:
    same_size_same_times(path)
    with path.open("ab") as file:
        file.write(ONE)


def replaced(path: Path) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(TWO + THREE + ONE)
    times = path.stat()
    os.utime(fresh, ns=(times.st_atime_ns, times.st_mtime_ns))
    fresh.rename(path)


CHANGES: list[Callable[[Path], None]] = [
    same_size_same_times,
    rewritten_and_longer,
    replaced,
    lambda path: os.truncate(path, len(ONE)),
    lambda path: os.truncate(path, 0),
    os.utime,
    Path.unlink,
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_sessions(box: Box, change: Callable[[Path], None]) -> None:
    box.learn()
    change(box.path)
    store, full = box.open(), box.open(cached=False)
    assert rows(store.messages) == rows(full.messages)
    assert list(store.id_numbers()) == list(full.id_numbers())
    assert texts(store) == texts(full)


@pytest.mark.parametrize("ids", [False, True])
@pytest.mark.parametrize("change", CHANGES[:-2])
def test_a_change_while_a_remembered_mailbox_is_open(box: Box, change: Callable[[Path], None], ids: bool) -> None:
    """The CRC that is remembered is the one of the mailbox as it was."""
    box.learn(ids)
    store = box.open()
    assert store.messages.remembered
    change(box.path)
    with pytest.raises(MaildropChanged):
        list(store.content(0))
    with pytest.raises(MaildropChanged):
        store.id_numbers()
    with pytest.raises(MaildropChanged):
        store.remove(marks(store, 1))


def test_the_index_of_another_session_stays(box: Box) -> None:
    """What it has left moves the messages: their borders are not where they were, and its index is right."""
    box.learn()
    store, other = box.open(), box.open()
    other.remove(marks(other, 1))
    for read in (store.prefetch, lambda number: list(store.content(number))):
        with pytest.raises(MaildropChanged):
            read(1)
    assert box.open().messages.remembered


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_glimpse_is_not_believed_before_it_is_confirmed(box: Box, number: int) -> None:
    box.learn()
    store = box.open()
    expected = texts(box.open(cached=False))[number]
    assert (store.prefetch(number), store.still_valid()) == (expected, True)
    with box.path.open("ab") as file:
        file.write(ONE)
    assert (store.prefetch(number), store.still_valid()) == (expected, False)
    assert store.still_valid() is False  # what has been read before the closer look
    assert (store.prefetch(number), store.still_valid()) == (expected, True)


def readable_up_to(bad: int) -> Callable[[int, int, int], bytes]:
    """pread(2) of a file from whose octet `bad` on the disk fails."""
    real = os.pread

    def pread(fd: int, count: int, offset: int) -> bytes:
        if offset >= bad:
            raise OSError(5, "Input/output error")
        return real(fd, min(count, bad - offset), offset)

    return pread


@pytest.mark.parametrize("bad", [len(ONE + TWO) - 1, len(ONE + TWO), len(ONE + TWO) + 2])
def test_a_border_that_cannot_be_read(box: Box, bad: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be where it was: that is no change, and no reason to forget."""
    box.learn()
    store = box.open()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", readable_up_to(bad))
        for read in (store.prefetch, lambda number: list(store.content(number))):
            with pytest.raises(MaildropUnreadable):
                read(1)
    assert texts(store) == texts(box.open(cached=False))
    assert box.open().messages.remembered


@pytest.mark.parametrize("remembered", [False, True])
@pytest.mark.parametrize(("number", "bad"), [(2, len(ALL) - 4), (1, len(ONE + TWO) - 4)])
def test_a_message_that_can_be_read_in_part(
    box: Box, remembered: bool, number: int, bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read ends before octets that cannot be read, and only the next one fails: nothing is believed to be all."""
    box.learn()
    store = box.open(cached=remembered)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", readable_up_to(bad))
        try:
            assert store.prefetch(number) == b""
        except MaildropUnreadable:
            assert remembered  # its borders cannot all be seen
        with pytest.raises(MaildropUnreadable):
            list(store.content(number))
    assert box.open().messages.remembered  # what cannot be seen is no reason to forget


def test_mail_that_comes_while_a_remembered_mailbox_is_open(box: Box) -> None:
    box.learn()
    store = box.open()
    with box.path.open("ab") as file:
        file.write(ONE)
    assert texts(store) == texts(box.open(cached=False))[:3]
    assert not store.messages.remembered  # it has been read, for the CRC


def test_times_in_the_future_are_not_believed(box: Box) -> None:
    """The clock was set back: until it is there again, a change may leave the times that there are."""
    future = time.time_ns() + 3600 * 10**9 + 1
    os.utime(box.path, ns=(future, future))
    box.open()
    assert box.indexes == []


def test_a_blank_line_of_a_removed_message_that_stays(box: Box) -> None:
    """What is behind it is not where it would be without."""
    before, dated = ONE[:-1], b"From d Thu Jan  1 00:00:00 1970\nDate: 4\n\nbody 4\n\n"
    box.path.write_bytes(before + dated + TWO + ONE + THREE)
    store = box.learn()
    store.remove(marks(store, 2, 4))
    assert box.path.read_bytes() == before + b"\n" + TWO + THREE
    assert outcome(box, cached=True) == outcome(box, cached=False)


def test_internal_data_of_c_client(box: Box) -> None:
    """It has no number and stays, remembered or not."""
    internal = (
        b"From m Thu Jan  1 00:00:00 1970\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
        b"X-IMAP: 0000000001 0000000002\n\nThis text is part of the internal format\n\n"
    )
    box.path.write_bytes(internal + ALL)
    assert texts(box.learn()) == [b"Date: %d\n\nbody %d\n" % (n, n) for n in (1, 2, 3)]
    with box.path.open("ab") as file:
        file.write(ONE)
    store = box.open()
    assert outcome(box, cached=True) == outcome(box, cached=False)
    assert len(store.sizes) == 4
    store.remove(marks(store, 1, 3))
    assert box.path.read_bytes() == internal + TWO + ONE
    assert outcome(box, cached=True) == outcome(box, cached=False)
    store = box.open()
    store.remove(marks(store, 1, 2))
    assert box.path.read_bytes() == internal
    assert [list(box.open(cached).sizes) for cached in (True, False)] == [[], []]


def test_a_letter_that_looks_like_internal_data(box: Box) -> None:
    """Or anybody could send mail that is there, can be neither seen nor deleted, and fills the disk."""
    letter = (
        b"From m Thu Jan  1 00:00:00 1970\nReceived: from a by b\nX-IMAP: 0000000001 0000000002\n"
        b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n\nHello\n\n"
    )
    box.path.write_bytes(letter + ALL)
    store = box.learn()
    assert len(store.sizes) == 4
    store.remove(marks(store, 1))
    assert box.path.read_bytes() == ALL


def test_internal_data_behind_a_message_that_goes(box: Box) -> None:
    """It was a message, and is none when it is the first: remembered or not."""
    internal = (
        b"From m Thu Jan  1 00:00:00 1970\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
        b"X-IMAP: 0000000001 0000000002\n\nThis text is part of the internal format\n\n"
    )
    box.path.write_bytes(ONE + internal + TWO + THREE)
    store = box.learn()
    assert len(store.sizes) == 4
    store.remove(marks(store, 1))
    assert outcome(box, cached=True) == outcome(box, cached=False)


def test_limits_are_those_of_a_scan(box: Box) -> None:
    box.learn()
    for cached in (True, False):
        with pytest.raises(MaildropUnavailable, match="more than 2 messages"):
            box.open(cached, max_messages=2)


LIES: list[tuple[bytes, int]] = [
    (ONE.replace(b"From", b"Form") + TWO + THREE, 0),
    (ONE.replace(b"From a\n", b"From a ") + TWO + THREE, 0),
    (ONE.replace(b"\n\nbody 1\n\n", b"\n\nbody 1\n ") + TWO + THREE, 0),
    (ONE.replace(b"\n\nbody 1\n\n", b"\n\nbody 1\n ") + TWO + THREE, 1),
    (ONE + TWO.replace(b"From b\n", b"From b ") + THREE, 1),
    (ONE + bytes(len(TWO + THREE)), 2),
]


@pytest.mark.parametrize(("content", "number"), LIES)
@pytest.mark.parametrize("first", ["content", "glimpse", "unique_ids", "remove"])
def test_a_mailbox_that_changes_and_does_not_show_it(box: Box, content: bytes, number: int, first: str) -> None:
    """A file system that has lost octets of a file and not its times: nothing is sent from where no message is."""
    known = box.learn(unique_ids=False).messages
    box.path.write_bytes(content)
    del known.ids[:]
    Index(box.index_files).store(known, take_signature(box.path.stat())[0])
    store = box.open()
    assert store.messages.remembered
    with pytest.raises(MaildropChanged, match="is not where it was"):
        if first == "content":
            list(store.content(number))
        elif first == "glimpse":
            store.prefetch(number)
        elif first == "unique_ids":
            store.id_numbers()
        else:
            store.remove(marks(store, number + 1))
    assert box.path.read_bytes() == content
    assert box.indexes == []


# -- what is no index


def test_damage_anywhere(box: Box) -> None:
    box.learn()
    octets = box.index.read_bytes()
    assert Index(box.index_files).load(MOST) is not None
    for place in range(len(octets)):
        damaged = bytearray(octets)
        damaged[place] ^= 1 << place % 8
        box.index.write_bytes(damaged)
        assert Index(box.index_files).load(MOST) is None, place
    for length in range(len(octets)):
        box.index.write_bytes(octets[:length])
        assert Index(box.index_files).load(MOST) is None, length
    box.index.write_bytes(octets + b"\0")
    assert Index(box.index_files).load(MOST) is None
    box.index.write_bytes(octets)
    assert Index(box.index_files).load(MOST) is not None


def test_an_index_of_another_mailbox_or_version(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.learn()
    other = box.cache.files_of(str(box.path) + "x")
    box.index.with_name(other.names[0]).touch(0o600)
    box.index.with_name(other.names[0]).write_bytes(box.index.read_bytes())
    assert Index(other).load(MOST) is None
    with monkeypatch.context() as patch:
        patch.setattr(index, "VERSION", b"popad0little")
        assert Index(box.index_files).load(MOST) is None
    monkeypatch.setattr(box.cache, "key", bytes(32))
    assert Index(box.index_files).load(MOST) is None


def test_a_file_of_any_size_costs_no_memory(box: Box) -> None:
    box.index.touch(0o600)
    os.truncate(box.index, 10**13)
    assert len(box.open().sizes) == 3


@pytest.mark.parametrize("make", ["symlink", "fifo", "directory", "open to others", "hard link"])
def test_files_that_are_not_believed(box: Box, make: str) -> None:
    box.learn()
    elsewhere = box.index.with_name("elsewhere")
    box.index.rename(elsewhere)
    octets = elsewhere.read_bytes()
    if make == "symlink":
        box.index.symlink_to(elsewhere)
    elif make == "fifo":
        os.mkfifo(box.index, 0o600)
    elif make == "directory":
        box.index.mkdir()
    elif make == "open to others":
        box.index.write_bytes(octets)
        box.index.chmod(0o644)
    else:
        os.link(elsewhere, box.index)
    store = box.open()
    assert store.octets >= len(ALL)
    assert elsewhere.read_bytes() == octets
    if make != "directory":
        assert box.open().octets == 0  # replaced
    assert box.indexes == sorted([box.index.name, "elsewhere"])


@given(st.lists(st.integers(-2, 3), min_size=9, max_size=9), st.integers(0, 80))
def test_numbers_that_make_no_sense(numbers: list[int], octets: int) -> None:
    """As somebody may write who knows the key."""
    content = b" ".join(b"%d" % number for number in numbers).ljust(HEADER) + bytes(octets)
    if unpacked := index.unpack(memoryview(content)):
        _, messages = unpacked
        assert 1 <= len(messages.froms) == len(messages.sizes) == numbers[7]
        assert len(messages.ids) == numbers[8]


@given(st.binary(max_size=HEADER + 100))
def test_octets_that_make_no_sense(content: bytes) -> None:
    assert index.unpack(memoryview(content)) is None


# -- storing


def test_what_is_stored_is_the_users_alone(box: Box) -> None:
    box.learn()
    status = box.index.stat()
    assert (status.st_mode & 0o7777, status.st_nlink, status.st_uid) == (0o600, 1, os.geteuid())
    assert status.st_size == DIGEST + HEADER + 3 * 40
    assert box.indexes == [box.index.name]


def test_what_a_session_left_that_died_is_replaced(box: Box) -> None:
    left = box.index.with_name(box.index.name + ".new")
    left.write_bytes(b"half an index")
    box.learn()
    assert box.indexes == [box.index.name]
    assert box.open().octets == 0


def test_a_full_disk(box: Box) -> None:
    """As much as there is room for is written; what was there before stays."""
    box.learn()
    octets = box.index.read_bytes()
    os.utime(box.path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(octets) - 1, limits[1]))
    try:
        store = box.open()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(texts(store)) == 3
    assert box.indexes == [box.index.name]
    assert box.index.read_bytes() == octets


def test_a_directory_that_is_gone(box: Box) -> None:
    (box.index.parent / KEY).unlink()
    box.index.parent.rmdir()
    store = box.open()
    assert len(texts(store)) == 3
    store.remove(marks(store, 1))
    assert box.path.read_bytes() == TWO + THREE


# -- whatever happens

lines = st.sampled_from(
    [b"From x\n", b"Date: 1\n", b"Date: 2\n", b"\n", b"\n", b"\r\n", b"body\n", b"body\r\n", b"From", b".\n", b"x"]
)
mails = st.lists(lines, max_size=6).map(lambda parts: b"From a\n" + b"".join(parts) + b"\n")
mailboxes = st.lists(mails, min_size=1, max_size=4).map(b"".join)
edits = st.one_of(
    st.tuples(st.just("append"), st.lists(lines, min_size=1, max_size=5).map(b"".join)),
    st.tuples(st.just("append"), mails),
    st.tuples(st.just("rewrite"), st.tuples(st.integers(0, 60), lines, st.booleans())),
    st.tuples(st.just("truncate"), st.integers(0, 60)),
    st.tuples(st.just("replace"), mailboxes),
    st.tuples(st.just("touch"), st.none()),
    st.tuples(st.just("damage"), st.integers(0, DIGEST + HEADER + 100)),
    st.tuples(st.just("cut"), st.integers(0, DIGEST + HEADER + 100)),
    st.tuples(st.just("bring back"), st.none()),
    st.tuples(st.just("update"), st.lists(st.booleans(), min_size=10, max_size=10)),
)


class Trial:
    """A mailbox in other programs' hands. `before` is the index of the first session."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.before = box.index.read_bytes() if box.index.exists() else b""

    def edit(self, how: str, what: object) -> None:
        path, place = self.box.path, self.box.index
        size = path.stat().st_size
        if how == "append" and isinstance(what, bytes):
            with path.open("ab") as file:
                file.write(what)
        elif how == "rewrite" and isinstance(what, tuple):
            where, octets, times_too = what
            times = path.stat()
            with path.open("r+b") as file:
                file.seek(min(where, max(size - len(octets), 0)))
                file.write(octets)
            if times_too:
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        elif how == "truncate" and isinstance(what, int):
            os.truncate(path, max(size - what, 0))
        elif how == "replace" and isinstance(what, bytes):
            path.with_name("fresh").write_bytes(what)
            path.with_name("fresh").rename(path)
        elif how == "touch":
            os.utime(path)
        elif how == "bring back":
            place.touch(0o600)
            place.write_bytes(self.before)
        elif place.exists() and isinstance(what, int):
            octets = bytearray(place.read_bytes())
            if how == "cut":
                place.write_bytes(octets[:what])
            elif octets:
                octets[what % len(octets)] ^= 0x21
                place.write_bytes(octets)

    def update(self, flags: list[bool]) -> None:
        try:
            store = self.box.open()
        except MaildropUnavailable:
            return
        which = bytearray(flag for flag, _ in zip(flags, store.sizes, strict=False))
        which += bytes(len(store.sizes) - len(which))
        if any(which):
            store.remove(which)


def outcome(box: Box, cached: bool) -> tuple[object, list[int]]:
    """What a session finds or why it does not, and the unique-ids."""
    try:
        store = box.open(cached)
    except MaildropUnavailable as unavailable:
        return (unavailable.code, unavailable.reason), []
    store.finish(wait=True)
    messages = store.messages
    return (rows(messages), messages.end, messages.crc, texts(store)), list(store.id_numbers())


whatever_others_do = st.lists(st.lists(edits, max_size=3), min_size=1, max_size=3)


@settings(max_examples=60)
@given(mailboxes, whatever_others_do)
def test_equal_to_a_scan(quick_path: Path, mailbox: bytes, rounds: list[list[tuple[str, object]]]) -> None:
    """Sessions, and between them whatever others do to the mailbox and to the index."""
    check_against_a_scan(quick_path, mailbox, rounds)


@settings(max_examples=20)  # each session forks
@given(mailboxes, whatever_others_do)
def test_equal_to_a_scan_by_two_processes(
    quick_path: Path, mailbox: bytes, rounds: list[list[tuple[str, object]]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "WORTH_IT", 1)
        patch.setattr(parallel, "SMALLEST", 20)
        patch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
        check_against_a_scan(quick_path, mailbox, rounds)


def check_against_a_scan(quick_path: Path, mailbox: bytes, rounds: list[list[tuple[str, object]]]) -> None:
    path = Path(tempfile.mkdtemp(dir=quick_path))
    box = Box(path, mailbox, cached=True)
    try:
        outcome(box, cached=True)
        trial = Trial(box)
        updated = False
        for steps in rounds:
            for how, what in steps:
                if how == "update" and isinstance(what, list):
                    trial.update(what)
                    updated = True
                else:
                    trial.edit(how, what)
            found, ids = outcome(box, cached=True)
            expected, made = outcome(box, cached=False)
            assert found == expected
            assert len(set(ids)) == len(made)
            if not updated:  # a twin keeps the id that it had while the first of them was there
                assert ids == made
            assert outcome(box, cached=True) == (found, ids)
    finally:
        box.close()
        shutil.rmtree(path)


# -- a session


def test_a_session_remembers_for_the_next(server: Server) -> None:
    """As the user, in a directory that root has opened."""
    body = b"x" * 70 + b"\n"
    server.deliver(b"".join(b"From a\nDate: %d\n\n" % number + body * 200 + b"\n" for number in range(100)))
    listings = []
    for _ in range(3):
        with server.session() as (client, _):
            assert client.log_in().startswith(b"+OK")
            client.ask("UIDL")
            listings.append(client.body())
            client.ask("RETR 100")
            listings.append(client.body())
            client.ask("QUIT")
        (file,) = (path for path in server.cache.iterdir() if path.name != KEY)
        assert file.stat().st_uid == server.mailbox.stat().st_uid
        assert file.stat().st_mode & 0o7777 == 0o600
    assert listings[:2] * 3 == listings


@pytest.mark.parametrize("make", ["off", "missing", "not a directory", "closed"])
def test_a_session_without_a_directory(server: Server, make: str) -> None:
    server.deliver(b"From a\nDate: 1\n\n" + (b"x" * 70 + b"\n") * 20_000)
    settings = {}
    if make == "off":
        settings["POPAD_CACHE"] = ""
    elif make == "closed":
        server.cache.chmod(0o700)
    else:
        server.cache.rmdir()
        if make == "not a directory":
            server.cache.touch()
    with server.session(settings) as (client, _):
        assert client.log_in().startswith(b"+OK")
        assert client.ask("STAT") == b"+OK 1 1440011"
        assert client.ask("DELE 1").startswith(b"+OK")
        assert client.ask("QUIT").startswith(b"+OK")
    assert server.mailbox.read_bytes() == b""
