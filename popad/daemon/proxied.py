"""A client of a proxy's is known to its session first, and counted by the parent: the session asks whether there is a
slot for the address.

It asks as root, before it has a client of its own: nobody else has the relay.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

from popad.privsep.channel import Channel, message_pair, receive_descriptor, send_descriptor

MAX_MESSAGE = 80  # octets: a process number, a blank and an address
PATIENCE = 5.0  # seconds for the parent's answer
YES, NO = b"y", b"n"


class ProxiedClients:
    """Both ends of the relay: sessions have one, the parent the other."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.relay, self.end = message_pair()

    def has_slot(self, address: str) -> bool:
        """In a session: whether there may be one more of this address."""
        ours, theirs = message_pair()
        channel = Channel(ours)
        try:
            send_descriptor(self.relay, f"{os.getpid()} {address}".encode(), theirs.fileno())
            theirs.close()
            return channel.waits(PATIENCE) and ours.recv(1) == YES
        except OSError:
            return False  # there is no parent any more
        finally:
            theirs.close()
            channel.close()

    def answer(self, has_slot: "Callable[[int, str], bool]") -> None:
        """In the parent: one question, which has come."""
        try:
            message, fd = receive_descriptor(self.end, MAX_MESSAGE)
        except OSError:
            return
        if fd is None:
            return
        try:
            pid, _, address = message.decode("ascii").partition(" ")
            os.write(fd, YES if has_slot(int(pid), address) else NO)
        except (OSError, ValueError):
            pass  # it is gone, or was no question
        finally:
            os.close(fd)

    def close(self) -> None:
        """For a process that neither asks nor answers."""
        self.relay.close()
        self.end.close()
