"""maildrop/mbox/first_scan.py: a large mailbox is served before its CRC is known, and nothing is believed for that."""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from popad.errors import MaildropChanged, MaildropUnreadable
from popad.maildrop.mbox import parallel
from popad.maildrop.mbox.crc import crc_of
from popad.maildrop.mbox.scan import Messages
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.private import KEY
from popad.privsep import spawn
from popad.privsep.channel import Channel
from tests.support.box import ALL, ONE, Box, marks, texts
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import Server


@pytest.fixture(autouse=True)
def two_processes_for_anything(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("popad.maildrop.mbox.store.LARGE", 1)
    monkeypatch.setattr(parallel, "WORTH_IT", 1)
    monkeypatch.setattr(parallel, "SMALLEST", 20)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    yield
    with suppress(ChildProcessError):  # those that nobody has asked
        while os.waitpid(-1, 0):
            pass


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path, cached=True)
    yield box
    box.close()


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """The second process computes the CRC when this is called, not before."""
    waits, goes = os.pipe()

    def held(read: Callable[[int, int], bytes], begin: int, end: int) -> int:
        os.close(goes)  # so that a test that fails before it calls lets it go
        os.read(waits, 1)
        return crc_of(read, begin, end)

    monkeypatch.setattr(parallel, "crc_of", held)

    def go() -> None:
        os.write(goes, b"x")

    yield go
    os.close(waits)
    os.close(goes)


def done(store: Mbox) -> None:
    """Wait until the second process has computed it, and said so to nobody."""
    assert store.first_scan
    assert store.first_scan.summing
    os.waitid(os.P_PID, store.first_scan.summing.pid, os.WEXITED | os.WNOWAIT)


def test_messages_are_there_before_the_crc(box: Box, release: Callable[[], None]) -> None:
    store = box.open()
    assert texts(store) == [b"Date: 1\n\nbody 1\n", b"Date: 2\n\nbody 2\n", b"Date: 3\n\nbody 3\n"]
    assert box.indexes == []
    release()
    store.finish(wait=True)
    assert store.messages.crc == crc_of(store.read, 0, len(ALL))
    assert box.open().messages.remembered


