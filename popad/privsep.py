"""Processes that know little: fork a role, drop an identity for good and prove it, and channels between them.

A channel carries small messages: a list of byte fields in one SOCK_SEQPACKET datagram. Whoever receives says how many
fields it expects and how long each may be; anything else is ContractBroken, never answered. A descriptor goes only to a
process with fewer rights, or to one that trusts all who have the other end: the two functions for that are no methods.
"""

import _socket
import os
import resource
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence
    from typing import NoReturn

else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.errors import ContractBroken

MAX_MESSAGE = 65536  # octets of one message; fits a Unix socket's default buffer (212,992)
LENGTH = 4  # octets of the length before each field
STANDARD_STREAMS = 3  # descriptors, 0 to 2
DESCRIPTOR = 4  # octets of a descriptor in SCM_RIGHTS
PATIENCE = 5.0  # seconds that a role may take to end when it has said what it had to say
CRASHED = 70  # EX_SOFTWARE of sysexits.h: a role ended with an exception


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

        One that does not end in time is killed; where that is not allowed (no CAP_KILL), ContractBroken: the caller
        ends, and the unit with it. ContractBroken, too, where it has said more than what was received of it.
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
            os.kill(pid, signal.SIGKILL)
    except PermissionError:
        raise ContractBroken("a child does not end") from None
    finally:
        os.close(process)


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


def become(uid: int, gid: int) -> None:
    """Turn into `uid` and `gid`, no other groups, for good. Without root it can only be who it is already.

    Raises ContractBroken where the identity did not change or could be taken back, PermissionError where it may not
    change at all.
    """
    if uid <= 0 or gid < 0:
        raise ContractBroken(f"asked to become uid {uid}")
    if os.geteuid() != 0:
        if os.getresuid() != (uid, uid, uid):
            raise PermissionError(f"popad runs as uid {os.geteuid()} and cannot become uid {uid}")
        return
    os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid) or os.getgroups() != [gid]:
        raise ContractBroken(f"did not become uid {uid}")
    try:
        os.setresuid(-1, 0, -1)
    except PermissionError:
        return
    raise ContractBroken(f"uid {uid} could become root again")


def close_all_but(*kept: int) -> None:
    """Close every descriptor but these and the standard streams, whoever has opened it.

    For a process that logs nothing: libsystemd would go on to write to the descriptor that it had.
    """
    place = STANDARD_STREAMS
    for fd in sorted(kept):
        os.closerange(place, fd)
        place = max(place, fd + 1)
    os.closerange(place, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def close_all_doors() -> None:
    """From now on this process gets no new descriptor, no child and no privilege, and lets no file grow.

    What is open stays open; nothing may be imported after this. Calls that need none of these (unlink, kill of a
    process of the same uid, an execve) are left to the unit's sandbox, and to the uid owning nothing.
    """
    never_gain_privileges()
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        resource.setrlimit(limit, (0, 0))


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
    """Set no-new-privs (prctl(2)) where the unit has not done so: ctypes costs 3 ms, reading the flag 0.2."""
    if NoNewPrivileges.look():
        return
    import ctypes

    pr_set_no_new_privs = 38
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_no_new_privs, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS)")
    NoNewPrivileges.known = True
