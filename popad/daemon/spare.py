"""A spare session: forked by the daemon before its client comes, so that no client waits for the forks.

It has its preauth child, too, and waits for one message of the daemon: a connection and who is at its other end.
"""

import _socket

from popad.net.connection import Connection
from popad.privsep.channel import receive_descriptor, send_descriptor

MAX_MESSAGE = 80  # octets: an address (with its zone), a blank and a port


class Spare:
    """The daemon's end of the handoff, the channel that its client comes over."""

    def __init__(self, pid: int, handoff: _socket.socket) -> None:
        self.pid = pid
        self.handoff = handoff

    def give(self, fd: int, address: str, port: int) -> bool:
        """Hand over a connection, the first and last one; False where the spare has gone."""
        try:
            send_descriptor(self.handoff, f"{address} {port}".encode(), fd)
        except OSError:
            return False
        finally:
            self.handoff.close()
        return True

    def dismiss(self) -> None:
        """There will be no client: it leaves."""
        self.handoff.close()


def client_from(handoff: _socket.socket) -> Connection | None:
    """In the spare: the client, when it has come; None where there will be none."""
    message, fd = receive_descriptor(handoff, MAX_MESSAGE)
    handoff.close()
    if fd is None:
        return None
    address, port = message.decode().split(" ")
    return Connection(fd, address, int(port))
