"""Roles in processes of their own: spawn one, wait for its end, kill it where it does not come."""

import _socket
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Container

else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.errors import ContractBroken
from popad.privsep.channel import Channel, message_pair
from popad.privsep.identity import PR_SET_CHILD_SUBREAPER, Prctl
from popad.settings import PREAUTH_UIDS

PATIENCE = 5.0  # seconds that a role may take to end when it has said what it had to say
CRASHED = 70  # EX_SOFTWARE of sysexits.h: a role ended with an exception


class Child:
    """A forked role, and our end of the channel to it."""

    def __init__(self, pid: int | None, channel: Channel) -> None:
        """`pid` is None for a process that somebody else waits for."""
        self.pid = pid
        self.channel = channel
        self.status = 0

    def end(self) -> int:
        """Close the channel and wait for the role to end. Returns its exit status (negative: a signal), also again.

        One that does not end in time is killed; where that is not allowed (by the unit's filter), ContractBroken: the
        caller ends, and the unit with it. ContractBroken, too, where it has said more than what was received of it.
        """
        if self.pid is None:
            self.channel.close()
            return self.status
        pid, self.pid, self.status = self.pid, None, CRASHED
        try:
            self.channel.shut()
            wait_for(pid)
            self.status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            if not self.channel.is_empty():
                raise ContractBroken("a child said more than it may")
        finally:
            self.channel.close()
        return self.status


def wait_for(pid: int) -> None:
    """Wait until a child has ended, or is as good as dead."""
    process = os.pidfd_open(pid)
    try:
        if not select.select([process], [], [], PATIENCE)[0]:
            kill(pid)
    except OSError:
        raise ContractBroken("a child does not end") from None
    finally:
        os.close(process)


def kill(pid: int) -> None:
    """SIGKILL for a preauth child. Raises OSError where that is not allowed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:
        kill_preauth(pid)


def kill_preauth(pid: int) -> None:
    """SIGKILL for a child with a preauth uid of its own; without CAP_KILL, too. Raises OSError for any other.

    This process takes that uid for a moment, as the effective one only: whom a process may signal is a matter of its
    effective uid, who may signal it one of the other two.
    """
    os.getpriority(os.PRIO_USER, PREAUTH_UIDS[pid])  # ESRCH unless somebody has this uid
    os.seteuid(PREAUTH_UIDS[pid])
    try:
        os.kill(pid, signal.SIGKILL)
    finally:
        os.seteuid(0)


def kill_orphans(known: "Container[int]") -> None:
    """In a process that inherits orphans: kill those with a preauth uid among its children, but for those it knows.

    Their sessions have died. A session that has refused a login has such a uid, too, until it has heard its client out.
    """
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as children:
            pids = children.read().split()
    except OSError:
        return  # no /proc here
    for pid in map(int, pids):
        try:
            if pid not in known:
                kill_preauth(pid)
        except OSError:
            pass  # it is another child


def spawn(role: "Callable[[], int | None]") -> int:
    """Run `role` in a child process, which ends with the status that it returns. Returns its pid. Raises OSError.

    The one way to fork but for two: `popad -D` that goes to the background (daemon/command.py) goes on as itself in the
    child, and the second process of a session (maildrop/mbox/second.py) is on a lower floor, and has nothing to say.
    """
    if pid := os.fork():
        return pid
    status = CRASHED
    try:
        for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)  # what the parent does when it is told to end is its own affair
        status = role() or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # a programming error: to stderr, which is the journal or nothing
    finally:
        os._exit(status)  # without running what belongs to the parent


def with_channel(
    role: "Callable[[Channel], object]", pair: "tuple[_socket.socket, _socket.socket] | None" = None
) -> Child:
    """Spawn `role` with its end of a channel: a new one, or over `pair`. Raises OSError."""
    ours, theirs = map(Channel, pair or message_pair())

    def with_its_end() -> None:
        ours.close()
        role(theirs)

    try:
        pid = spawn(with_its_end)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(pid, ours)


def inherit_orphans() -> None:
    """Become the parent of processes whose parents die, below this one. Raises OSError."""
    Prctl.load()
    Prctl.call(PR_SET_CHILD_SUBREAPER, 1)
