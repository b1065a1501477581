"""Who a process is and what it may still do: become somebody for good and prove it, limits, no-new-privs."""

import errno
import os
import resource

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence

else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.errors import ContractBroken
from popad.settings import PREAUTH_UIDS

STANDARD_STREAMS = 3  # descriptors, 0 to 2
ROOM = 4 << 20  # octets that a confined process may still get: Python takes memory by the MB
MUCH = 64 << 20  # octets of address space, where it cannot be told: 14 MB (a session's) and 20 MB (-D) were seen
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38  # linux/prctl.h


def become(uid: int, gid: int, groups: "Sequence[int]" = ()) -> None:
    """Turn into `uid` and `gid`, in `groups` besides and no others, for good. Without root it can only be who it is.

    Raises ContractBroken where the identity did not change or could be taken back, PermissionError where it may not
    change at all.
    """
    if uid <= 0 or gid < 0:
        raise ContractBroken(f"asked to become uid {uid}")
    if os.geteuid() != 0:
        if os.getresuid() != (uid, uid, uid):
            raise PermissionError(f"popad runs as uid {os.geteuid()} and cannot become uid {uid}")
        return
    wanted = sorted({gid, *groups})
    os.setgroups(wanted)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or sorted(os.getgroups()) != wanted:
        raise ContractBroken(f"did not become uid {uid}")
    try:
        os.setresuid(-1, 0, -1)
    except PermissionError:
        return
    raise ContractBroken(f"uid {uid} could become root again")


def become_preauth(uid: int, gid: int) -> None:
    """Turn into a uid that no other process has, and `gid`, for good: processes of one uid could end one another.

    A container may have too few uids for that: there it is `uid`. Raises what become() raises.
    """
    if os.geteuid() == 0:
        try:
            return become(PREAUTH_UIDS[os.getpid()], gid)
        except OSError as error:
            if error.errno != errno.EINVAL:  # setresuid(2): not mapped in this user namespace
                raise
    become(uid, gid)


def close_all_but(*kept: int) -> None:
    """Close every descriptor but these and the standard streams, also those that other code has opened.

    For a process that logs nothing: the logs' sockets are closed, too.
    """
    place = STANDARD_STREAMS
    for fd in sorted(kept):
        os.closerange(place, fd)
        place = max(place, fd + 1)
    os.closerange(place, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def confine() -> None:
    """From now on this process gets no child, no privilege and little memory, says nothing, and ends with its parent.

    No file grows. Descriptors can still come. Raises OSError.
    """
    never_gain_privileges()
    end_with_the_parent()
    say_nothing()
    memory = (AddressSpace.known or AddressSpace.look()) + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    for limit in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    leave_no_core_file()


def close_all_doors(seconds: float) -> None:
    """From now on this process, which has been confined, gets no new descriptor, and is killed when it has used
    `seconds` of processor time, at most 2 more.

    What is open stays open; nothing may be imported after this. Calls that need none of these (unlink, an execve) are
    left to the unit's sandbox, and to the uid owning nothing.
    """
    for limit, most in ((resource.RLIMIT_NOFILE, 0), (resource.RLIMIT_CPU, max(int(seconds), 0) + 2)):
        resource.setrlimit(limit, (most, most))


def get_nothing_new() -> None:
    """From now on this process gets no child, no file grows, and no descriptor comes: it may have the standard streams
    (poll(2) wants room for as many as it waits for). Raises OSError.
    """
    for limit, most in (
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, STANDARD_STREAMS),
    ):
        resource.setrlimit(limit, (most, most))


def hide_memory() -> None:
    """From now on no process of the same uid may look into this one (ptrace(2), /proc/PID/mem). Raises OSError.

    Only after become(), which undoes it.
    """
    Prctl.load()
    Prctl.call(PR_SET_DUMPABLE, 0)


def leave_no_core_file() -> None:
    """For this process and its children: a password may be in one. The units have done so already."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class AddressSpace:
    """What this process has mapped: a fork of the daemon has as much, and would copy pages to find out (0.1 ms)."""

    known = 0  # octets

    @classmethod
    def look(cls) -> int:
        """Find out, for this process and those that it forks."""
        try:
            with open("/proc/self/statm", "rb", buffering=0) as sizes:
                cls.known = int(sizes.read(64).split()[0]) * resource.getpagesize()
        except OSError:
            cls.known = MUCH  # no /proc here
        return cls.known


def say_nothing() -> None:
    """Standard streams that lead nowhere: who reads the log would believe what is written there. Raises OSError."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for standard in range(STANDARD_STREAMS):
        os.dup2(null, standard)
    os.close(null)


def end_with_the_parent() -> None:
    """Have the kernel kill this process when its parent ends. Only after become(): a change of uid undoes it.

    Left out where ctypes would have to be loaded for it: under popad@.service, where systemd does it. The kernel asks
    whether the parent may (CAP_KILL), and who takes this process over can undo it. A parent that has ended before is
    noticed before anything is read of a client. Raises OSError.
    """
    if Prctl.function:
        Prctl.call(PR_SET_PDEATHSIG, signal.SIGKILL)


class NoNewPrivileges:
    """What this process knows of its no-new-privs flag. Children inherit the flag, and nothing takes it back."""

    known = False

    @classmethod
    def look(cls) -> bool:
        """Whether the flag is set: the unit may have done it. False also where that cannot be told."""
        if not cls.known:
            try:
                with open("/proc/self/status", "rb") as status:
                    cls.known = b"\nNoNewPrivs:\t1\n" in status.read()
            except OSError:
                pass  # no /proc here
        return cls.known


def never_gain_privileges() -> None:
    """Set no-new-privs where the unit has not done so: reading the flag costs 0.2 ms. Raises OSError."""
    if not NoNewPrivileges.look():
        Prctl.load()
        Prctl.call(PR_SET_NO_NEW_PRIVS, 1)
        NoNewPrivileges.known = True


class Prctl:
    """prctl(2), where it has been loaded: ctypes costs 3 ms, and to find the function in each fork 0.2 ms."""

    function: "Callable[[int, int, int, int, int], int] | None" = None

    @classmethod
    def load(cls) -> None:
        """Find the function. Children have it, too."""
        import ctypes

        cls.function = cls.function or ctypes.PyDLL(None).prctl

    @classmethod
    def call(cls, option: int, value: int) -> None:
        """Raises OSError."""
        if cls.function and cls.function(option, value, 0, 0, 0):
            raise OSError(f"prctl({option}, {value}) is refused")  # to keep the number would cost each fork 0.03 ms
