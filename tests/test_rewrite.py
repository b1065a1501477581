"""maildrop/rewrite.py: whatever instant an update dies, the next one finds each message that was not deleted.

The crashes are real: a forked child does the update and is gone after its n-th call of the operating system; what it
has written is there, what it has not is not. Power loss is another matter and needs another test: here the page cache
survives.
"""

import errno
import os
import resource
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popad.maildrop import rewrite
from popad.maildrop.state import JournalForeign, State

MESSAGES = [b"From %d\nDate: %d\n\n%b\n\n" % (n, n, bytes([97 + n]) * (n * 7 + 1)) for n in range(6)]
NEW = b"From new\nDate: 9\n\nmail from another program, meanwhile\n\n"
CALLS = ("pwrite", "fsync", "ftruncate", "unlink", "open", "link")
DIED = 33


class Box:
    """A mailbox and the place of its journal."""

    def __init__(self, path: Path) -> None:
        self.path = path / "mailbox"
        self.state = path / "state"
        self.state.mkdir(exist_ok=True)
        self.updates = State(str(self.state)).journal_of(str(self.path))
        self.journal = self.state / self.updates.names[0]

    def fill(self, content: bytes) -> None:
        self.path.write_bytes(content)
        self.journal.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self.updates.state.fd)

    @contextmanager
    def opened(self) -> Iterator[int]:
        fd = os.open(self.path, os.O_RDWR)
        try:
            yield fd
        finally:
            os.close(fd)

    def append(self, octets: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(octets)

    def remove(self, spans: list[tuple[int, int]]) -> None:
        with self.opened() as fd:
            rewrite.remove(fd, spans, self.updates)

    def recover(self) -> rewrite.Recovery:
        with self.opened() as fd:
            return rewrite.recover(fd, self.updates)

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()


@pytest.fixture
def box(quick_path: Path) -> Iterator[Box]:
    path = quick_path / "rewrite"
    path.mkdir()
    box = Box(path)
    yield box
    box.close()
    shutil.rmtree(path)


def spans_of(messages: list[bytes], gone: set[int]) -> list[tuple[int, int]]:
    """The places of the messages that go; neighbours stay separate spans, as mbox.py makes them."""
    spans, place = [], 0
    for number, message in enumerate(messages):
        if number in gone:
            spans.append((place, place + len(message)))
        place += len(message)
    return spans


def without(messages: list[bytes], gone: set[int]) -> bytes:
    return b"".join(message for number, message in enumerate(messages) if number not in gone)


def dies(work: Callable[[], object], after: int, torn: bool = False) -> bool:
    """Do `work` in a child that dies when it has made `after` calls. False where the work was done before.

    `torn`: the call that would be the next writes the first half of what it should, if it writes.
    """
    pid = os.fork()
    if pid == 0:
        try:
            count = 0

            def counted(name: str) -> Callable[..., object]:
                real = getattr(os, name)

                def call(*arguments: Any, **options: Any) -> object:
                    nonlocal count
                    if count == after:
                        if torn and name == "pwrite":
                            fd, data, place = arguments
                            real(fd, data[: len(data) // 2], place)
                        os._exit(DIED)
                    count += 1
                    return real(*arguments, **options)

                return call

            for name in CALLS:
                setattr(os, name, counted(name))
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, DIED)
    return status == DIED


CASES = [{0}, {2}, {0, 1}, {1, 3}, {0, 2, 4}, {4}, {5}, {3, 4, 5}, {0, 1, 2, 3, 4, 5}, {1, 2, 3}, {0, 5}]


@pytest.mark.parametrize("gone", CASES, ids=lambda gone: "-".join(map(str, sorted(gone))))
def test_remove(box: Box, gone: set[int]) -> None:
    box.fill(b"".join(MESSAGES))
    inode = box.path.stat().st_ino
    box.remove(spans_of(MESSAGES, gone))
    assert box.content == without(MESSAGES, gone)
    assert box.path.stat().st_ino == inode
    assert not box.journal.exists()


@pytest.mark.parametrize("appended", [b"", NEW, NEW * 50], ids=["", "append", "append much"])
@pytest.mark.parametrize("torn", [False, True], ids=["", "torn"])
@pytest.mark.parametrize("gone", CASES, ids=lambda gone: "-".join(map(str, sorted(gone))))
def test_death_at_each_call(box: Box, gone: set[int], torn: bool, appended: bytes) -> None:
    """Before the update counts, nothing has happened; from then on it is finished. Never anything else."""
    before, after = b"".join(MESSAGES), without(MESSAGES, gone)
    counts, outcomes = 0, []
    while True:
        box.fill(before)
        if not dies(lambda: box.remove(spans_of(MESSAGES, gone)), counts, torn):
            break
        touched = box.content != before
        box.append(appended)
        recovery = box.recover()
        assert not recovery.kept
        assert box.content in (before + appended, after + appended)
        assert not box.journal.exists()
        done = box.content == after + appended
        assert done or not touched
        assert recovery.finished <= done
        outcomes.append(done)
        assert not box.recover().finished  # once is enough
        counts += 1
    assert outcomes == sorted(outcomes), "an update that counted does not count any more"
    assert counts >= 2
    assert box.content == after


@pytest.mark.parametrize("gone", [{0}, {1, 3}, {0, 2, 4}], ids=str)
def test_death_at_each_call_of_the_recovery(box: Box, gone: set[int]) -> None:
    """Twice in a row, with mail from others after each death."""
    before, after = b"".join(MESSAGES), without(MESSAGES, gone)
    first = 0
    while True:
        second = 0
        while True:
            box.fill(before)
            if not dies(lambda: box.remove(spans_of(MESSAGES, gone)), first):
                return
            touched = box.content != before
            box.append(NEW)
            finished = not dies(box.recover, second)
            box.append(NEW[:9] + b"2" + NEW[9:])
            assert not box.recover().kept
            both = NEW + NEW[:9] + b"2" + NEW[9:]
            assert box.content in (before + both, after + both)
            assert box.content == after + both or not touched
            assert not box.journal.exists()
            if finished:
                break
            second += 1
        first += 1


message_lists = st.lists(st.integers(1, 90), min_size=1, max_size=6)


@settings(max_examples=60)
@given(message_lists, st.data())
def test_any_mailbox_dies_anywhere(quick_path: Path, lengths: list[int], data: st.DataObject) -> None:
    """Sizes down to an octet: the mark has less room than it wants, what moves is smaller or larger than what goes."""
    path = quick_path / "any"
    path.mkdir(exist_ok=True)
    with closing(Box(path)) as box:
        dies_anywhere(box, lengths, data)


def dies_anywhere(box: Box, lengths: list[int], data: st.DataObject) -> None:
    messages = [bytes([65 + number]) * length for number, length in enumerate(lengths)]
    gone = data.draw(st.sets(st.integers(0, len(messages) - 1), min_size=1))
    appended = data.draw(st.sampled_from([b"", b"From x", NEW]))
    before, after = b"".join(messages), without(messages, gone)
    death, torn = data.draw(st.integers(0, 14)), data.draw(st.booleans())
    box.fill(before)
    dies(lambda: box.remove(spans_of(messages, gone)), death, torn)
    touched = box.content != before
    box.append(appended)
    if data.draw(st.booleans()):
        dies(box.recover, data.draw(st.integers(0, 14)), torn)
    assert not box.recover().kept
    assert box.content in (before + appended, after + appended)
    assert box.content == after + appended or not touched


@pytest.mark.parametrize("block", [1, 7, 64])
def test_blocks_do_not_matter(box: Box, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(rewrite, "BLOCK", block)
    box.fill(b"".join(MESSAGES))
    box.remove(spans_of(MESSAGES, {1, 3}))
    assert box.content == without(MESSAGES, {1, 3})


@pytest.mark.parametrize("failing", range(12))
@pytest.mark.parametrize("number", [5, 28, 122], ids=["EIO", "ENOSPC", "EDQUOT"])
def test_an_error_instead_of_a_death(box: Box, monkeypatch: pytest.MonkeyPatch, failing: int, number: int) -> None:
    """A disk that is full meets us before the mailbox is touched; any error later is finished by the next session."""
    box.fill(b"".join(MESSAGES))
    count = 0

    def counted(name: str) -> Callable[..., object]:
        real = getattr(os, name)

        def call(*arguments: object) -> object:
            nonlocal count
            count += 1
            if count - 1 == failing:
                raise OSError(number, os.strerror(number))
            return real(*arguments)

        return call

    with monkeypatch.context() as patch:
        for name in ("pwrite", "fsync", "ftruncate"):
            patch.setattr(os, name, counted(name))
        try:
            box.remove(spans_of(MESSAGES, {1, 3}))
            failed = False
        except OSError as error:
            assert error.errno == number
            failed = True
    assert failed == (count > failing)
    if box.content == b"".join(MESSAGES):
        assert not box.journal.exists() or box.recover().finished
    else:
        assert box.recover().finished == failed
        assert box.content == without(MESSAGES, {1, 3})


def test_short_writes_are_gone_on_with(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, place: real(fd, data[:5], place))
    box.fill(b"".join(MESSAGES))
    box.remove(spans_of(MESSAGES, {0}))
    assert box.content == without(MESSAGES, {0})


def test_a_journal_that_cannot_be_removed_costs_nobody_mail(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The update is done, and said to be. The mailbox is served; the next update begins when the journal is gone."""
    box.fill(b"".join(MESSAGES))

    def unlink(*arguments: object, **options: object) -> None:
        raise OSError(5, "EIO")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        box.remove(spans_of(MESSAGES, {1}))
        assert box.content == without(MESSAGES, {1})
        assert not box.recover().kept
        with pytest.raises(OSError, match="has not been finished"):
            box.remove(spans_of(MESSAGES, {0}))
    assert not box.recover().kept
    assert not box.journal.exists()
    assert box.content == without(MESSAGES, {1})


def test_a_limit_on_files_meets_us_first(box: Box) -> None:
    """What is to be kept is small and the journal fits, but the mailbox is beyond the limit."""
    messages = [b"From a\n\n" + b"x" * 20_000 + b"\n", *MESSAGES]
    box.fill(b"".join(messages))
    pid = os.fork()
    if pid == 0:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (16_384, 16_384))
            box.remove(spans_of(messages, {1}))
        except OSError as error:
            os._exit(error.errno or 1)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == errno.EFBIG
    assert box.content == b"".join(messages)
    assert not box.journal.exists()


def test_a_mailbox_with_two_names_is_not_moved_about(box: Box) -> None:
    """Who came by the other name would find no journal. To cut off its end is safe."""
    box.fill(b"".join(MESSAGES))
    os.link(box.path, box.path.with_name("other"))
    with pytest.raises(OSError, match="several names"):
        box.remove(spans_of(MESSAGES, {1}))
    assert box.content == b"".join(MESSAGES)
    box.remove(spans_of(MESSAGES, {5}))
    assert box.content == without(MESSAGES, {5})


@given(st.integers(1, 40))
def test_a_mark_is_no_run_of_nuls(room: int) -> None:
    mark = rewrite.new_mark(room)
    assert len(mark) == min(room, rewrite.MARK)
    assert mark.startswith(b"\0")
    assert mark.count(0) == 1


def test_a_small_removal_still_notices_a_rewritten_mailbox(box: Box) -> None:
    """Less goes than the mark takes, so that no octet is behind it: the last octets tell."""
    messages = [b"From a\n\n", b"From b\n\n12345678\n", b"From c\nDate: 1\n\nabcdefgh\n\n"]
    for death in range(20):
        box.fill(b"".join(messages))
        assert dies(lambda: box.remove(spans_of(messages, {0})), death)
        if record_of(box, 0):
            break
    box.path.write_bytes(messages[0] + messages[2] + b"From d\n\nmail that came later\n")
    there = box.content
    recovery = box.recover()
    assert (recovery.finished, recovery.reason) == (False, "the end of the mailbox was changed")
    assert box.content == there


# -- journals that must not be applied


def record_of(box: Box, slot: int) -> rewrite.Record | None:
    """What is in the first or second slot of the journal, if there is one."""
    text = box.journal.read_bytes() if box.journal.exists() else b""
    return rewrite.Record.unpack(text[slot * rewrite.SLOT : (slot + 1) * rewrite.SLOT])


@pytest.fixture
def interrupted(box: Box) -> Box:
    """Message 1 is on its way out: the journal counts, the mailbox has not been touched."""
    before = b"".join(MESSAGES)
    for death in range(20):
        box.fill(before)
        assert dies(lambda: box.remove(spans_of(MESSAGES, {1})), death)
        if record_of(box, 0):
            break
    assert box.content == before
    return box


def change(box: Box, place: int) -> None:
    with box.path.open("r+b") as file:
        file.seek(place)
        file.write(b"#")


def replace(box: Box) -> None:
    fresh = box.path.with_name("fresh")
    fresh.write_bytes(box.content)
    fresh.rename(box.path)


def damage_the_journal(box: Box) -> None:
    with box.journal.open("r+b") as file:
        file.seek(rewrite.DATA + 3)
        file.write(b"#")


def link_the_journal(box: Box) -> None:
    os.link(box.journal, box.path.with_name("second name"))


def open_the_journal_to_others(box: Box) -> None:
    box.journal.chmod(0o620)


FOREIGN: dict[str, Callable[[Box], None]] = {
    "another file in the mailbox's place": replace,
    "mailbox changed before what moves": lambda box: change(box, 3),
    "mailbox changed behind what moves": lambda box: change(box, len(box.content) - 1),
    "mailbox shrunk": lambda box: os.truncate(box.path, len(box.content) - 1),
    "mailbox emptied": lambda box: os.truncate(box.path, 0),
    "what the journal keeps is damaged": damage_the_journal,
    "journal has two names": link_the_journal,
    "others may write the journal": open_the_journal_to_others,
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_journal_is_kept_and_never_applied(interrupted: Box, what: str) -> None:
    FOREIGN[what](interrupted)
    mailbox, journal = interrupted.content, interrupted.journal.read_bytes()
    recovery = interrupted.recover()
    assert not recovery.finished
    assert recovery.reason
    assert interrupted.content == mailbox
    assert not interrupted.journal.exists()
    assert (interrupted.state / recovery.kept).read_bytes() == journal


@pytest.fixture
def moved(box: Box) -> Box:
    """Message 1 has gone, what stays has moved and is durable; the mailbox has not been cut to its size."""
    before = b"".join(MESSAGES)
    for death in range(30):
        box.fill(before)
        assert dies(lambda: box.remove(spans_of(MESSAGES, {1})), death)
        record = record_of(box, 1)
        if record and record.phase == rewrite.MOVED:
            break
    assert len(box.content) == len(before)
    assert box.content.startswith(without(MESSAGES, {1}) + b"\0")
    return box


def test_the_part_that_moved_was_changed(moved: Box) -> None:
    change(moved, len(without(MESSAGES, {1})) - 3)
    content = moved.content
    recovery = moved.recover()
    assert (recovery.finished, recovery.reason) == (False, "the mailbox was changed in the part that moved")
    assert moved.content == content


@pytest.mark.parametrize("appended", [b"", NEW])
def test_the_cut_was_made_and_the_journal_does_not_know(moved: Box, appended: bytes) -> None:
    """Died between the truncate and the removal of the journal: what others appended is where it belongs."""
    os.truncate(moved.path, len(without(MESSAGES, {1})))
    moved.append(appended)
    assert moved.recover().finished
    assert moved.content == without(MESSAGES, {1}) + appended


@pytest.mark.parametrize("make", ["symlink", "fifo", "directory"])
def test_what_is_no_file_is_no_journal(box: Box, make: str) -> None:
    """The directory is open to every user: whatever one of them puts there."""
    box.fill(b"".join(MESSAGES))
    target = box.path.with_name("target")
    target.write_bytes(b"precious")
    if make == "symlink":
        box.journal.symlink_to(target)
    elif make == "fifo":
        os.mkfifo(box.journal)
    else:
        box.journal.mkdir()
    recovery = box.recover()
    assert (recovery.finished, bool(recovery.reason)) == (False, True)
    assert target.read_bytes() == b"precious"
    assert box.content == b"".join(MESSAGES)


def test_a_journal_of_another_user(public_path: Path) -> None:
    """It cannot be renamed in a sticky directory: it stays, and is reported."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes a file of another user")
    box = Box(public_path)
    box.state.chmod(0o1733)
    box.fill(b"".join(MESSAGES))
    os.chown(box.path, 65534, 65534)
    box.journal.write_bytes(b"planted")
    box.journal.chmod(0o666)
    os.chown(box.journal, 1, 1)
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(65534, 65534, 65534)
            name = box.updates.names[0]
            recovery = box.recover()
            if recovery.kept != name or recovery.finished:
                os._exit(1)
            # Mail can be deleted all the same; and an update that is interrupted then is found behind it.
            box.remove(spans_of(MESSAGES, {1}))
            dies(lambda: box.remove(spans_of(MESSAGES[:1] + MESSAGES[2:], {1})), 12)
            box.updates.names.insert(0, name)  # the next session
            recovery = box.recover()
            os._exit(0 if recovery.kept == name and recovery.finished else 1)
        finally:
            os._exit(2)
    box.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert box.content == without(MESSAGES, {1, 2})
    assert box.journal.read_bytes() == b"planted"


def test_an_update_never_follows_what_stands_in_the_journals_place(box: Box) -> None:
    box.fill(b"".join(MESSAGES))
    target = box.path.with_name("target")
    target.write_bytes(b"precious")
    box.journal.symlink_to(target)
    with pytest.raises(OSError, match="has not been finished"):
        box.remove(spans_of(MESSAGES, {1}))
    assert target.read_bytes() == b"precious"
    assert box.content == b"".join(MESSAGES)


def test_journal_is_for_its_user_alone(interrupted: Box) -> None:
    assert stat.S_IMODE(interrupted.journal.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 8192, rewrite.MAGIC + b"\n", b"\xff" * 10_000])
def test_a_journal_without_a_record_says_that_nothing_has_happened(box: Box, content: bytes) -> None:
    box.fill(b"".join(MESSAGES))
    box.journal.write_bytes(content)
    box.journal.chmod(0o600)
    recovery = box.recover()
    assert (recovery.finished, recovery.kept) == (False, "")
    assert box.content == b"".join(MESSAGES)
    assert not box.journal.exists()


def test_a_record_of_another_version_does_not_say_that_nothing_has_happened(interrupted: Box) -> None:
    """After an upgrade, say: what it cannot read may be half done."""
    text, _, _ = interrupted.journal.read_bytes()[: rewrite.SLOT].rstrip(b"\0").rpartition(b"crc ")
    text = text.replace(rewrite.MAGIC, b"popad update journal 9")
    with interrupted.journal.open("r+b") as file:
        file.write((text + b"crc %d\n" % zlib.crc32(text)).ljust(rewrite.SLOT, b"\0"))
    recovery = interrupted.recover()
    assert (recovery.finished, recovery.reason) == (False, "it is of another version of popad")
    assert (interrupted.state / recovery.kept).exists()


def test_no_journal(box: Box) -> None:
    box.fill(b"".join(MESSAGES))
    recovery = box.recover()
    assert (recovery.finished, recovery.kept) == (False, "")


# -- records


numbers = st.integers(0, 2**63)
records = st.builds(
    rewrite.Record,
    st.sampled_from([rewrite.MOVING, rewrite.MOVED]),
    st.binary(min_size=1, max_size=16),
    st.binary(max_size=64),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=40),
    **dict.fromkeys(rewrite.Record.NUMBERS, numbers),
)


@given(records)
def test_record_there_and_back(record: rewrite.Record) -> None:
    slot = record.pack()
    assert len(slot) == rewrite.SLOT
    read = rewrite.Record.unpack(slot)
    assert read is not None
    assert vars(read) == vars(record)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"phase moving\n", b"phase over\n"),
        (b"phase moving\n", b""),
        (b"phase moving\n", b"phase moving\nx\n"),
        (b"mark 6d\n", b"mark 6\n"),
        (b"tail 74\n", b""),
        (b"first 7\n", b"first -7\n"),
        (b"first 7\n", b"first x\n"),
    ],
)
def test_a_record_that_is_whole_and_not_ours(old: bytes, new: bytes) -> None:
    """Its CRC is right, so no crash made it: nothing of it is applied, nothing thrown away."""
    record = rewrite.Record(rewrite.MOVING, b"m", b"t", "/mail/alice", **dict.fromkeys(rewrite.Record.NUMBERS, 7))
    text = record.pack().rpartition(b"crc ")[0]
    assert old in text
    text = text.replace(old, new)
    slot = (text + b"crc %d\n" % zlib.crc32(text)).ljust(rewrite.SLOT, b"\0")
    with pytest.raises(JournalForeign):
        rewrite.Record.unpack(slot)


