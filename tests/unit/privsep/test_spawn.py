"""privsep/spawn.py: a role runs in a child, and the child ends, by itself or killed."""

import ctypes
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NoReturn

import pytest

from popad.errors import ContractBroken
from popad.privsep import spawn
from popad.privsep.channel import Channel, message_pair
from popad.settings import PREAUTH_UIDS
from tests.support.descriptors import descriptors
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import status_of

NOBODY = 65534


def test_a_role_answers_and_ends() -> None:
    def role(channel: Channel) -> None:
        (question,) = channel.receive([9], PATIENCE)
        channel.send([question + b"!", b"%d" % os.getpid()])

    child = spawn.with_channel(role)
    child.channel.send([b"well"])
    answer, pid = map(bytes, child.channel.receive([9, 9], PATIENCE))
    assert (answer, int(pid)) == (b"well!", child.pid)
    assert child.end() == 0


def test_a_role_that_fails_leaves_nothing_running_in_the_parent(capfd: pytest.CaptureFixture[str]) -> None:
    def role(channel: Channel) -> None:
        raise KeyError("what")

    child = spawn.with_channel(role)
    with pytest.raises(ContractBroken):
        child.channel.receive([9], PATIENCE)
    assert child.end() == spawn.CRASHED == os.EX_SOFTWARE
    assert "KeyError: 'what'" in capfd.readouterr().err


@pytest.mark.parametrize("leave", [lambda: sys.exit(0), lambda: os._exit(9)], ids=["sys.exit", "_exit"])
def test_a_role_that_leaves_early(leave: Callable[[], object], capfd: pytest.CaptureFixture[str]) -> None:
    def role(channel: Channel) -> None:
        leave()

    child = spawn.with_channel(role)
    assert child.end() != 0


def test_a_role_killed_by_a_signal() -> None:
    child = spawn.with_channel(lambda channel: os.kill(os.getpid(), signal.SIGKILL))
    assert child.end() == -signal.SIGKILL


@pytest.mark.parametrize("more", [b"\0\0\0\1b", b"b", b"x" * 60000])
def test_a_role_that_says_more_than_it_may(more: bytes) -> None:
    """One message was asked for: the second is as wrong as a first of another shape."""

    def role(channel: Channel) -> None:
        channel.send([b"a"])
        channel.socket.send(more)

    child = spawn.with_channel(role)
    assert child.channel.receive([1], PATIENCE) == [b"a"]
    select.select([child.channel], [], [], PATIENCE)
    with pytest.raises(ContractBroken, match="more than it may"):
        child.end()
    assert child.channel.fileno() == -1


def test_a_role_that_never_stops_ends_with_its_channel() -> None:
    """It waits for room in the channel, and is told that there will be none."""

    def role(channel: Channel) -> None:
        try:
            while True:
                channel.send([b"a"])
        except BrokenPipeError:
            os._exit(3)

    child = spawn.with_channel(role)
    child.channel.receive([1], PATIENCE)
    wait_until(lambda: status_of(child.pid or 0)["State"].startswith("S"))
    with pytest.raises(ContractBroken, match="more than it may"):
        child.end()


def test_a_role_that_does_not_listen() -> None:
    """The kernel tells of what it left unread as a connection reset: that is no message."""
    child = spawn.with_channel(lambda channel: os.kill(os.getpid(), signal.SIGSTOP))
    wait_until(lambda: status_of(child.pid or 0)["State"].startswith("T"))
    child.channel.send([b"a"])
    os.kill(child.pid or 0, signal.SIGCONT)
    assert child.end() == 0


def test_a_role_that_waits_ends_with_its_channel() -> None:
    def role(channel: Channel) -> None:
        channel.receive([9], None)

    child = spawn.with_channel(role)
    assert child.end() == spawn.CRASHED


