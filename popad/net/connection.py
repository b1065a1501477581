"""A stream socket to one client, and who the client is.

Works on `_socket`, the C part of the socket module: the Python part costs 6 ms of imports before each greeting.
"""

import _socket
import fcntl
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

from popad.errors import PeerGone, PeerSilent

READ_SIZE = 16384
TRIES = 16  # reads in vain that take about as long as to sleep and to be woken
LINGER = 1.0  # seconds for the last reply to arrive
SIOCOUTQ = (
    0x5411  # ioctl(2): octets that were sent and that the other side's kernel has not taken (Linux, every machine)
)
# Whether a slow reader has taken something is looked at so many times in its time limit, but at least every so many
# seconds: less than notify.py tells systemd to allow for beyond the limit.
LOOKS, LONGEST_LOOK = 10, 5.0


class Connection:
    """A stream socket to one client, and the client's address.

    `rhost` is an address without a port ("192.0.2.7", "2001:db8::1"; "" when the client left before it could be asked),
    `rport` a number or None. Timeouts are seconds: a read or a write that is not done by then raises PeerSilent. With
    `took` they are seconds in which the client takes nothing of what was sent to it: each time it has taken something
    `took` is called, and the time begins anew. (select(2) does not tell: a socket is writable when a third of its
    buffer is free, which a client of 1 kB/s does in an hour.)
    """

    def __init__(self, fd: int, rhost: str, rport: int | None) -> None:
        self.socket = _socket.socket(fileno=fd)
        self.rhost = rhost
        self.rport = rport
        self.sent_octets = 0
        self.proxy = ""  # the address of the one that it came by; `rhost` is the client's own then
        self.is_encrypted = False
        self.tries = 1  # reads of read_soon() before it sleeps
        if self.socket.family != _socket.AF_UNIX:
            # Answers leave when they are complete; Nagle's algorithm would hold the last part of each for 40 ms.
            self.socket.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        return self.socket.fileno()

    def local_port(self) -> int | None:
        """The port that the client has connected to; None where it has none, or has left."""
        try:
            name = self.socket.getsockname()
        except OSError:
            return None
        return int(name[1]) if isinstance(name, tuple) else None

    def take_plain_end(self, plain: _socket.socket) -> _socket.socket:
        """Go on over the plain end of a relay, which has the client from now on. Returns what leads to the client."""
        client, self.socket = self.socket, plain
        self.is_encrypted = True
        return client

    def waits(self, timeout: float) -> bool:
        """Whether the client has sent something (or closed) within `timeout` seconds."""
        return bool(select.select([self.socket.fileno()], [], [], max(timeout, 0))[0])

    def keep_time(self, seconds: float) -> None:
        """From now on the kernel keeps the time of read_soon(), without a select(2) for each command."""
        from popad.arrays import array

        limit = array("l", (int(seconds), int(seconds % 1 * 1_000_000)))  # struct timeval
        try:
            self.socket.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, limit)
        except OSError:  # its fields are wider than a long on some 32-bit machines
            self.socket.setblocking(False)

    def read_soon(self) -> bytes:
        """What the client sends within the time of keep_time(); nothing, if it takes longer. Raises PeerGone.

        On a socket that does not block (inetd may have made it so) nothing is waited for. A client on the same machine
        is back before this process would be asleep, so as long as it is, others are let run instead: a RETR takes 30 us
        of processor time and not 37. A client that is further away costs one read more.
        """
        tries, self.tries = self.tries, max(self.tries // 2, 1)
        for attempt in range(tries):
            if attempt:
                os.sched_yield()
            if data := self.receive(_socket.MSG_DONTWAIT):
                self.tries = TRIES
                return data
        return self.receive()

    def receive(self, flags: int = 0) -> bytes:
        """What has come, or nothing where nothing has. Raises PeerGone."""
        try:
            data = self.socket.recv(READ_SIZE, flags)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise PeerGone(error.errno) from error
        if not data:
            raise PeerGone
        return data

    def read(self, timeout: float, took: "Callable[[], None] | None" = None) -> bytes:
        """At least one octet. Raises PeerGone at the end of the stream and PeerSilent after `timeout` seconds."""
        while not (data := self.receive(_socket.MSG_DONTWAIT)):
            self.wait_for_client(timeout, took)
        return data

    def write(self, data: bytes, timeout: float, took: "Callable[[], None] | None" = None) -> None:
        """All of `data`, within `timeout` seconds: without `took` a client that reads slowly does not get more.

        Raises PeerGone when the client has left, PeerSilent when it does not read that fast.
        """
        deadline = time.monotonic() + timeout
        unsent: bytes | memoryview = data
        while unsent:
            try:
                sent = self.socket.send(unsent, _socket.MSG_DONTWAIT)
            except BlockingIOError:
                self.wait_for_client(timeout if took else deadline - time.monotonic(), took, to_write=True)
            except OSError as error:
                raise PeerGone(error.errno) from error
            else:
                self.sent_octets += sent
                if sent == len(unsent):
                    return
                unsent = memoryview(unsent)[sent:]
                if took:
                    took()

    def wait_for_client(self, timeout: float, took: "Callable[[], None] | None", to_write: bool = False) -> None:
        """Until it has sent something, or `to_write` until there is room for more. Raises PeerSilent."""
        fd = [self.socket.fileno()]
        reading, writing = ([], fd) if to_write else (fd, [])
        deadline = time.monotonic() + timeout
        untaken = self.untaken() if took else 0
        while True:
            left = max(deadline - time.monotonic(), 0)
            ready = select.select(reading, writing, [], min(left, timeout / LOOKS, LONGEST_LOOK) if untaken else left)
            if any(ready):
                return
            before, untaken = untaken, self.untaken() if untaken else 0
            if took and untaken < before:
                took()
                deadline = time.monotonic() + timeout
            elif time.monotonic() >= deadline:
                raise PeerSilent

    def untaken(self) -> int:
        """Octets that were sent and that the client's side has not taken (of a Unix socket: the memory that they take).

        What its kernel has taken for a client that does not read it cannot be seen. 0 where nothing can be told.
        """
        try:
            return int.from_bytes(fcntl.ioctl(self.socket.fileno(), SIOCOUTQ, bytes(4)), sys.byteorder)
        except OSError:
            return 0

    def close(self, linger: float = 0.0) -> None:
        """End the connection so that the last reply arrives; discard what the client sends for up to `linger` seconds.

        systemd keeps a copy of the socket until the unit is dead, so a close alone would not end the stream; and octets
        left unread when the last copy is closed make the kernel reset the connection, and the client lose the reply.
        Reads from the client (and drops what it reads): not for a process that is still root.
        """
        deadline = time.monotonic() + linger
        try:
            self.socket.shutdown(_socket.SHUT_WR)
            while self.waits(deadline - time.monotonic()) and self.socket.recv(READ_SIZE, _socket.MSG_DONTWAIT):
                if time.monotonic() > deadline + 1:
                    break  # a client that never stops sending does not get our last reply, and we do not get stuck
        except OSError:
            pass  # the client was faster
        self.hang_up()

    def hang_up(self) -> None:
        """End the connection at once."""
        try:
            self.socket.shutdown(_socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


def without_mapping(address: str) -> str:
    """An IPv4 client of a dual-stack socket by its IPv4 address, as access rules and log readers know it."""
    return address[7:] if address.startswith("::ffff:") and "." in address else address