@given(records, st.data())
def test_a_damaged_record_is_none(record: rewrite.Record, data: st.DataObject) -> None:
    slot = bytearray(record.pack())
    text = len(bytes(slot).rstrip(b"\0"))
    place = data.draw(st.integers(0, text - 1))
    slot[place] ^= data.draw(st.integers(1, 255))
    assert rewrite.Record.unpack(bytes(slot)) is None
    assert rewrite.Record.unpack(bytes(record.pack()[:place])) is None


PATHS = [
    "/var/mail/alice",
    "/a\nsize 0\nb",
    "/\udcff",
    "/" + "x" * 2000,
    *("/" + "x" * n + "ä" * 300 for n in range(4)),
]


@pytest.mark.parametrize("mailbox", PATHS, ids=range(len(PATHS)))
def test_a_record_shows_the_mailbox_and_nothing_in_its_name_is_a_line(mailbox: str) -> None:
    record = rewrite.Record(rewrite.MOVING, b"m", b"", mailbox, **dict.fromkeys(rewrite.Record.NUMBERS, 7))
    read = rewrite.Record.unpack(record.pack())
    assert read is not None
    assert (read.size, read.phase) == (7, rewrite.MOVING)
    assert b"mailbox /" in record.pack()
    assert mailbox.startswith(read.mailbox.removesuffix("\\")) or read.mailbox == mailbox


def test_an_update_does_not_begin_while_another_is_not_finished(interrupted: Box) -> None:
    """Whoever died left this mailbox half moved: even cutting its end off would take away what recovery must see."""
    before, journal = interrupted.content, interrupted.journal.read_bytes()
    for gone in ({0}, {5}):
        with pytest.raises(OSError, match="has not been finished"):
            interrupted.remove(spans_of(MESSAGES, gone))
    assert (interrupted.content, interrupted.journal.read_bytes()) == (before, journal)
