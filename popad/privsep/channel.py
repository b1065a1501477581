"""Channels between popad's processes: small messages of a fixed shape, and descriptors.

A channel carries a list of byte fields in one SOCK_SEQPACKET datagram. Whoever receives says how many
fields it expects and how long each may be; anything else is ContractBroken, never answered. A descriptor goes only to a
process with fewer rights, or to one that trusts all who have the other end: the two functions for that are no methods.
"""

import _socket
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

from popad.errors import ContractBroken

MAX_MESSAGE = 65536  # octets of one message; fits a Unix socket's default buffer (212,992)
LENGTH = 4  # octets of the length before each field
DESCRIPTOR = 4  # octets of a descriptor in SCM_RIGHTS


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
