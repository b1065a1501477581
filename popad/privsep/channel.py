"""Channels between popad's processes: small messages of a fixed shape, and descriptors.

A message is a list of byte fields in one SOCK_SEQPACKET datagram. The receiver says how many fields it expects and how
long each may be; anything else is ContractBroken, and is never answered. A descriptor goes only to a process with fewer
rights, or to one that trusts all that have the other end: nothing else asks for one, and one that comes uninvited is
closed.
"""

import _socket
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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

    def send(self, fields: "Sequence[bytes | bytearray]", *fds: int) -> None:
        """Send one message, without making a copy of a field, and descriptors with it. Raises OSError when the other
        end is gone.
        """
        pieces = [piece for field in fields for piece in (len(field).to_bytes(LENGTH, "big"), field)]
        if sum(map(len, pieces)) > MAX_MESSAGE:
            raise ContractBroken("a message too long to send")
        self.socket.sendmsg(pieces, [rights(*fds)] if fds else (), _socket.MSG_NOSIGNAL)

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
        return self.take(limits)

    def take(self, limits: "Sequence[int]") -> list[bytearray]:
        """The message that has come, as receive() has it, for a process that cannot poll(2). Raises ContractBroken."""
        message, _ = self.take_message()
        try:
            return unpack(message, limits)
        finally:
            wipe(message)

    def receive_request(self, shapes: "Mapping[bytes, Sequence[int]]", timeout: float | None) -> list[bytearray]:
        """One message whose first field is a key of `shapes`, and the others as that says. Raises as receive() does."""
        message, _ = self.receive_message(timeout)
        try:
            request = bytes(message[LENGTH : LENGTH + int.from_bytes(message[:LENGTH], "big")])
            if request not in shapes:
                raise ContractBroken("a request that nobody may make")
            return unpack(message, (len(request), *shapes[request]))
        finally:
            wipe(message)

    def receive_with_channel(self, limits: "Sequence[int]", timeout: float | None) -> "tuple[list[bytearray], Channel]":
        """One message as receive() has it, and the end of another channel that came with it. Raises as receive() does.

        For a process that trusts the sender: a descriptor costs memory of the kernel's, and can be of anything.
        """
        message, fds = self.receive_message(timeout, descriptors=1)
        other = None
        try:
            fields = unpack(message, limits)
            other = Channel(_socket.socket(fileno=fds[0]))
            if (other.socket.family, other.socket.type) != (_socket.AF_UNIX, _socket.SOCK_SEQPACKET):
                raise ContractBroken("a message with another descriptor than a channel's")
            return fields, other
        except (OSError, ContractBroken) as error:
            if other:
                other.close()
            else:
                os.close(fds[0])
            raise ContractBroken(str(error)) from error
        finally:
            wipe(message)

    def receive_with_descriptors(
        self, limits: "Sequence[int]", timeout: float | None, count: int
    ) -> tuple[list[bytearray], list[int]]:
        """One message as receive() has it, and exactly so many descriptors. Raises as receive() does.

        For a process that trusts the sender, as receive_with_channel() is.
        """
        message, fds = self.receive_message(timeout, descriptors=count)
        try:
            return unpack(message, limits), fds
        except ContractBroken:
            for fd in fds:
                os.close(fd)
            raise
        finally:
            wipe(message)

    def receive_message(self, timeout: float | None, descriptors: int = 0) -> tuple[bytearray, list[int]]:
        """One message as it comes, with exactly so many descriptors."""
        if not self.waits(timeout):
            raise TimeoutError
        return self.take_message(descriptors)

    def take_message(self, descriptors: int = 0) -> tuple[bytearray, list[int]]:
        """The message that has come, or the end."""
        fds: list[int] = []
        try:
            # As large as what has come: to touch and wipe the most that may come costs each session memory and time.
            size = self.socket.recv_into(bytearray(1), 1, _socket.MSG_PEEK | _socket.MSG_TRUNC)
            message = bytearray(min(size, MAX_MESSAGE))
            # No room for other descriptors: the kernel closes what it has no room for, and says so in the flags.
            room = _socket.CMSG_LEN(descriptors * DESCRIPTOR) if descriptors else 0
            size, ancillary, flags, _ = self.socket.recvmsg_into([message], room, _socket.MSG_CMSG_CLOEXEC)
            for _, _, data in ancillary:
                fds += memoryview(data).cast("i")
        except ConnectionError as error:
            raise ContractBroken("no message: the other end is gone") from error
        if size and not flags & (_socket.MSG_CTRUNC | _socket.MSG_TRUNC) and len(fds) == descriptors:
            return message, fds
        for fd in fds:
            os.close(fd)
        wipe(message)
        if not size:
            raise ContractBroken("no message: the other end is gone")
        raise ContractBroken("a message with other descriptors than it may have, or more octets than fit")

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


def send_descriptor(socket: _socket.socket, message: bytes, fd: int) -> None:
    """One message with a descriptor. Raises OSError when the other end is gone."""
    socket.sendmsg([message], [rights(fd)], _socket.MSG_NOSIGNAL)


def rights(*fds: int) -> tuple[int, int, bytes]:
    """What sendmsg(2) takes descriptors in."""
    packed = b"".join(fd.to_bytes(DESCRIPTOR, sys.byteorder) for fd in fds)
    return _socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed


def receive_descriptor(socket: _socket.socket, most: int) -> tuple[bytes, int | None]:
    """One message of at most so many octets, and the descriptor that came with it. Raises OSError.

    There is room for one: the kernel closes what else comes. It must not stay open in a program that a PAM module
    starts.
    """
    room = _socket.CMSG_LEN(DESCRIPTOR)
    message, ancillary, _, _ = socket.recvmsg(most, room, _socket.MSG_CMSG_CLOEXEC)
    return message, int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary else None
