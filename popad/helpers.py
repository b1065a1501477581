"""The ways to a helper, and the one question a session asks it.

A helper is a role that takes one request from a channel, answers it and ends. It runs in a process of its own: forked
on demand, or by a warm process that has everything loaded (warm.py). The warm one is reached by its socket, or in the
standalone daemon by a relay: a pair of message sockets that all sessions inherit, over which each passes one end of a
channel of its own. A relay has no name, so there is nobody else who could use it.
"""

import _socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

from popad import privsep


def on_demand(role: "Callable[[privsep.Channel], None]") -> privsep.Child:
    """Fork a helper for one request."""
    return privsep.fork(role)


def by_socket(path: str) -> privsep.Child:
    """A helper of the warm process that listens at `path`. Raises OSError."""
    channel = privsep.Channel(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC))
    try:
        channel.socket.connect(path)
    except OSError:
        channel.close()
        raise
    return privsep.Child(None, channel)


class Relay:
    """A session's end of the relay. It asks once; a part of it that may not ask closes this before anything else."""

    def __init__(self, end: _socket.socket) -> None:
        self.socket = end

    def reach(self) -> privsep.Child:
        """A helper of the warm process at the other end, and the end of this way to it. Raises OSError."""
        ours, theirs = privsep.message_pair()
        descriptor = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, theirs.fileno().to_bytes(4, sys.byteorder))
        try:
            self.socket.sendmsg([b"\0"], [descriptor], _socket.MSG_NOSIGNAL)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            self.close()
        return privsep.Child(None, privsep.Channel(ours))

    def close(self) -> None:
        self.socket.close()


def ask(
    helper: privsep.Child, request: "Sequence[bytes | bytearray]", answer_limits: "Sequence[int]", timeout: float
) -> list[bytearray]:
    """Send the one request, get the answer.

    Raises OSError where the helper is gone, ContractBroken where it dies or says what it may not say, TimeoutError
    after `timeout` seconds.
    """
    try:
        helper.channel.send(request)
        return helper.channel.receive(answer_limits, timeout)
    finally:
        helper.end()
