"""Processes that know little: fork a role, drop an identity for good and prove it, and channels between them.

A channel carries small messages: a list of byte fields in one SOCK_SEQPACKET datagram. Whoever receives says how many
fields it expects and how long each may be; anything else is ContractBroken, never answered. A descriptor goes only to a
process with fewer rights, or to one that trusts all who have the other end: the two functions for that are no methods.
"""

import _socket
import errno
import os
import resource
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Container, Sequence
    from typing import NoReturn

else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.errors import ContractBroken
from popad.settings import UIDS_OF_STRANGERS

MAX_MESSAGE = 65536  # octets of one message; fits a Unix socket's default buffer (212,992)
LENGTH = 4  # octets of the length before each field
STANDARD_STREAMS = 3  # descriptors, 0 to 2
DESCRIPTOR = 4  # octets of a descriptor in SCM_RIGHTS
PATIENCE = 5.0  # seconds that a role may take to end when it has said what it had to say
CRASHED = 70  # EX_SOFTWARE of sysexits.h: a role ended with an exception
ROOM = 4 << 20  # octets that a confined process may still get: Python takes memory by the MB
MUCH = 64 << 20  # octets of address space, where it cannot be told: 14 MB (a session's) and 20 MB (-D) were seen
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38  # linux/prctl.h


class Channel:
    """One end of a pair of message sockets."""

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, fields: "Sequence[bytes | bytearray]") -> None:
        """Send one message, without making a copy of a field. Raises OSError when the other end is gone."""
        pieces = [piece for field in fields for piece in (len(field).to_bytes(LENGTH, "big"), field)]
        if sum(map(len, pieces)) > MAX_MESSAGE:
            raise ContractBroken("a message too long to send")
        self.socket.sendmsg(pieces, (), _socket.MSG_NOSIGNAL)

    def waits(self, timeout: float | None) -> bool:
        """Whether a message (or the end) has come within `timeout` seconds; None: as long as it takes."""
        # On a busy machine a deadline has passed before the wait. Not select(2), which knows 1,024 descriptors.
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(None if timeout is None else max(timeout, 0) * 1000))

    def receive(self, limits: "Sequence[int]", timeout: float | None) -> list[bytearray]:
        """One message of exactly len(limits) fields, each of at most so many octets, and no descriptor with it.

        Raises ContractBroken for any other message and at the end of the stream, TimeoutError after `timeout` seconds.
        """
        if not self.waits(timeout):
            raise TimeoutError
        try:
            # As large as what has come: to touch and wipe the most that may come costs each session memory and time.
            size = self.socket.recv_into(bytearray(1), 1, _socket.MSG_PEEK | _socket.MSG_TRUNC)
            message = bytearray(min(size, MAX_MESSAGE))
            # No room for descriptors: the kernel closes what it has no room for, and says so in the flags.
            size, _, flags, _ = self.socket.recvmsg_into([message])
        except ConnectionError as error:
            raise ContractBroken("no message: the other end is gone") from error
        if not size:
            raise ContractBroken("no message: the other end is gone")
        try:
            if flags & (_socket.MSG_CTRUNC | _socket.MSG_TRUNC):
                raise ContractBroken("a message with more than octets, or more of them than fit")
            return unpack(message, limits)
        finally:
            wipe(message)

    def shut(self) -> None:
        """Nothing can be sent any more, from either end; what has been sent can still be received."""
        self.socket.shutdown(_socket.SHUT_RDWR)

    def is_empty(self) -> bool:
        """Whether nothing is left to receive, for a channel that has been shut. An empty message is the end, too."""
        try:
            return not self.socket.recv(1)
        except ConnectionError:
            return True  # the other end has left without reading what it was sent

    def close(self) -> None:
        self.socket.close()


def wipe(secret: bytearray) -> None:
    """Overwrite a password. Python makes no copy of a bytearray behind our back, as it may of str and bytes."""
    secret[:] = bytes(len(secret))


