"""privsep.py: channels that take nothing they did not ask for, children that end, identities that are gone for good."""

import _socket
import ctypes
import fcntl
import mmap
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.errors import ContractBroken
from popad.privsep import channel, identity, spawn
from popad.privsep.channel import MAX_MESSAGE, Channel, message_pair, unpack, wipe
from popad.privsep.identity import (
    MUCH,
    ROOM,
    AddressSpace,
    NoNewPrivileges,
    Prctl,
    become,
    become_preauth,
    close_all_but,
    close_all_doors,
    confine,
    never_gain_privileges,
)
from popad.settings import PREAUTH_UIDS
from tests.support.here import ROOT
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import status_of

NOBODY = 65534


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = (Channel(end) for end in message_pair())
    yield one, other
    one.close()
    other.close()


# -- messages


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_fields_arrive_as_they_were(fields: list[bytes]) -> None:
    one, other = (Channel(end) for end in message_pair())
    try:
        one.send(fields)
        if fields:
            assert other.receive([300] * len(fields), PATIENCE) == fields
        else:
            with pytest.raises(ContractBroken):
                other.receive([], PATIENCE)
    finally:
        one.close()
        other.close()


def packed(*fields: bytes | bytearray) -> bytearray:
    return bytearray(b"".join(len(field).to_bytes(4, "big") + field for field in fields))


@pytest.mark.parametrize(
    ("message", "limits"),
    [
        (packed(b"a"), [1, 1]),
        (packed(b"a", b"b"), [1]),
        (packed(b"ab"), [1]),
        (packed(b"a") + b"x", [1]),
        (packed(b"a")[:-1], [9]),
        (packed(b"a")[:3], [9]),
        (bytearray(b"\xff\xff\xff\xff"), [9]),
        (bytearray(b"\xff\xff\xff\xffabc"), [0xFFFFFFFF]),
        (bytearray(b"\0"), [9]),
        (bytearray(), [9]),
        (packed(b"a", b"b"), [1, 0]),
    ],
)
def test_a_message_of_another_shape_breaks_the_contract(message: bytearray, limits: list[int]) -> None:
    with pytest.raises(ContractBroken):
        unpack(message, limits)


@given(st.binary(max_size=40), st.lists(st.integers(0, 20), max_size=4))
def test_any_octets_are_a_message_or_break_the_contract(octets: bytes, limits: list[int]) -> None:
    try:
        fields = unpack(bytearray(octets), limits)
    except ContractBroken:
        return
    assert packed(*fields) == octets
    assert len(fields) == len(limits)
    assert all(len(field) <= limit for field, limit in zip(fields, limits, strict=True))


