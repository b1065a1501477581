"""maildrop/mbox/store.py: what is opened, other programs' changes, UPDATE. On real files, with real locks."""

import errno
import fcntl
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from popad.errors import MaildropChanged, MaildropUnavailable, MaildropUnreadable
from popad.maildrop.mbox import file, update
from popad.maildrop.mbox.file import holes
from popad.maildrop.mbox.locks import Lock
from popad.maildrop.mbox.store import HEADER_BLOCK, Mbox
from popad.maildrop.private import SPARE, SharedDirectory
from tests.support.box import ALL, ONE, THREE, TWO, Box, marks, texts
from tests.support.others import lock_held, may_lock

pytestmark = pytest.mark.usefixtures("known_processes")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path)
    yield box
    box.close()


@pytest.fixture
def quick_box(box: Box, still_clock: None) -> Box:
    """A mailbox that is not touched within a tick of the clock."""
    return box


# -- opening


def test_messages_without_their_from_lines(quick_box: Box) -> None:
    store = quick_box.open()
    assert texts(store) == [b"Date: %d\n\nbody %d\n" % (n, n) for n in (1, 2, 3)]
    assert list(store.sizes) == [19, 19, 19]


@pytest.mark.parametrize("content", [None, b""])
def test_a_missing_or_empty_mailbox_has_no_messages(quick_box: Box, content: bytes | None) -> None:
    """For the whole session, whatever comes meanwhile."""
    quick_box.path.unlink()
    if content is not None:
        quick_box.path.write_bytes(content)
    store = quick_box.open()
    assert list(store.sizes) == []
    quick_box.append(ONE)
    assert list(store.id_numbers()) == []
    assert list(store.sizes) == []