def unpack(message: bytearray, limits: "Sequence[int]") -> list[bytearray]:
    """The fields of `message`, which is wiped. Raises ContractBroken unless it is exactly what `limits` allows."""
    fields = []
    place = 0
    for limit in limits:
        begin = place + LENGTH
        place = begin + int.from_bytes(message[begin - LENGTH : begin], "big")
        if not begin <= place <= min(begin + limit, len(message)):
            raise ContractBroken("a message of the wrong shape")
        fields.append(message[begin:place])
    if place != len(message):
        raise ContractBroken("a message with too much in it")
    wipe(message)
    return fields


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
    """SIGKILL for a child that has become a stranger. Raises OSError where that is not allowed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except PermissionError:
        kill_a_stranger(pid)


def kill_a_stranger(pid: int) -> None:
    """SIGKILL for a child that has a stranger's uid of its own; without CAP_KILL, too. Raises OSError for any other.

    This process takes that uid for a moment, as the effective one only: whom a process may signal is a matter of its
    effective uid, who may signal it one of the other two.
    """
    os.getpriority(os.PRIO_USER, UIDS_OF_STRANGERS[pid])  # ESRCH unless somebody has this uid
    os.seteuid(UIDS_OF_STRANGERS[pid])
    try:
        os.kill(pid, signal.SIGKILL)
    finally:
        os.seteuid(0)


def kill_orphans(known: "Container[int]") -> None:
    """In a process that inherits orphans: kill strangers among its children, but for those it knows.

    Their sessions have died. A session that has refused a login is a stranger, too, until it has heard its client out.
    """
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", "rb") as children:
            pids = children.read().split()
    except OSError:
        return  # no /proc here
    for pid in map(int, pids):
        try:
            if pid not in known:
                kill_a_stranger(pid)
        except OSError:
            pass  # it is another child


def fork(role: "Callable[[Channel], None]", pair: "tuple[_socket.socket, _socket.socket] | None" = None) -> Child:
    """Run `role` in a child process with its end of a channel: a new one, or over `pair`.

    The child never returns from here. Raises OSError.
    """
    pair = pair or message_pair()
    pid = os.fork()
    ours, theirs = map(Channel, pair)
    if pid:
        theirs.close()
        return Child(pid, ours)
    ours.close()
    run(role, theirs)


def message_pair() -> tuple[_socket.socket, _socket.socket]:
    """A connected pair of message sockets, close-on-exec."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)


def send_descriptor(way: _socket.socket, message: bytes, fd: int) -> None:
    """One message with a descriptor. Raises OSError when the other end is gone."""
    ancillary = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(DESCRIPTOR, sys.byteorder))
    way.sendmsg([message], [ancillary], _socket.MSG_NOSIGNAL)


def receive_descriptor(way: _socket.socket, most: int) -> tuple[bytes, int | None]:
    """One message of at most so many octets, and the descriptor that came with it. Raises OSError.

    There is room for one: the kernel closes what else comes. It must not stay open in a program that a PAM module
    starts.
    """
    room = _socket.CMSG_LEN(DESCRIPTOR)
    message, ancillary, _, _ = way.recvmsg(most, room, _socket.MSG_CMSG_CLOEXEC)
    return message, int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary else None


def run(role: "Callable[[Channel], None]", channel: Channel) -> "NoReturn":
    """Run `role` as all that this process still does, and leave without running what belongs to the parent."""
    status = CRASHED
    try:
        role(channel)
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # a programming error: to stderr, which is the journal or nothing
    finally:
        os._exit(status)


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


def become_a_stranger(uid: int, gid: int) -> None:
    """Turn into a uid that no other process has, and `gid`, for good: processes of one uid could end one another.

    A container may have too few uids for that: there it is `uid`. Raises what become() raises.
    """
    if os.geteuid() == 0:
        try:
            return become(UIDS_OF_STRANGERS[os.getpid()], gid)
        except OSError as error:
            if error.errno != errno.EINVAL:  # setresuid(2): not mapped in this user namespace
                raise
    become(uid, gid)


def close_all_but(*kept: int) -> None:
    """Close every descriptor but these and the standard streams, whoever has opened it.

    For a process that logs nothing: the ways to the logs are closed, too.
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


def inherit_orphans() -> None:
    """Become the parent of processes whose parents die, below this one. Raises OSError."""
    Prctl.load()
    Prctl.call(PR_SET_CHILD_SUBREAPER, 1)


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