def test_the_same_index_as_from_one_process(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.open().finish(wait=True)
    by_two = box.index.read_bytes()
    box.index.unlink()
    monkeypatch.setattr(parallel, "WORTH_IT", len(ALL) + 1)
    box.open()
    assert box.index.read_bytes() == by_two


def test_unique_ids_do_not_wait_for_it(box: Box, release: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """They go to the same file, when that is written."""
    store = box.open()
    with monkeypatch.context() as patch:
        patch.setattr(parallel.Summing, "end", lambda _: pytest.fail("waited"))
        ids = list(store.id_numbers())
    assert box.indexes == []
    release()
    store.finish(wait=True)
    assert box.open().messages.ids.tolist() == ids


def test_unique_ids_when_it_is_known(box: Box) -> None:
    store = box.open()
    done(store)
    ids = list(store.id_numbers())
    assert box.open().messages.ids.tolist() == ids
    store.finish(wait=True)  # nothing is left to do


def test_unique_ids_of_a_mailbox_that_changes_before_it_is_known(box: Box, release: Callable[[], None]) -> None:
    """No listing counts that could be of anything."""
    store = box.open()
    box.append(ONE)
    release()
    with pytest.raises(MaildropChanged, match="read for the first time"):
        store.id_numbers()


def test_mail_that_comes_before_it_is_known(box: Box, release: Callable[[], None]) -> None:
    """Whatever has been changed: nobody knows any more what it was."""
    store = box.open()
    with box.path.open("ab") as file:
        file.write(ONE)
    release()
    with pytest.raises(MaildropChanged, match="read for the first time"):
        store.check()
    assert box.indexes == []


def test_nobody_asks_after_mail_has_come(box: Box, release: Callable[[], None]) -> None:
    store = box.open()
    with box.path.open("ab") as file:
        file.write(ONE)
    release()
    store.finish(wait=True)
    assert box.indexes == []
    with pytest.raises(MaildropChanged, match="read for the first time"):
        store.check()
    with pytest.raises(MaildropChanged, match="read for the first time"):
        store.remove(marks(store, 1))
    assert box.path.read_bytes() == ALL + ONE


def test_a_client_that_thinks_does_not_wait(box: Box, release: Callable[[], None]) -> None:
    store = box.open()
    store.finish(wait=False)
    assert box.indexes == []
    release()
    done(store)
    store.finish(wait=False)
    assert box.open().messages.remembered


def test_a_crc_that_cannot_be_had(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """By neither process: no index says that it is 0."""

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(parallel, "crc_of", fail)
    with monkeypatch.context() as patch:
        patch.setattr("popad.maildrop.mbox.first_scan.crc_of", fail)
        store = box.open()
        store.finish(wait=True)
        for _ in range(2):
            with pytest.raises(MaildropUnreadable, match="Input/output error"):
                store.remove(marks(store, 1))
        assert box.indexes == []
    store.id_numbers()  # the disk can be read again, and nobody has touched the file
    assert store.messages.crc == crc_of(store.read, 0, len(ALL))
    assert box.open().messages.remembered


def test_a_crc_that_comes_too_late(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could not be had, and when it can be the file is another: it would be the CRC of anything."""

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(parallel, "crc_of", fail)
    with monkeypatch.context() as patch:
        patch.setattr("popad.maildrop.mbox.first_scan.crc_of", fail)
        store = box.open()
        store.finish(wait=True)
    with box.path.open("ab") as file:
        file.write(ONE)
    with pytest.raises(MaildropChanged, match="read for the first time"):
        store.check()


@pytest.mark.parametrize("why", ["a lock file", "an unfinished update"])
def test_where_no_other_process_can_hold_the_lock(box: Box, why: str) -> None:
    """It is not let go before the CRC is known: others wait for it."""
    journal = box.files
    locks = "auto"
    if why == "a lock file":
        locks = "fcntl,dotlock"
    else:
        box.redo_log.touch(0o600)
    store = Mbox(str(box.path), journal, 1, 10, 0, locks, box.index_files)
    assert store.first_scan
    assert not store.first_scan.summing
    assert store.messages.crc == crc_of(store.read, 0, len(ALL))
    assert box.open().messages.remembered


def test_a_session_that_dies(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second process ends with it, even where it tells more than a pipe holds, and so does its lock."""
    box.path.write_bytes(ONE * 20_000)
    monkeypatch.setattr(parallel, "told", lambda _: time.sleep(PATIENCE))

    def session(channel: Channel) -> None:
        monkeypatch.setattr(parallel, "in_turn", told_of_the_parts(parallel.in_turn, channel))
        box.open(max_messages=20_000)

    child = spawn.with_channel(session)
    assert child.channel.receive([1], PATIENCE) == [b"x"]  # the second one has begun to tell
    assert child.pid
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    child.channel.close()
    with box.path.open("r+b") as file:
        wait_until(lambda: can_lock(file.fileno()))


Parts = dict[int, Messages]


def told_of_the_parts(in_turn: Callable[..., Parts], channel: Channel) -> Callable[..., Parts]:
    """in_turn(), which leaves all parts to the second process and says when that has them."""
    session = os.getpid()

    def by_the_second(read: Callable[[int, int], bytes], places: list[int], most: int, turns: int) -> Parts:
        if os.getpid() == session:
            return {}
        found = in_turn(read, places, most, turns)
        channel.send([b"x"])
        return found

    return by_the_second


def can_lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_mail_that_comes_when_it_is_known_to_the_other_process(box: Box) -> None:
    """When this one hears of it does not matter."""
    store = box.open()
    done(store)
    with box.path.open("ab") as file:
        file.write(ONE)
    assert store.check()
    assert len(texts(store)) == 3
    assert len(texts(box.open())) == 4


def test_a_message_rewritten_when_it_is_known_to_the_other_process(box: Box) -> None:
    store = box.open()
    done(store)
    with box.path.open("r+b") as file:
        file.seek(ALL.index(b"body 2"))
        file.write(b"BODY")
    with pytest.raises(MaildropChanged, match="rewritten"):
        store.check()


@pytest.mark.parametrize("touched", [False, True])
def test_a_process_that_dies_over_it(box: Box, touched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "crc_of", lambda *_: os._exit(1))
    store = box.open()
    if touched:
        os.utime(box.path)
        with pytest.raises(MaildropChanged):
            store.check()
    else:
        store.finish(wait=True)
        assert store.messages.crc == crc_of(store.read, 0, len(ALL))
    assert box.open().messages.remembered != touched


def test_an_update_waits_for_it(box: Box, release: Callable[[], None]) -> None:
    store = box.open()
    release()
    store.remove(marks(store, 2))
    assert len(texts(box.open())) == 2
    assert box.path.read_bytes() == ALL.replace(b"From b\nDate: 2\n\nbody 2\n\n", b"")


def test_while_it_computes_the_mailbox_is_held(box: Box, release: Callable[[], None]) -> None:
    """From programs that ask: the session itself is one, as POSIX locks are each process's own."""
    store = box.open()
    with pytest.raises(BlockingIOError):
        fcntl.lockf(store.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    release()
    done(store)
    fcntl.lockf(store.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.lockf(store.fd, fcntl.LOCK_UN)
    store.finish(wait=True)


def test_times_in_the_future(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change need not show: the CRC is that of the octets that are scanned, so one process does it all."""
    os.utime(box.path, (1e10, 1e10))
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    store = box.open()
    assert store.messages.crc == crc_of(store.read, 0, len(ALL))


def test_without_a_directory_for_it(box: Box) -> None:
    store = box.open(cached=False)
    store.finish(wait=True)
    assert store.messages.crc == crc_of(store.read, 0, len(ALL))
    assert box.indexes == []


@pytest.mark.parametrize("end", ["QUIT", "gone"])
def test_a_session_that_only_looks(server: Server, end: str) -> None:
    """The next one need not scan, whatever the client waited for."""
    body = b"x" * 70 + b"\n"
    server.deliver(b"".join(b"From a\nDate: %d\n\n" % number + body * 4000 + b"\n" for number in range(80)))
    with server.session() as (client, process):
        assert client.log_in().startswith(b"+OK 80 messages")
        if end == "QUIT":
            assert client.ask("QUIT").startswith(b"+OK")
        else:
            client.close()
        assert process.wait(20) == 0
    assert [path for path in server.cache.iterdir() if path.name != KEY]
    assert "Traceback" not in server.stderr.read_text()
