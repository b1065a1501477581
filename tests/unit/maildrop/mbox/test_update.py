"""maildrop/rewrite.py: whatever instant an update dies, the next one finds each message that was not deleted.

The crashes are real: a forked child does the update and is gone after its n-th call of the operating system; what it
has written is there, what it has not is not. Power loss is another matter and needs another test: here the page cache
survives.
"""

import errno
import os
import random
import resource
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popad.maildrop.mbox import record, update
from popad.maildrop.private import SPARE
from tests.support.box import Box
from tests.support.here import ROOT

MESSAGES = [b"From %d\nDate: %d\n\n%b\n\n" % (n, n, bytes([97 + n]) * (n * 7 + 1)) for n in range(6)]
NEW = b"From new\nDate: 9\n\nmail from another program, meanwhile\n\n"
CALLS = ("pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate", "rename", "unlink", "open", "link")
DIED = 33


@pytest.fixture
def box(quick_path: Path) -> Iterator[Box]:
    path = quick_path / "rewrite"
    path.mkdir()
    box = Box(path, None)
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
    assert not box.redo_log.exists()


def make_small(patch: pytest.MonkeyPatch, page: int, most: int, guard: int = 16) -> None:
    """Windows of a few octets, so that a mailbox of a few messages moves in many: logged ones, and others."""
    for name, value in (("PAGE", page), ("WINDOW", most), ("GUARD", guard), ("BLOCK", 7)):
        patch.setattr(update, name, value)


@pytest.fixture(params=["one window", "windows"])
def windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "windows":
        make_small(monkeypatch, 32, 64)
    return str(request.param)


