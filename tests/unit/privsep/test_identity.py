"""privsep/identity.py: identities that are gone for good, and what a confined process can still do.

In children: there is no way back.
"""

import errno
import fcntl
import mmap
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from io import RawIOBase
from pathlib import Path
from typing import NoReturn

import pytest

from popad.privsep import identity, spawn
from popad.privsep.channel import Channel
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
    """In a chroot, say: there is a limit of the memory all the same."""
    monkeypatch.setattr(AddressSpace, "known", 0)
    monkeypatch.setattr("builtins.open", no_proc)
    assert AddressSpace.look() == MUCH >= 20 << 20, "what was seen"


def test_the_address_space_is_what_the_kernel_says() -> None:
    said = int(status_of(os.getpid())["VmSize"].split()[0]) << 10
    assert abs(AddressSpace.look() - said) < 1 << 20


def test_what_the_kernel_refuses_is_an_error() -> None:
    Prctl.load()
    with pytest.raises(OSError, match="is refused"):
        Prctl.call(99_999, 0)


def test_standard_streams_that_lead_nowhere_take_no_other_descriptor() -> None:
    def role() -> str:
        before = set(os.listdir("/proc/self/fd"))
        identity.say_nothing()
        streams = {os.readlink(f"/proc/self/fd/{fd}") for fd in range(3)}
        return f"{streams} {len(set(os.listdir('/proc/self/fd')) - before - {'0', '1', '2'})}"

    assert in_a_child(role) == "{'/dev/null'} 0"


@needs_root
def test_each_preauth_child_has_a_uid_of_its_own() -> None:
    def role() -> str:
        become_preauth(NOBODY, NOBODY)
        return f"{os.getuid() == PREAUTH_UIDS[os.getpid()]} {os.getgid()}"

    assert in_a_child(role) == f"True {NOBODY}"


@needs_root
@pytest.mark.parametrize(("number", "becomes"), [(errno.EINVAL, f"{NOBODY}"), (errno.EAGAIN, "BlockingIOError: ")])
def test_a_container_that_has_no_such_uids(number: int, becomes: str) -> None:
    """There all have one; any other error is one."""

    def role() -> str:
        real = os.setresuid

        def setresuid(ruid: int, euid: int, suid: int) -> None:
            if ruid in PREAUTH_UIDS:
                raise OSError(number, "")
            real(ruid, euid, suid)

        os.setresuid = setresuid
        become_preauth(NOBODY, NOBODY)
        return str(os.getuid())

    assert in_a_child(role).startswith(becomes)


def no_proc(path: str, *_: object, **options: object) -> NoReturn:
    raise FileNotFoundError(path)


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
