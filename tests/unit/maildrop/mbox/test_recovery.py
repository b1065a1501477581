"""maildrop/mbox/recovery.py: what is finished of an update that died, and which redo logs are never applied."""

import os
import random
import stat
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popad.maildrop.mbox import record, update
from popad.maildrop.private import SPARE
from tests.support.box import Box
from tests.support.here import ROOT
from tests.support.updates import MESSAGES, NEW, dies, record_of, spans_of, without


@pytest.fixture
def box(update_box: Box) -> Box:
    return update_box


# -- redo logs that must not be applied


@pytest.fixture
def interrupted(box: Box) -> Box:
    """Message 1 is on its way out: the redo log counts, the mailbox has not been touched."""
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


def damage_the_redo_log(box: Box) -> None:
    with box.redo_log.open("r+b") as file:
        file.seek(record.SLOTS + 3)
        file.write(b"#")


def damage_the_window(box: Box) -> None:
    """In the redo log, and where it came from."""
    damage_the_redo_log(box)
    change(box, len(MESSAGES[0] + MESSAGES[1]))


def link_the_redo_log(box: Box) -> None:
    os.link(box.redo_log, box.path.with_name("second name"))


def open_the_redo_log_to_others(box: Box) -> None:
    box.redo_log.chmod(0o620)


FOREIGN: dict[str, Callable[[Box], None]] = {
    "another file in the mailbox's place": replace,
    "mailbox changed before what moves": lambda box: change(box, 3),
    "mailbox changed behind what moves": lambda box: change(box, len(box.content) - 1),
    "mailbox shrunk": lambda box: os.truncate(box.path, len(box.content) - 1),
    "mailbox emptied": lambda box: os.truncate(box.path, 0),
    "what the redo log keeps is damaged": damage_the_window,
    "redo log has two names": link_the_redo_log,
    "others may write the redo log": open_the_redo_log_to_others,
}


@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_redo_log_is_kept_and_never_applied(interrupted: Box, what: str) -> None:
    FOREIGN[what](interrupted)
    mailbox, redo_log = interrupted.content, interrupted.redo_log.read_bytes()
    recovery = interrupted.recover()
    assert not recovery.finished
    assert recovery.reason
    assert interrupted.content == mailbox
    assert not interrupted.redo_log.exists()
    assert (interrupted.state_path / recovery.kept).read_bytes() == redo_log


def test_a_window_that_did_not_reach_the_redo_log_is_where_it_was(interrupted: Box) -> None:
    """The record is on the disk and the window is not: nothing of it was moved."""
    damage_the_redo_log(interrupted)
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
def test_the_cut_was_made_and_the_redo_log_does_not_know(moved: Box, appended: bytes) -> None:
    """Died between the truncate and the removal of the redo log: what others appended is where it belongs."""
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
def test_what_is_no_file_is_no_redo_log(box: Box, make: str) -> None:
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


def test_a_redo_log_of_another_user(public_path: Path) -> None:
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


def test_an_update_never_follows_what_stands_in_the_redo_logs_place(box: Box) -> None:
    box.fill(b"".join(MESSAGES))
    target = box.path.with_name("target")
    target.write_bytes(b"precious")
    box.redo_log.symlink_to(target)
    with pytest.raises(OSError, match="has not been finished"):
        box.remove(spans_of(MESSAGES, {1}))
    assert target.read_bytes() == b"precious"
    assert box.content == b"".join(MESSAGES)


def test_redo_log_is_for_its_user_alone(interrupted: Box) -> None:
    assert stat.S_IMODE(interrupted.redo_log.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 8192, record.MAGIC + b"\n", b"\xff" * 10_000])
def test_a_redo_log_without_a_record_says_that_nothing_has_happened(box: Box, content: bytes) -> None:
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
    """Its redo log for an update that takes out one message, and the mark."""
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


def test_no_redo_log(box: Box) -> None:
    box.fill(b"".join(MESSAGES))
    recovery = box.recover()
    assert (recovery.finished, recovery.kept) == (False, "")


def test_an_update_does_not_begin_while_another_is_not_finished(interrupted: Box) -> None:
    """Whoever died left this mailbox half moved: even cutting its end off would take away what recovery must see."""
    before, redo_log = interrupted.content, interrupted.redo_log.read_bytes()
    for gone in ({0}, {5}):
        with pytest.raises(OSError, match="has not been finished"):
            interrupted.remove(spans_of(MESSAGES, gone))
    assert (interrupted.content, interrupted.redo_log.read_bytes()) == (before, redo_log)