@pytest.mark.parametrize("appended", [b"", NEW, NEW * 50], ids=["", "append", "append much"])
@pytest.mark.parametrize("torn", [False, True], ids=["", "torn"])
@pytest.mark.parametrize("gone", CASES, ids=lambda gone: "-".join(map(str, sorted(gone))))
@pytest.mark.usefixtures("windows")
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
        assert not box.redo_log.exists()
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
def test_death_at_each_call_of_the_recovery(
    box: Box, gone: set[int], windows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice in a row, with mail from others after each death."""
    if windows != "one window":
        if gone != {1, 3}:
            pytest.skip("one case in many windows is a thousand deaths")
        make_small(monkeypatch, 64, 128)  # enough of them
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
            assert not box.redo_log.exists()
            if finished:
                break
            second += 1
        first += 1


message_lists = st.lists(st.integers(1, 90), min_size=1, max_size=6)


@settings(max_examples=200)
@given(message_lists, st.data())
def test_any_mailbox_dies_anywhere(quick_path: Path, lengths: list[int], data: st.DataObject) -> None:
    """Sizes down to an octet: the mark has less room than it wants, what moves is smaller or larger than what goes."""
    path = quick_path / "any"
    path.mkdir(exist_ok=True)
    with closing(Box(path, None)) as box, pytest.MonkeyPatch.context() as patch:
        page = data.draw(st.integers(16, 100))
        make_small(patch, page, page * data.draw(st.integers(1, 4)), data.draw(st.integers(0, 40)))
        dies_anywhere(box, lengths, data)


def dies_anywhere(box: Box, lengths: list[int], data: st.DataObject) -> None:
    messages = [bytes([65 + number]) * length for number, length in enumerate(lengths)]
    gone = data.draw(st.sets(st.integers(0, len(messages) - 1), min_size=1))
    appended = data.draw(st.sampled_from([b"", b"From x", NEW]))
    before, after = b"".join(messages), without(messages, gone)
    death, torn = data.draw(st.integers(0, 60)), data.draw(st.booleans())
    box.fill(before)
    dies(lambda: box.remove(spans_of(messages, gone)), death, torn)
    touched = box.content != before
    box.append(appended)
    for _ in range(data.draw(st.integers(0, 3))):
        dies(box.recover, data.draw(st.integers(0, 60)), torn)
        more = data.draw(st.sampled_from([b"", b"From y"]))
        box.append(more)
        appended += more
    assert not box.recover().kept
    assert box.content in (before + appended, after + appended)
    assert box.content == after + appended or not touched


@pytest.mark.parametrize("block", [1, 7, 64])
def test_blocks_do_not_matter(box: Box, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(update, "BLOCK", block)
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
    touched = box.content != b"".join(MESSAGES)
    assert not touched or box.recover().finished == failed
    box.recover()  # what may have begun, as the record may be on the disk
    assert box.content == without(MESSAGES, {1, 3}) or not touched
    assert box.content in (b"".join(MESSAGES), without(MESSAGES, {1, 3}))
    assert not box.unfinished


def full(patch: pytest.MonkeyPatch, room: int) -> None:
    """A file system where no file can have more than so many octets."""
    real = os.posix_fallocate

    def posix_fallocate(fd: int, offset: int, length: int) -> None:
        if offset + length > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(fd, offset, length)

    patch.setattr(os, "posix_fallocate", posix_fallocate)


def test_windows_are_as_large_as_there_is_room(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [b"From a\n\n" + bytes([97 + number]) * 30_000 + b"\n" for number in range(6)]
    for room in (record.SLOTS + 3 * update.PAGE, record.SLOTS + update.PAGE):
        with monkeypatch.context() as patch:
            full(patch, room)
            box.fill(b"".join([NEW, *messages]))
            box.remove(spans_of([NEW, *messages], {0}))
        assert box.content == b"".join(messages)
        assert box.spare.stat().st_size <= room
    with monkeypatch.context() as patch:
        full(patch, record.SLOTS + update.PAGE - 1)
        box.fill(b"".join([NEW, *messages]))
        with pytest.raises(OSError, match="POPAD_STATE"):
            box.remove(spans_of([NEW, *messages], {0}))
    assert box.content == b"".join([NEW, *messages])
    assert not box.unfinished


def test_a_plan_that_does_not_fit_is_done_in_parts(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of messages here and there, and no more room than the spare has."""
    chance = random.Random(1)
    messages = [b"From a\n\n%b\n" % (b"%d" % number * chance.randrange(200)) for number in range(4000)]
    gone = {number for number in range(4000) if chance.random() < 0.5}
    assert len(update.packed(update.joined(spans_of(messages, gone)))) > update.PAGE
    with monkeypatch.context() as patch:
        full(patch, record.SLOTS + 2 * update.PAGE)
        box.fill(b"".join(messages))
        box.remove(spans_of(messages, gone))
    assert box.content == without(messages, gone)
    assert not box.unfinished


def test_a_hole_gets_its_room_before_anything_is_touched(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.fill(MESSAGES[0])
    os.truncate(box.path, 1 << 20)
    box.append(NEW)
    content = box.content
    with monkeypatch.context() as patch:
        full(patch, 1 << 17)
        with pytest.raises(OSError, match="No space left"):
            box.remove([(0, len(MESSAGES[0]))])
    assert box.content == content
    assert not box.unfinished
    box.remove([(0, len(MESSAGES[0]))])
    assert box.content == content[len(MESSAGES[0]) :]


def test_short_writes_are_gone_on_with(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, place: real(fd, data[:5], place))
    box.fill(b"".join(MESSAGES))
    box.remove(spans_of(MESSAGES, {0}))
    assert box.content == without(MESSAGES, {0})


def test_a_journal_that_cannot_be_removed_costs_nobody_mail(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The update is done, and said to be. The mailbox is served; the next update begins when the journal is gone."""
    box.fill(b"".join(MESSAGES))

    def fails(*arguments: object, **options: object) -> None:
        raise OSError(5, "EIO")

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fails)
        patch.setattr(os, "rename", fails)
        box.remove(spans_of(MESSAGES, {1}))
        assert box.content == without(MESSAGES, {1})
        assert not box.recover().kept
        with pytest.raises(OSError, match="has not been finished"):
            box.remove(spans_of(MESSAGES, {0}))
    assert not box.recover().kept
    assert not box.redo_log.exists()
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
    assert not box.redo_log.exists()


@pytest.mark.parametrize("gone", [{1}, {1, 3}, {5}], ids=str)
def test_a_mailbox_with_two_names_is_found_half_moved_by_either(box: Box, gone: set[int]) -> None:
    """Whoever comes by the other name finishes what was begun, or nothing had begun; then both names work as before."""
    other = Box(box.path.parent, None, name="other")
    death = 0
    while True:
        box.fill(b"".join(MESSAGES))
        other.path.unlink(missing_ok=True)
        os.link(box.path, other.path)
        alive = not dies(lambda: box.remove(spans_of(MESSAGES, gone)), death)
        touched = box.content != b"".join(MESSAGES)
        if touched and not alive and box.unfinished:
            with pytest.raises(OSError, match="has not been finished"):
                other.remove([(0, 7)])
        other.append(NEW)
        assert not other.recover().kept
        assert not box.unfinished
        assert other.content == box.content
        assert box.content in (b"".join(MESSAGES) + NEW, without(MESSAGES, gone) + NEW)
        assert not touched or box.content == without(MESSAGES, gone) + NEW
        if alive:
            break
        death += 1
    assert death > 2 or gone == {5}
    other.close()


def test_the_other_name_is_the_only_one_left(box: Box) -> None:
    """Removed after the crash: the journal is the file's."""
    box.fill(b"".join(MESSAGES))
    other = Box(box.path.parent, None, name="other")
    os.link(box.path, other.path)
    for death in range(30):
        box.fill(b"".join(MESSAGES))
        assert dies(lambda: box.remove(spans_of(MESSAGES, {1})), death)
        if box.content != b"".join(MESSAGES):
            break
    box.path.unlink()
    assert other.recover().finished
    assert other.content == without(MESSAGES, {1})
    other.close()


@given(st.integers(1, 40))
def test_a_mark_is_no_run_of_nuls(room: int) -> None:
    mark = update.new_mark(room)
    assert len(mark) == min(room, update.MARK)
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


def record_of(box: Box, slot: int) -> record.Record | None:
    """What is in the first or second slot of the journal, if there is one."""
    text = box.redo_log.read_bytes() if box.redo_log.exists() else b""
    return record.Record.unpack(text[slot * record.SLOT : (slot + 1) * record.SLOT])


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
    with box.redo_log.open("r+b") as file:
        file.seek(record.SLOTS + 3)
        file.write(b"#")


def damage_the_window(box: Box) -> None:
    """In the journal, and where it came from."""
    damage_the_journal(box)
    change(box, len(MESSAGES[0] + MESSAGES[1]))


def link_the_journal(box: Box) -> None:
    os.link(box.redo_log, box.path.with_name("second name"))


def open_the_journal_to_others(box: Box) -> None:
    box.redo_log.chmod(0o620)


FOREIGN: dict[str, Callable[[Box], None]] = {
    "another file in the mailbox's place": replace,
    "mailbox changed before what moves": lambda box: change(box, 3),
    "mailbox changed behind what moves": lambda box: change(box, len(box.content) - 1),
    "mailbox shrunk": lambda box: os.truncate(box.path, len(box.content) - 1),
    "mailbox emptied": lambda box: os.truncate(box.path, 0),
    "what the journal keeps is damaged": damage_the_window,
    "journal has two names": link_the_journal,
    "others may write the journal": open_the_journal_to_others,
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_journal_is_kept_and_never_applied(interrupted: Box, what: str) -> None:
    FOREIGN[what](interrupted)
    mailbox, journal = interrupted.content, interrupted.redo_log.read_bytes()
    recovery = interrupted.recover()
    assert not recovery.finished
    assert recovery.reason
    assert interrupted.content == mailbox
    assert not interrupted.redo_log.exists()
    assert (interrupted.state_path / recovery.kept).read_bytes() == journal


def test_a_window_that_did_not_reach_the_journal_is_where_it_was(interrupted: Box) -> None:
    """The record is on the disk and the window is not: nothing of it was moved."""
    damage_the_journal(interrupted)
    assert interrupted.recover().finished
    assert interrupted.content == without(MESSAGES, {1})


@pytest.fixture
def moved(box: Box) -> Box:
    """Message 1 has gone, what stays has moved and is durable; the mailbox has not been cut to its size."""
    before = b"".join(MESSAGES)
    for death in range(30):
        box.fill(before)
        assert dies(lambda: box.remove(spans_of(MESSAGES, {1})), death)
        found = record_of(box, 1)
        if found and found.phase == record.MOVED:
            break
    assert len(box.content) == len(before)
    assert box.content.startswith(without(MESSAGES, {1}) + b"\0")
    return box


def test_the_part_that_moved_was_changed(moved: Box) -> None:
    change(moved, len(without(MESSAGES, {1})) - 3)
    content = moved.content
    recovery = moved.recover()
    assert (recovery.finished, recovery.reason) == (False, "the mailbox was changed before the part that moves")
    assert moved.content == content


@pytest.mark.parametrize("appended", [b"", NEW])
def test_the_cut_was_made_and_the_journal_does_not_know(moved: Box, appended: bytes) -> None:
    """Died between the truncate and the removal of the journal: what others appended is where it belongs."""
    os.truncate(moved.path, len(without(MESSAGES, {1})))
    moved.append(appended)
    assert moved.recover().finished
    assert moved.content == without(MESSAGES, {1}) + appended


def test_half_a_cut_is_made_whole(moved: Box) -> None:
    """The power failed when the truncate had cleared the end of the page, and the new size was not on the disk."""
    end = len(without(MESSAGES, {1}))
    with moved.path.open("r+b") as file:
        file.seek(end)
        file.write(bytes(len(MESSAGES[1])))
    assert moved.recover().finished
    assert moved.content == without(MESSAGES, {1})


def test_mail_of_the_size_of_what_went_is_not_taken_for_it(moved: Box) -> None:
    """Cut, and as much appended: the size is what it was."""
    os.truncate(moved.path, len(without(MESSAGES, {1})))
    moved.append(MESSAGES[1])
    assert moved.recover().finished
    assert moved.content == without(MESSAGES, {1}) + MESSAGES[1]


@pytest.mark.parametrize("make", ["symlink", "fifo", "directory"])
def test_what_is_no_file_is_no_journal(box: Box, make: str) -> None:
    """The directory is open to every user: whatever one of them puts there."""
    box.fill(b"".join(MESSAGES))
    target = box.path.with_name("target")
    target.write_bytes(b"precious")
    if make == "symlink":
        box.redo_log.symlink_to(target)
    elif make == "fifo":
        os.mkfifo(box.redo_log)
    else:
        box.redo_log.mkdir()
    recovery = box.recover()
    assert (recovery.finished, bool(recovery.reason)) == (False, True)
    assert target.read_bytes() == b"precious"
    assert box.content == b"".join(MESSAGES)


def test_a_journal_of_another_user(public_path: Path) -> None:
    """It cannot be renamed in a sticky directory: it stays, and is reported."""
    if not ROOT:
        pytest.skip("needs root: makes a file of another user")
    box = Box(public_path, None)
    box.state_path.chmod(0o1733)
    box.fill(b"".join(MESSAGES))
    os.chown(box.path, 65534, 65534)
    box.redo_log.write_bytes(b"planted")
    box.redo_log.chmod(0o666)
    os.chown(box.redo_log, 1, 1)
    pid = os.fork()
    if pid == 0:
        try:
            os.setresuid(65534, 65534, 65534)
            name = box.files.names[0]
            recovery = box.recover()
            if recovery.kept != name or recovery.finished:
                os._exit(1)
            # Mail can be deleted all the same; and an update that is interrupted then is found behind it.
            box.remove(spans_of(MESSAGES, {1}))
            dies(lambda: box.remove(spans_of(MESSAGES[:1] + MESSAGES[2:], {1})), 12)
            box.files.names.insert(0, name)  # the next session
            recovery = box.recover()
            os._exit(0 if recovery.kept == name and recovery.finished else 1)
        finally:
            os._exit(2)
    box.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert box.content == without(MESSAGES, {1, 2})
    assert box.redo_log.read_bytes() == b"planted"


def test_an_update_never_follows_what_stands_in_the_journals_place(box: Box) -> None:
    box.fill(b"".join(MESSAGES))
    target = box.path.with_name("target")
    target.write_bytes(b"precious")
    box.redo_log.symlink_to(target)
    with pytest.raises(OSError, match="has not been finished"):
        box.remove(spans_of(MESSAGES, {1}))
    assert target.read_bytes() == b"precious"
    assert box.content == b"".join(MESSAGES)


def test_journal_is_for_its_user_alone(interrupted: Box) -> None:
    assert stat.S_IMODE(interrupted.redo_log.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 8192, record.MAGIC + b"\n", b"\xff" * 10_000])
def test_a_journal_without_a_record_says_that_nothing_has_happened(box: Box, content: bytes) -> None:
    box.fill(b"".join(MESSAGES))
    box.redo_log.write_bytes(content)
    box.redo_log.chmod(0o600)
    recovery = box.recover()
    assert (recovery.finished, recovery.kept) == (False, "")
    assert box.content == b"".join(MESSAGES)
    assert not box.redo_log.exists()


def test_a_record_of_another_version_does_not_say_that_nothing_has_happened(interrupted: Box) -> None:
    """After an upgrade, say: what it cannot read may be half done."""
    text, _, _ = interrupted.redo_log.read_bytes()[: record.SLOT].rstrip(b"\0").rpartition(b"crc ")
    text = text.replace(record.MAGIC, b"popad update journal 9")
    with interrupted.redo_log.open("r+b") as file:
        file.write((text + b"crc %d\n" % zlib.crc32(text)).ljust(record.SLOT, b"\0"))
    recovery = interrupted.recover()
    assert (recovery.finished, recovery.reason) == (False, "it is of another version of popad")
    assert (interrupted.state_path / recovery.kept).exists()


def test_room_that_another_version_has_left_is_used(box: Box) -> None:
    """After a downgrade, say: what stands in it is of an update that is done. Nobody is kept from deleting mail."""
    box.fill(b"".join(MESSAGES))
    text = b"popad update journal 9\nphase done\n"
    slot = (text + b"crc %d\n" % zlib.crc32(text)).ljust(record.SLOT, b"\0")
    box.spare.write_bytes((slot + slot).ljust(SPARE, b"\0"))
    box.spare.chmod(0o600)
    there = box.spare.stat().st_ino
    box.remove(spans_of(MESSAGES, {0}))
    assert box.content == without(MESSAGES, {0})
    assert not box.unfinished
    assert box.spare.stat().st_ino == there
    assert box.recover().reason == ""


# -- what the version before this one has left


def as_version_2(box: Box, phase: bytes, gone: int) -> tuple[bytes, bytes]:
    """Its journal for an update that takes out one message, and the mark."""
    before = b"".join(MESSAGES)
    first = len(b"".join(MESSAGES[:gone]))
    moves = b"".join(MESSAGES[gone + 1 :])
    mark = b"\0" + b"m" * (min(update.MARK, len(MESSAGES[gone])) - 1)
    behind = before[first + len(moves) + len(mark) :]
    numbers = (
        1,
        box.path.stat().st_ino,
        first,
        len(before),
        len(moves),
        *map(zlib.crc32, (moves, before[:first], behind)),
    )
    lines = [record.MAGIC_2, b"phase " + phase, b"mark " + mark.hex().encode()]
    lines += [b"tail " + before[first:][-update.TAIL :].hex().encode(), b"mailbox /m"]
    lines += [b"%b %d" % (name.encode(), number) for name, number in zip(record.NUMBERS_2, numbers, strict=True)]
    text = b"\n".join(lines) + b"\n"
    box.redo_log.touch(0o600)
    box.redo_log.write_bytes((text + b"crc %d\n" % zlib.crc32(text)).ljust(record.SLOTS, b"\0") + moves)
    return moves, mark


@pytest.mark.parametrize("appended", [b"", NEW, NEW * 20], ids=["", "append", "append much"])
@pytest.mark.parametrize("gone", range(5))
@given(share=st.integers(0, 10), chance=st.randoms(use_true_random=False))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_update_of_the_version_before_is_finished(
    box: Box, gone: int, appended: bytes, share: int, chance: random.Random
) -> None:
    """Left half moved by a crash before the upgrade: what moves is old or new, octet for octet; and it dies again."""
    box.fill(b"".join(MESSAGES))
    moves, mark = as_version_2(box, b"moving", gone)
    place = len(b"".join(MESSAGES[:gone]))
    with box.path.open("r+b") as file:
        for offset, octet in enumerate(moves + mark):
            if chance.randrange(10) < share:
                file.seek(place + offset)
                file.write(bytes([octet]))
    box.append(appended)
    for _ in range(chance.randrange(3)):
        dies(box.recover, chance.randrange(20))
    assert not box.recover().kept
    assert box.content == without(MESSAGES, {gone}) + appended
    assert not box.unfinished


@pytest.mark.parametrize("appended", [b"", NEW, NEW * 20], ids=["", "append", "append much"])
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("gone", range(5))
def test_an_update_of_the_version_before_that_had_moved_all(box: Box, gone: int, cut: bool, appended: bytes) -> None:
    box.fill(b"".join(MESSAGES))
    moves, mark = as_version_2(box, b"moved", gone)
    with box.path.open("r+b") as file:
        file.seek(len(b"".join(MESSAGES[:gone])))
        file.write(moves + mark)
        if cut:
            file.truncate(file.tell() - len(mark))
    box.append(appended)
    assert box.recover().finished
    assert box.content == without(MESSAGES, {gone}) + appended


@pytest.mark.parametrize("place", [3, -3])
def test_an_update_of_the_version_before_of_a_mailbox_that_was_changed(box: Box, place: int) -> None:
    box.fill(b"".join(MESSAGES))
    as_version_2(box, b"moving", 1)
    change(box, place % len(box.content))
    content = box.content
    recovery = box.recover()
    assert (recovery.finished, bool(recovery.kept)) == (False, True)
    assert box.content == content


def test_no_journal(box: Box) -> None:
    box.fill(b"".join(MESSAGES))
    recovery = box.recover()
    assert (recovery.finished, recovery.kept) == (False, "")


def test_an_update_does_not_begin_while_another_is_not_finished(interrupted: Box) -> None:
    """Whoever died left this mailbox half moved: even cutting its end off would take away what recovery must see."""
    before, journal = interrupted.content, interrupted.redo_log.read_bytes()
    for gone in ({0}, {5}):
        with pytest.raises(OSError, match="has not been finished"):
            interrupted.remove(spans_of(MESSAGES, gone))
    assert (interrupted.content, interrupted.redo_log.read_bytes()) == (before, journal)