def test_an_empty_message_and_an_end_are_the_same(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    one.close()
    with pytest.raises(ContractBroken, match="gone"):
        other.receive([9], PATIENCE)
    with pytest.raises(OSError, match="Broken pipe"):  # and no SIGPIPE
        other.send([b"x"])


@pytest.mark.parametrize("timeout", [0.01, 0, -1])
def test_receive_does_not_wait_for_ever(ends: tuple[Channel, Channel], timeout: float) -> None:
    """The deadline may have passed before the wait begins."""
    with pytest.raises(TimeoutError):
        ends[0].receive([9], timeout)


def test_a_message_too_long(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    with pytest.raises(ContractBroken):
        one.send([b"x" * MAX_MESSAGE])
    one.send([b"x" * (MAX_MESSAGE - 4)])
    assert len(other.receive([MAX_MESSAGE], PATIENCE)[0]) == MAX_MESSAGE - 4


def test_what_others_send_too_long_is_no_message() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.sendall(packed(b"x" * 70_000))
        with pytest.raises(ContractBroken):
            Channel(ours).receive([100_000], PATIENCE)


def test_a_message_with_a_descriptor_is_none_and_the_descriptor_is_gone(ends: tuple[Channel, Channel]) -> None:
    reading, writing = os.pipe()
    descriptors = (socket.SOL_SOCKET, socket.SCM_RIGHTS, writing.to_bytes(4, sys.byteorder) * 100)
    before = os.listdir("/proc/self/fd")
    ends[0].socket.sendmsg([packed(b"a")], [descriptors])
    os.close(writing)
    with pytest.raises(ContractBroken):
        ends[1].receive([1], PATIENCE)
    assert len(os.listdir("/proc/self/fd")) < len(before)
    assert os.read(reading, 1) == b""  # nobody has the other end of the pipe
    os.close(reading)


def test_a_received_password_is_wiped(ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    """The message does not keep what the field has."""
    wiped: list[bytearray] = []
    real = channel.wipe

    def wipe(secret: bytearray) -> None:
        real(secret)
        wiped.append(secret)

    monkeypatch.setattr(channel, "wipe", wipe)
    ends[0].send([b"alice", b"secret"])
    fields = ends[1].receive([9, 9], PATIENCE)
    assert fields == [b"alice", b"secret"]
    assert [len(buffer) for buffer in wiped] == [19, 19]
    assert not any(map(any, wiped))


def test_wipe() -> None:
    secret = bytearray(b"secret")
    wipe(secret)
    assert secret == bytes(6)


# -- children


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


def descriptors() -> int:
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
    before = descriptors()
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
    assert descriptors() == before


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

    before = descriptors()
    assert spawn.with_channel(finish).end() == 3
    assert descriptors() == before


def test_the_end_of_a_process_that_somebody_else_waits_for() -> None:
    ours, theirs = message_pair()
    assert spawn.Child(None, Channel(ours)).end() == 0
    assert theirs.recv(1) == b""
    theirs.close()


def test_a_role_that_cannot_be_spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", fork)
    before = descriptors()
    with pytest.raises(BlockingIOError):
        spawn.with_channel(lambda channel: None)
    assert descriptors() == before


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


def test_a_channel_of_any_number() -> None:
    """select(2) knows descriptors below 1,024."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits[1] < 2000:
        pytest.skip("the limit of descriptors is below 2,000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2000, limits[1]))
    ours, theirs = message_pair()
    try:
        high = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, 1500)
        channel = Channel(_socket.socket(fileno=high))
        assert not channel.waits(0)
        theirs.send(b"\0\0\0\1x")
        assert channel.receive([1], PATIENCE) == [b"x"]
        channel.close()
    finally:
        ours.close()
        theirs.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_channels_are_not_inherited_by_programs(ends: tuple[Channel, Channel]) -> None:
    assert not os.get_inheritable(ends[0].fileno())
    assert not os.get_inheritable(ends[1].fileno())


# -- identities. In children: there is no way back.


def in_a_child(role: Callable[[], str]) -> str:
    """What `role` returns in a process of its own, or the name and text of what it raises."""

    def answer(channel: Channel) -> None:
        try:
            text = role()
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
        channel.send([text.encode()])

    child = spawn.with_channel(answer)
    try:
        return bytes(child.channel.receive([4096], PATIENCE)[0]).decode()
    finally:
        child.end()


@needs_root
def test_become_is_for_good() -> None:
    def role() -> str:
        os.setgroups([0, 8, 42])
        become(NOBODY, 8)
        status = status_of(os.getpid())
        for call in (os.setuid, os.seteuid, os.setgid, os.setegid):
            try:
                call(0)
                return f"{call.__name__} went back to root"
            except PermissionError:
                pass
        return f"{status['Uid']}; {status['Gid']}; {status['Groups']}; {status['CapEff']}; {status['CapPrm']}"

    uids, gids = f"{NOBODY} " * 3 + f"{NOBODY}", "8 8 8 8"
    assert in_a_child(role) == f"{uids}; {gids}; 8; {'0' * 16}; {'0' * 16}"


@needs_root
def test_become_with_all_groups_of_a_user() -> None:
    def role() -> str:
        become(NOBODY, 8, [42, 8, 24])
        return status_of(os.getpid())["Groups"]

    assert in_a_child(role) == "8 24 42"


@needs_root
def test_become_notices_groups_that_are_missing_or_too_many() -> None:
    def role() -> str:
        real = os.setgroups
        os.setgroups = lambda groups: real([*groups][:-1])
        become(NOBODY, 8, [24])
        return "became"

    assert in_a_child(role) == f"ContractBroken: did not become uid {NOBODY}"


@pytest.mark.parametrize(("uid", "gid"), [(0, 0), (0, 8), (-1, 8), (NOBODY, -1)])
def test_become_never_root(uid: int, gid: int) -> None:
    def role() -> str:
        become(uid, gid)
        return "became"

    assert in_a_child(role).startswith("ContractBroken: ")


@needs_root
def test_become_who_one_is_already() -> None:
    def role() -> str:
        os.setresgid(8, 8, 8)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        become(NOBODY, 8)
        return "still the same"

    assert in_a_child(role) == "still the same"


@needs_root
@pytest.mark.parametrize("uids", [(NOBODY,) * 3, (NOBODY, NOBODY, 1), (1, NOBODY, NOBODY)])
def test_become_without_root(uids: tuple[int, int, int]) -> None:
    """Nobody else, and not with a way back to somebody else."""

    def role() -> str:
        os.setresuid(*uids)
        become(1 if uids[0] == uids[2] else NOBODY, 8)
        return "became"

    assert in_a_child(role).startswith("PermissionError: ")


@needs_root
def test_become_notices_that_root_was_kept() -> None:
    """With CAP_SETUID kept over the change (PR_SET_KEEPCAPS and the like) the identity could be taken back."""

    def role() -> str:
        real = os.setresuid

        def setresuid(*uids: int) -> None:
            if uids != (-1, 0, -1):
                real(*uids)

        os.setresuid = setresuid
        become(NOBODY, 8)
        return "became"

    assert in_a_child(role) == f"ContractBroken: uid {NOBODY} could become root again"


@needs_root
@pytest.mark.parametrize("call", ["setresuid", "setresgid", "setgroups"])
def test_become_notices_that_nothing_happened(call: str) -> None:
    def role() -> str:
        setattr(os, call, lambda *arguments: None)
        become(NOBODY, 8)
        return "became"

    assert in_a_child(role) == f"ContractBroken: did not become uid {NOBODY}"


def attempts(thread: threading.Thread, file: RawIOBase) -> dict[str, Callable[[], object]]:
    """What a process that has closed all doors may try."""
    return {
        "open": lambda: os.open("/dev/null", os.O_RDONLY),
        "dup": lambda: os.dup(0),
        "socket": socket.socket,
        "fork": lambda: os.fork() or os._exit(1),
        "thread": thread.start,
        "write": lambda: file.write(b"x" * 10),
        "memory": lambda: mmap.mmap(-1, ROOM + mmap.PAGESIZE),
    }


def test_close_all_doors(tmp_path: Path) -> None:
    """No file, no process, no privilege; what is open stays open."""
    path = tmp_path / "file"
    path.write_text("text")
    path.chmod(0o644)
    file = path.open("r+b", buffering=0)

    def role() -> str:
        if ROOT:
            become(NOBODY, NOBODY)  # root is not bound by the number of processes
        confine()
        close_all_doors(7.9)
        closed = []
        thread = threading.Thread(target=int)
        for what, attempt in attempts(thread, file).items():
            try:
                attempt()
            except (OSError, RuntimeError):
                closed.append(what)
        limits = {resource.getrlimit(limit) for limit in (7, 6, 1, 4)}
        read = os.pread(file.fileno(), 4, 0).decode()
        cpu = resource.getrlimit(resource.RLIMIT_CPU)
        return f"{' '.join(closed)}; {limits}; {cpu}; {status_of_self['NoNewPrivs']}; {read}"

    real = identity.never_gain_privileges
    status_of_self: dict[str, str] = {}

    def never_gain_privileges() -> None:
        real()
        status_of_self.update(status_of(os.getpid()))  # while a file can be opened

    with pytest.MonkeyPatch.context() as patch, file:
        patch.setattr(identity, "never_gain_privileges", never_gain_privileges)
        assert in_a_child(role) == "open dup socket fork thread write memory; {(0, 0)}; (9, 9); 1; text"


def test_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a chroot, say: a limit all the same, and orphans are left alone."""
    real = open

    def opened(path: str, *arguments: Any, **options: Any) -> Any:
        return real("/nowhere" if path.startswith("/proc/") else path, *arguments, **options)

    monkeypatch.setattr("builtins.open", opened)
    assert AddressSpace.look() == MUCH
    monkeypatch.setattr(AddressSpace, "known", 0)
    spawn.kill_orphans(())


# -- processes of others, and their end


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
def test_only_strangers_are_killed_as_strangers(kept: str) -> None:
    """Root is root's own uid, too: it takes more than a uid to tell whom a signal may reach."""

    def role(channel: Channel) -> None:
        own = PREAUTH_UIDS.__getitem__
        with ExitStack() as made:
            others = (None, lambda pid: NOBODY, lambda pid: own(pid - 1), own)  # the last is known
            pids = [made.enter_context(waiting(uid)) for uid in others]
            stranger = made.enter_context(waiting(own))
            if kept != "all capabilities":
                drop_cap_kill()
            spawn.kill_orphans(pids[-1:])
            ended = os.waitpid(stranger, 0)[1]
            alive = [status_of(pid)["State"][:1] for pid in pids]
            channel.send([f"{ended} {' '.join(alive)} {os.getresuid()}".encode()])

    def drop_cap_kill() -> None:
        no_kill, setuid = 0, 1 << 7
        header = (ctypes.c_uint * 2)(0x20080522, no_kill)
        ctypes.CDLL(None).capset(header, (ctypes.c_uint * 6)(setuid, setuid, 0, 0, 0, 0))

    child = spawn.with_channel(role)
    assert child.channel.receive([100], PATIENCE) == [b"9 S S S S (0, 0, 0)"]
    child.end()


@needs_root
def test_the_kernel_ends_it_with_its_parent() -> None:
    """Where prctl(2) has been loaded, and not before the uid changes."""

    def parent(channel: Channel) -> None:
        Prctl.load()

        def role(inner: Channel) -> None:
            become_preauth(NOBODY, NOBODY)
            confine()
            inner.send([b"%d" % os.getpid()])
            signal.pause()

        made = spawn.with_channel(role)
        channel.send(made.channel.receive([9], PATIENCE))
        os._exit(0)

    child = spawn.with_channel(parent)
    pid = int(child.channel.receive([9], PATIENCE)[0])
    child.end()
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or status_of(pid)["State"].startswith("Z"))


def test_no_new_privs_set_by_the_unit_is_left_alone() -> None:
    """ctypes, which can set it, costs 3 ms."""

    def role() -> str:
        never_gain_privileges()
        for name in [name for name in sys.modules if name.partition(".")[0] in ("ctypes", "_ctypes")]:
            del sys.modules[name]
        NoNewPrivileges.known = False  # as if the unit had set it
        never_gain_privileges()
        return f"{status_of(os.getpid())['NoNewPrivs']} {'ctypes' in sys.modules}"

    assert in_a_child(role) == "1 False"


# -- descriptors


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_close_all_but(kept: int) -> None:
    """Whoever has opened a descriptor, it goes: with the least, the greatest and a middle one to be kept."""
    opened = sorted(fd for _ in range(3) for fd in os.pipe())
    keep = [opened[0], opened[3], opened[-1]][: kept + 1]

    def role(channel: Channel) -> None:
        highest = fcntl.fcntl(channel.fileno(), fcntl.F_DUPFD, channel.fileno() + 1)  # and nothing above it is kept
        close_all_but(channel.fileno(), *keep)
        left = [fd for fd in range(3, max(highest, opened[-1]) + 10) if is_open(fd)]
        left.remove(channel.fileno())
        channel.send([b" ".join(b"%d" % fd for fd in left)])

    child = spawn.with_channel(role)
    try:
        (left,) = child.channel.receive([256], PATIENCE)
        assert [int(fd) for fd in left.split()] == keep
        assert child.end() == 0
    finally:
        for fd in opened:
            os.close(fd)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