def test_the_end_of_a_role_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it may not be killed: said once, and no status is as good as a crash."""

    def may_not(pid: int) -> None:
        raise ContractBroken("a child does not end")

    child = spawn.with_channel(lambda channel: None)
    pid = child.pid or 0
    monkeypatch.setattr(spawn, "wait_for", may_not)
    with pytest.raises(ContractBroken, match="does not end"):
        child.end()
    assert child.end() == spawn.CRASHED
    os.waitpid(pid, 0)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("may", [True, False])
def test_a_role_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, may: bool) -> None:
    """Whatever it ignores. Where that is not allowed, the session ends."""

    def stay(channel: Channel) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        channel.send([b"x"])
        while True:
            signal.pause()

    def may_not(pid: int) -> None:
        raise PermissionError

    monkeypatch.setattr(spawn, "PATIENCE", 0.05)
    before = len(descriptors())
    child = spawn.with_channel(stay)
    pid = child.pid or 0
    child.channel.receive([1], PATIENCE)
    if may:
        assert child.end() == -signal.SIGKILL
    else:
        monkeypatch.setattr(spawn, "kill", may_not)
        with pytest.raises(ContractBroken, match="a child does not end"):
            child.end()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert open_files() == before


def test_a_child_that_may_not_be_killed_is_killed_as_a_preauth_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def may_not(pid: int, number: int) -> None:
        raise PermissionError

    killed: list[int] = []
    monkeypatch.setattr(os, "kill", may_not)
    monkeypatch.setattr(spawn, "kill_preauth", killed.append)
    spawn.kill(4711)
    assert killed == [4711]


def test_a_role_hears_that_its_parent_has_gone() -> None:
    """It has not kept its parent's end of the channel open."""
    child = spawn.with_channel(lambda channel: channel.receive([1], None))
    pid = child.pid or 0
    child.channel.close()
    try:
        wait_until(lambda: status_of(pid)["State"].startswith("Z"), timeout=20)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_a_role_has_its_time_to_end() -> None:
    """It is not killed before."""

    def finish(channel: Channel) -> None:
        with suppress(ContractBroken):
            channel.receive([1], None)  # until the other end is closed
        os._exit(3)

    before = len(descriptors())
    assert spawn.with_channel(finish).end() == 3
    assert open_files() == before


def test_the_end_of_a_process_that_somebody_else_waits_for() -> None:
    ours, theirs = message_pair()
    assert spawn.Child(None, Channel(ours)).end() == 0
    assert theirs.recv(1) == b""
    theirs.close()


def test_a_role_that_cannot_be_spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", fork)
    before = len(descriptors())
    with pytest.raises(BlockingIOError):
        spawn.with_channel(lambda channel: None)
    assert open_files() == before


def test_orphans_are_inherited() -> None:
    """A grandchild whose parent has died is a child."""

    def role(channel: Channel) -> None:
        spawn.inherit_orphans()
        read, write = os.pipe()
        parent = spawn.spawn(lambda: spawn.spawn(lambda: None if os.read(read, 1) else 1) and 0)
        os.waitpid(parent, 0)
        os.write(write, b"x")
        channel.send([b"%d" % os.waitpid(-1, 0)[1]])

    child = spawn.with_channel(role)
    assert child.channel.receive([9], PATIENCE) == [b"0"]
    assert child.end() == 0


@contextmanager
def waiting(uid: "Callable[[int], int] | None") -> Iterator[int]:
    """A child that waits for its parent's end, as `uid` of its process number."""
    ours, theirs = message_pair()
    pid = os.fork()
    if not pid:
        if uid:
            os.setresuid(*[uid(os.getpid())] * 3)
        ours.close()
        theirs.send(b"x")
        theirs.recv(1)
        os._exit(0)
    theirs.close()
    ours.recv(1)
    try:
        yield pid
    finally:
        ours.close()
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


@needs_root
@pytest.mark.parametrize("kept", ["all capabilities", "none but setuid"])
def test_only_preauth_children_are_killed_by_their_uid(kept: str) -> None:
    """Root is root's own uid, too: it takes more than a uid to tell whom a signal may reach."""

    def role(channel: Channel) -> None:
        own = PREAUTH_UIDS.__getitem__
        with ExitStack() as made:
            others = (None, lambda pid: NOBODY, lambda pid: own(pid - 1), own)  # the last is known
            pids = [made.enter_context(waiting(uid)) for uid in others]
            orphan = made.enter_context(waiting(own))
            if kept != "all capabilities":
                drop_cap_kill()
            spawn.kill_orphans(pids[-1:])
            ended = os.waitpid(orphan, 0)[1]
            alive = [status_of(pid)["State"][:1] for pid in pids]
            channel.send([f"{ended} {' '.join(alive)} {os.getresuid()}".encode()])

    def drop_cap_kill() -> None:
        no_kill, setuid = 0, 1 << 7
        header = (ctypes.c_uint * 2)(0x20080522, no_kill)
        ctypes.CDLL(None).capset(header, (ctypes.c_uint * 6)(setuid, setuid, 0, 0, 0, 0))

    child = spawn.with_channel(role)
    assert child.channel.receive([100], PATIENCE) == [b"9 S S S S (0, 0, 0)"]
    child.end()


def test_orphans_are_left_alone_where_they_cannot_be_told() -> None:
    """Without /proc, in a chroot, say."""

    def no_proc(path: str, *_: object, **options: object) -> NoReturn:
        raise FileNotFoundError(path)

    killed: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spawn, "kill_preauth", killed.append)
        patch.setattr("builtins.open", no_proc)
        spawn.kill_orphans(())
    assert killed == []
