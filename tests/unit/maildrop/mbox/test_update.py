"""maildrop/mbox/update.py: whatever instant an update dies, the next one finds each message that was not deleted.

A death is played in this process: from the n-th call of the operating system on, nothing reaches the files. Killed
processes and power failures, which lose what the page cache had, are for tests/faults.
"""

import errno
import os
import random
import resource
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popad.maildrop.mbox import copying, plan, record, update
from tests.support.box import Box
from tests.support.updates import MESSAGES, NEW, dies, record_of, spans_of, without


@pytest.fixture
def box(update_box: Box) -> Box:
    return update_box


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
    for name, value in (("PAGE", page), ("WINDOW", most), ("BLOCK", 7)):
        patch.setattr(copying, name, value)
    patch.setattr(update, "GUARD", guard)


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
    monkeypatch.setattr(copying, "BLOCK", block)
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
    for room in (record.SLOTS + 3 * copying.PAGE, record.SLOTS + copying.PAGE):
        with monkeypatch.context() as patch:
            full(patch, room)
            box.fill(b"".join([NEW, *messages]))
            box.remove(spans_of([NEW, *messages], {0}))
        assert box.content == b"".join(messages)
        assert box.spare.stat().st_size <= room
    with monkeypatch.context() as patch:
        full(patch, record.SLOTS + copying.PAGE - 1)
        box.fill(b"".join([NEW, *messages]))
        with pytest.raises(OSError, match="POPAD_STATE"):
            box.remove(spans_of([NEW, *messages], {0}))
    assert box.content == b"".join([NEW, *messages])
    assert not box.unfinished


def test_a_change_right_behind_the_window_is_noticed(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further from the end than the octets of it that a record has: they are as they were."""
    messages = [NEW, *(b"From a\n\n" + bytes([97 + number]) * 30_000 + b"\n" for number in range(6))]
    before = b"".join(messages)
    there = None
    with monkeypatch.context() as patch:
        full(patch, record.SLOTS + copying.PAGE)
        for death in range(20):
            box.fill(before)
            assert dies(lambda: box.remove(spans_of(messages, {0})), death)
            if there := record_of(box, 0):
                break
    assert there
    assert box.content == before
    assert there.rest < there.size - update.TAIL
    with box.path.open("r+b") as file:
        file.seek(there.rest)
        file.write(b"#")
    changed = box.content
    recovery = box.recover()
    assert not recovery.finished
    assert recovery.reason
    assert box.content == changed


def test_a_plan_that_does_not_fit_is_done_in_parts(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of messages here and there, and no more room than the spare has."""
    chance = random.Random(1)
    messages = [b"From a\n\n%b\n" % (b"%d" % number * chance.randrange(200)) for number in range(4000)]
    gone = {number for number in range(4000) if chance.random() < 0.5}
    assert len(plan.packed(plan.joined(spans_of(messages, gone)))) > copying.PAGE
    with monkeypatch.context() as patch:
        full(patch, record.SLOTS + 2 * copying.PAGE)
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


def test_a_redo_log_that_cannot_be_removed_costs_nobody_mail(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The update is done, and said to be. The mailbox is served; the next update begins when the redo log is gone."""
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
    """What is to be kept is small and the redo log fits, but the mailbox is beyond the limit."""
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
    """Removed after the crash: the redo log is the file's."""
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