def make_symlink(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def make_device(path: Path) -> None:
    path.unlink()
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("needs root: makes a device node")


def make_dangling_symlink(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


KINDS = [make_symlink, make_dangling_symlink, make_fifo, make_directory, make_socket, make_device]


@pytest.mark.parametrize("make", KINDS)
def test_only_a_regular_file_is_a_mailbox(box: Box, make: Callable[[Path], None]) -> None:
    make(box.path)
    refusal = box.refusal()
    assert (refusal.code, refusal.reason) == ("SYS/PERM", "not a regular file")


@pytest.mark.parametrize("make", KINDS)
def test_a_mailbox_that_is_swapped_between_the_look_and_the_open(
    box: Box, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """lstat shows the file, open meets something else: no following, no hanging, no message."""
    real = os.lstat

    def lstat_then_swap(path: str) -> os.stat_result:
        seen = real(path)
        if path == str(box.path):
            monkeypatch.undo()
            make(box.path)
            swapped.append(path)
        return seen

    swapped: list[str] = []
    files = box.files
    monkeypatch.setattr(os, "lstat", lstat_then_swap)
    with pytest.raises(MaildropUnavailable):
        Mbox(str(box.path), files, 1, 100, 0)
    assert swapped


def test_a_hard_link_is_the_file_it_is(quick_box: Box) -> None:
    """No check of its own: the session is the user by then, and opens what the user may open."""
    os.link(quick_box.path, quick_box.path.with_name("other"))
    assert len(quick_box.open().sizes) == 3


def test_not_an_mbox(box: Box) -> None:
    box.path.write_bytes(b"\n" + ALL)
    refusal = box.refusal()
    assert refusal.code == "SYS/PERM"
    assert "not an mbox" in refusal.reason
    assert box.path.read_bytes() == b"\n" + ALL


@pytest.mark.parametrize("text", [b"", b"From a\nDate: 1\n\n"])
def test_terabytes_of_nothing_are_no_mailbox(box: Box, text: bytes) -> None:
    """To read them would take hours."""
    box.path.write_bytes(text)
    os.truncate(box.path, 8 << 40)
    refusal = box.refusal()
    assert refusal.code == "SYS/PERM"
    assert refusal.reason.startswith("not an mbox: ")


def test_holes_are_counted_where_they_are(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the messages as at the end; a few are served as the NULs that they read as."""
    with box.path.open("wb") as file:
        for _ in range(3):
            file.write(b"From a\nDate: 1\n\n")
            file.seek(1 << 20, os.SEEK_CUR)
            file.write(b"\n\n")
    store = box.open()
    assert len(store.sizes) == 3
    found = holes(store.fd, os.fstat(store.fd).st_size)
    assert 3 * ((1 << 20) - 8192) <= found <= 3 << 20
    monkeypatch.setattr("popad.maildrop.mbox.file.MAX_HOLES", found - 8192)
    assert "holes" in box.refusal().reason
    os.close(store.fd)


def test_holes_are_not_looked_for_in_a_file_that_takes_its_room(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory that takes as long as all else of a later login."""
    monkeypatch.setattr("popad.maildrop.mbox.file.MAX_HOLES", 0)
    monkeypatch.setattr("popad.maildrop.mbox.file.holes", lambda fd, size: pytest.fail("looked for"))
    assert len(box.open().sizes) == 3


def test_limits(quick_box: Box) -> None:
    assert len(quick_box.open(max_messages=3, max_octets=len(ALL)).sizes) == 3
    assert "2 messages" in quick_box.refusal(max_messages=2).reason
    assert str(len(ALL) - 1) in quick_box.refusal(max_octets=len(ALL) - 1).reason


def test_a_part_of_the_path_that_is_no_directory(box: Box) -> None:
    with pytest.raises(MaildropUnavailable) as unavailable:
        Mbox(f"{box.path}/mailbox", box.files, 1, 100, 0)
    assert unavailable.value.code == "SYS/PERM"
    assert "mailbox" in unavailable.value.reason


def test_no_spool_is_not_an_empty_mailbox(box: Box) -> None:
    """Not mounted yet, say. A client that is shown no mail forgets what it has, and fetches all of it again later."""
    with pytest.raises(MaildropUnavailable) as unavailable:
        Mbox(f"{box.path.parent}/missing/mailbox", box.files, 1, 100, 0)
    assert unavailable.value.code == "SYS/TEMP"


def test_a_writer_is_waited_for_and_not_for_ever(box: Box) -> None:
    with lock_held(box.path):
        refusal = box.refusal(lock_timeout=0.05)
    assert refusal.code == "IN-USE"


def test_other_readers_do_not_matter(quick_box: Box) -> None:
    with lock_held(quick_box.path, fcntl.LOCK_SH):
        assert len(quick_box.open(lock_timeout=0.05).sizes) == 3


def test_mail_that_is_being_delivered_is_seen_whole(quick_box: Box) -> None:
    with lock_held(quick_box.path, then=ONE) as tell:
        os.write(tell, b"x")
        assert len(quick_box.open(lock_timeout=10).sizes) == 4


def test_no_lock_is_held_in_a_session(quick_box: Box) -> None:
    store = quick_box.open()
    assert may_lock(quick_box.path, fcntl.LOCK_EX)
    texts(store)
    assert may_lock(quick_box.path, fcntl.LOCK_EX)


# -- changes by other programs. With the real tick: the file was written just before it is opened.


def other_octet(box: Box) -> None:
    box.write(b"B", ALL.index(b"body 2"))


def other_octet_same_times(box: Box) -> None:
    times = box.path.stat()
    other_octet(box)
    os.utime(box.path, ns=(times.st_atime_ns, times.st_mtime_ns))


CHANGES: dict[str, Callable[[Box], None]] = {
    "shrunk by an octet": lambda box: os.truncate(box.path, len(ALL) - 1),
    "emptied": lambda box: os.truncate(box.path, 0),
    "rewritten, same size": other_octet,
    "rewritten, other size": lambda box: box.write(ONE + b"x" * 100, 0),
    "rewritten with the same times": other_octet_same_times,
    "replaced": lambda box: box.replace(ONE + TWO),
    "replaced by the same": lambda box: box.replace(ALL),
    "removed": lambda box: box.path.unlink(),
    "replaced by a symlink to it": lambda box: make_symlink(box.path),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("first", ["content", "unique_ids", "remove"])
def test_a_change_is_noticed(box: Box, change: str, first: str) -> None:
    store = box.open()
    CHANGES[change](box)
    after = box.path.read_bytes() if box.path.exists() else None
    with pytest.raises(MaildropChanged) as changed:
        if first == "content":
            list(store.content(1))
        elif first == "unique_ids":
            store.id_numbers()
        else:
            store.remove(marks(store, 1))
    assert str(changed.value)
    assert (box.path.read_bytes() if box.path.exists() else None) == after
    assert box.redo_logs == []


def test_a_change_in_the_second_of_the_delivery_is_noticed_every_time(box: Box) -> None:
    """popa3d's promise: a change is never missed. Same size, as soon as the mailbox is loaded, again and again."""
    for octet in b"abcdefgh":
        store = box.open()
        box.write(bytes([octet]), ALL.index(b"body 3"))
        with pytest.raises(MaildropChanged):
            list(store.content(0))


def test_appended_mail_is_left_alone(box: Box) -> None:
    store = box.open()
    for octets in (b"From d\nDate: 4\n\nbody 4\n\n", b"not even a From line", b"\n"):
        box.append(octets)
        assert texts(store) == [b"Date: %d\n\nbody %d\n" % (n, n) for n in (1, 2, 3)]
        assert len(store.id_numbers()) == 3
    box.append(THREE)
    store.remove(marks(store, 1, 3))
    assert box.path.read_bytes() == TWO + b"From d\nDate: 4\n\nbody 4\n\nnot even a From line\n" + THREE


def test_touching_changes_nothing(box: Box) -> None:
    store = box.open()
    os.utime(box.path)
    box.path.chmod(0o640)
    assert len(texts(store)) == 3
    store.remove(marks(store, 2))
    assert box.path.read_bytes() == ONE + THREE


class ChangedWhileRead(Mbox):
    """Another program changes the mailbox after the n-th read of the session."""

    change: Callable[[], None]
    reads = 0
    at = 0

    def read(self, count: int, offset: int) -> bytes:
        octets = super().read(count, offset)
        self.reads += 1
        if self.reads == self.at:
            self.change()
        return octets


def changed_while_read(box: Box, change: Callable[[], None]) -> ChangedWhileRead:
    store = ChangedWhileRead(str(box.path), box.files, 1, 100, 0)
    store.change = change
    store.at = store.reads + 1
    return store


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_while_a_message_is_read(box: Box, change: str) -> None:
    """The look at the end: the last octets of a message are not given away when the file is another by then."""
    store = changed_while_read(box, lambda: CHANGES[change](box))
    given = b""
    with pytest.raises(MaildropChanged):
        for block in store.content(1):
            given += block
    assert given == b""


def test_a_change_while_a_large_message_is_read(box: Box) -> None:
    body = b"x" * 100 + b"\n"
    box.path.write_bytes(ONE + b"From big\nDate: 2\n\n" + body * 10_000 + b"\n")
    store = changed_while_read(box, lambda: os.truncate(box.path, 200_000))
    given = b""
    with pytest.raises(MaildropChanged):
        for block in store.content(1):
            given += block
    assert len(given) < 200_000


def test_a_mailbox_cut_between_the_look_and_the_reading(box: Box) -> None:
    class Cut(Mbox):
        cut = False

        def read(self, count: int, offset: int) -> bytes:
            if self.cut:
                os.truncate(box.path, 10)
            return super().read(count, offset)

    store = Cut(str(box.path), box.files, 1, 100, 0)
    store.cut = True
    with pytest.raises(MaildropChanged, match="it shrank"):
        list(store.content(1))


def test_a_mailbox_that_cannot_be_read_any_more(box: Box) -> None:
    """A network file system that has gone away, say; here the descriptor has."""
    store = box.open()
    os.close(store.fd)
    with pytest.raises(MaildropUnreadable, match="Bad file descriptor"):
        list(store.content(1))


@pytest.mark.parametrize("which", ["lstat", "pread", "fstat"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_what_cannot_be_read_now_can_be_later(
    box: Box, which: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk, or a file server: nobody has changed anything."""
    store = box.open()
    box.append(b"x")
    real = getattr(os, which)

    def fail(what: object, *more: object) -> Any:
        if what in (store.fd, str(box.path)):
            raise OSError(number, os.strerror(number))
        return real(what, *more)

    with monkeypatch.context() as patch:
        patch.setattr(os, which, fail)
        for access in (lambda: list(store.content(1)), store.unique_ids, store.check):
            with pytest.raises(MaildropUnreadable, match=os.strerror(number)):
                access()
        with pytest.raises(MaildropUnavailable, match=os.strerror(number)) as failure:
            store.remove(marks(store, 1))
        assert failure.value.code == "SYS/TEMP"
    assert box.path.read_bytes() == ALL + b"x"
    assert len(texts(store)) == len(store.id_numbers()) == 3
    store.remove(marks(store, 1))
    assert box.path.read_bytes() == TWO + THREE + b"x"


def test_a_mailbox_whose_redo_log_cannot_be_looked_for(box: Box) -> None:
    files = SharedDirectory(str(box.state_path)).files_of(str(box.path))
    os.close(files.directory.fd)
    with pytest.raises(MaildropUnavailable):
        Mbox(str(box.path), files, 1, 100, 0)


def test_ids_of_long_headers(quick_box: Box) -> None:
    """More than the first block that is read of each message."""
    long = b"Subject: " + b"x" * 3 * HEADER_BLOCK + b"\n"
    quick_box.path.write_bytes(ONE + b"From d\n" + long + b"Date: 3\n\nDate: 4\n\n")
    assert f"{quick_box.open().id_numbers()[1]:016x}" == "636e999147ce755e"


def test_a_change_while_ids_are_made(box: Box) -> None:
    store = changed_while_read(box, lambda: other_octet(box))
    with pytest.raises(MaildropChanged):
        store.id_numbers()


def test_a_holder_of_the_lock_may_be_changing_it(box: Box) -> None:
    """The mailbox has other times, and cannot be looked at: no octet of it is given before it can."""
    store = box.open(lock_timeout=0.05)
    box.append(b"x")
    with lock_held(box.path), pytest.raises(MaildropUnreadable, match="another program held the lock"):
        list(store.content(0))
    assert len(texts(store)) == 3


# -- UPDATE


def test_a_user_whose_name_is_that_of_the_lock(box: Box) -> None:
    """alice and alice.lock, both of one uid: neither loses mail, and neither keeps the other waiting."""
    other = box.path.with_name("mailbox.lock")
    other.write_bytes(ONE)
    os.utime(other, (1, 1))
    store = box.open(lock_timeout=0.05)
    assert len(texts(store)) == 3
    box.append(THREE)
    store.remove(marks(store, 1, 2))
    assert (box.path.read_bytes(), other.read_bytes()) == (THREE + THREE, ONE)


@pytest.mark.parametrize(
    ("numbers", "left"),
    [
        ((1,), TWO + THREE),
        ((2,), ONE + THREE),
        ((3,), ONE + TWO),
        ((1, 2), THREE),
        ((1, 3), TWO),
        ((2, 3), ONE),
        ((1, 2, 3), b""),
    ],
)
@pytest.mark.parametrize("appended", [b"", b"From d\nDate: 4\n\nbody 4\n\n"])
def test_update(quick_box: Box, numbers: tuple[int, ...], left: bytes, appended: bytes) -> None:
    before = quick_box.path.stat()
    store = quick_box.open()
    quick_box.append(appended)
    store.remove(marks(store, *numbers))
    after = quick_box.path.stat()
    assert quick_box.path.read_bytes() == left + appended
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert quick_box.redo_logs == []
    assert may_lock(quick_box.path, fcntl.LOCK_EX)


@pytest.mark.parametrize("between", [b"\n", b"\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize(("numbers", "left"), [((1, 2), b""), ((2,), ONE)])
def test_line_ends_before_a_delivery_go_with_the_message_that_had_none(
    quick_box: Box, numbers: tuple[int, ...], left: bytes, between: bytes
) -> None:
    """Else the mailbox would begin with them, and be no mbox any more; or the message before would have grown."""
    quick_box.path.write_bytes(ONE + b"From b\nDate: 2\n\ncut sho")
    store = quick_box.open()
    quick_box.append(between + THREE)
    store.remove(marks(store, *numbers))
    assert quick_box.path.read_bytes() == left + THREE
    assert len(quick_box.open().sizes) == bool(left) + 1


def test_update_waits_for_a_delivery(box: Box) -> None:
    """The other program got the lock first: what it appends before it lets go stays."""
    store = box.open(lock_timeout=10)
    with lock_held(box.path, then=ONE) as tell:
        os.write(tell, b"x")
        store.remove(marks(store, 1, 2))
    assert box.path.read_bytes() == THREE + ONE


@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_update_does_not_wait_for_ever(box: Box, kind: int) -> None:
    store = box.open(lock_timeout=0.05)
    with lock_held(box.path, kind), pytest.raises(MaildropUnavailable) as unavailable:
        store.remove(marks(store, 1))
    assert unavailable.value.code == "SYS/TEMP"
    assert box.path.read_bytes() == ALL


def test_update_of_a_mailbox_replaced_while_its_lock_was_waited_for(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that compacts a mailbox holds the old file's lock and renames a new one over it, then lets go."""
    store = box.open(lock_timeout=10)

    class LockAfterAReplacement(Lock):
        def __enter__(self) -> os.stat_result:
            box.replace(TWO + THREE)
            return super().__enter__()

    monkeypatch.setattr("popad.maildrop.mbox.store.Lock", LockAfterAReplacement)
    with pytest.raises(MaildropChanged):
        store.remove(marks(store, 1))
    assert box.path.read_bytes() == TWO + THREE


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_update_blocks_signals_that_end_a_session(
    quick_box: Box, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """systemctl stop in the middle of an UPDATE, or a terminal that goes: the signal waits until it is done."""
    # Without a lock file, which is not to be left behind either, and blocks them as well.
    store = Mbox(str(quick_box.path), quick_box.open().files, 1.0, 100, 0, "fcntl")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    real, pending = update.remove, set()

    def remove(*arguments: Any) -> None:
        signal.raise_signal(number)
        pending.update(signal.sigpending())
        real(*arguments)

    heard: list[int] = []
    old = signal.signal(number, lambda number, frame: heard.append(number))
    monkeypatch.setattr(update, "remove", remove)
    try:
        store.remove(marks(store, 2))
    finally:
        signal.signal(number, old)
    assert pending == {number}
    assert heard == [number]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert quick_box.path.read_bytes() == ONE + THREE


def test_update_of_a_file_that_may_only_be_read(quick_box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only file system: mail can be read, and is not updated."""
    real = os.open

    def read_only(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == str(quick_box.path) and flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(30, os.strerror(30), path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", read_only)
    store = quick_box.open()
    assert len(texts(store)) == 3
    with pytest.raises(MaildropUnavailable) as unavailable:
        store.remove(marks(store, 1))
    assert unavailable.value.code == "SYS/PERM"
    assert unavailable.value.reason == f"[Errno 30] {store.read_only}: '{quick_box.path}'"
    assert f"ReadWritePaths={quick_box.path.parent} " in store.read_only
    assert quick_box.path.read_bytes() == ALL
    monkeypatch.setattr(os, "open", real)
    interrupt_an_update(quick_box)
    monkeypatch.setattr(os, "open", read_only)
    refused = quick_box.refusal()  # half moved, and it cannot be finished here
    assert (refused.code, refused.reason) == (unavailable.value.code, unavailable.value.reason)


def test_a_mailbox_with_two_names_is_updated_under_either(quick_box: Box) -> None:
    os.link(quick_box.path, quick_box.path.with_name("other"))
    store = quick_box.open()
    store.remove(marks(store, 1))
    assert quick_box.path.with_name("other").read_bytes() == TWO + THREE
    interrupt_an_update(quick_box)
    files = quick_box.state.files_of(str(quick_box.path.with_name("other")))
    other = Mbox(str(quick_box.path.with_name("other")), files, 1.0, 100, 0)
    assert other.recovery is not None
    assert other.recovery.finished
    assert quick_box.path.read_bytes() == THREE
    assert texts(quick_box.open()) == texts(other)


def test_whoever_opens_a_mailbox_leaves_room_for_an_update(quick_box: Box) -> None:
    spare = quick_box.state_path / quick_box.open().files.spare
    assert spare.stat().st_blocks * 512 >= spare.stat().st_size == SPARE
    store = quick_box.open()
    store.remove(marks(store, 1))
    assert spare.stat().st_blocks * 512 >= spare.stat().st_size == SPARE


def test_an_interrupted_update_is_finished_at_the_next_open(quick_box: Box) -> None:
    interrupt_an_update(quick_box)
    quick_box.append(ONE)
    store = quick_box.open()
    assert store.recovery is not None
    assert store.recovery.finished
    assert [text[:7] for text in texts(store)] == [b"Date: 2", b"Date: 3", b"Date: 1"]
    assert quick_box.redo_logs == []
    assert quick_box.open().recovery is None


def test_a_redo_log_kept_aside_is_named_though_the_mailbox_is_refused(quick_box: Box) -> None:
    interrupt_an_update(quick_box)
    quick_box.path.write_bytes(b"no mbox" * 40)
    with pytest.raises(MaildropUnavailable, match=r"not an mbox.*kept as .*kept1: the mailbox was changed"):
        quick_box.open()


def test_a_foreign_redo_log_does_not_keep_mail_from_being_read(quick_box: Box) -> None:
    interrupt_an_update(quick_box)
    quick_box.replace(ALL)
    store = quick_box.open()
    assert store.recovery is not None
    assert (store.recovery.finished, store.recovery.reason) == (False, "it is of another file")
    assert len(store.sizes) == 3
    assert quick_box.redo_logs == [store.recovery.kept]
    store.remove(marks(store, 1))
    assert quick_box.path.read_bytes() == TWO + THREE


def interrupt_an_update(box: Box) -> None:
    """Message 1 is to go; the process dies when the redo log is durable and the first octets have moved."""
    store = box.open()
    pid = os.fork()
    if pid == 0:
        real = os.fdatasync
        calls = []

        def fdatasync(fd: Any) -> None:
            real(fd)
            calls.append(fd)
            if len(calls) == 2:  # the record; what has moved
                os._exit(0)

        os.fdatasync = fdatasync  # the child's own
        try:
            store.remove(marks(store, 1))
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert box.path.read_bytes() != ALL


# -- the clock


@pytest.mark.parametrize(("tick", "times"), [(10_000_000, 8), (1_000_000_000, 1)], ids=["10 ms", "1 s"])
def test_a_change_within_a_tick_of_a_coarse_clock_is_noticed(
    box: Box, monkeypatch: pytest.MonkeyPatch, tick: int, times: int
) -> None:
    """A file system that stamps files by a slower clock than this machine's."""
    real = file.signature

    def coarse(status: os.stat_result) -> file.Signature:
        device, inode, size, modified, changed = real(status)
        odd = tick < 1_000_000_000  # whole seconds are how such a file system is told
        return device, inode, size, modified // tick * tick + odd, changed // tick * tick + odd

    for module in ("file", "store"):
        monkeypatch.setattr(f"popad.maildrop.mbox.{module}.signature", coarse)
    for octet in b"abcdefgh"[:times]:
        store = box.open()
        box.write(bytes([octet]), ALL.index(b"body 3"))
        with pytest.raises(MaildropChanged):
            list(store.content(0))
