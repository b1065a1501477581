"""The ways to a helper, and the one question a session asks it.

A helper is a role that takes one request from a channel and answers it. It runs in a process of its own: forked on
demand, or a worker of a warm process that has everything loaded (warm.py). The warm one is reached by its socket, or in
the standalone daemon by a relay: a pair of message sockets that all sessions inherit, over which each passes one end of
a channel of its own. A relay has no name, so there is nobody else who could use it.
"""

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from popad.net.connection import Connection
    from popad.settings import Settings

from popad.auth import helper
from popad.errors import ContractBroken
from popad.privsep import spawn
from popad.privsep.channel import Channel, message_pair, send_descriptor


def on_demand(role: "Callable[[Channel], None]") -> spawn.Child:
    """Fork a helper for one request."""
    return spawn.fork(role)


def by_socket(path: str) -> spawn.Child:
    """A helper of the warm process that listens at `path`. Raises OSError."""
    channel = Channel(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC))
    try:
        channel.socket.connect(path)
    except OSError:
        channel.close()
        raise
    return spawn.Child(None, channel)


class Relay:
    """A session's end of the relay. It asks once; a part of it that may not ask closes this before anything else."""

    def __init__(self, end: _socket.socket) -> None:
        self.socket = end

    def reach(self) -> spawn.Child:
        """A helper of the warm process at the other end, and the end of this way to it. Raises OSError."""
        ours, theirs = message_pair()
        try:
            send_descriptor(self.socket, b"\0", theirs.fileno())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            self.close()
        return spawn.Child(None, Channel(ours))

    def close(self) -> None:
        self.socket.close()


def verdict(
    connection: "Connection",
    settings: "Settings",
    relay: Relay | None,
    request: "Sequence[bytes | bytearray]",
    meanwhile: "Callable[[], object]",
) -> helper.Verdict:
    """What the authentication helper says to `request` (name, password, the client's address).

    Whatever goes wrong on the way to it is a verdict as well, that nothing is known. `meanwhile` is done in any case,
    best while the helper is busy.
    """

    def role(channel: Channel) -> None:
        connection.socket.close()  # the helper knows passwords and no client
        helper.Helper(settings).serve(channel)

    try:
        if settings.auth_socket:
            if relay:
                relay.close()
            warm = by_socket(settings.auth_socket)
        elif relay:
            warm = relay.reach()
        else:
            warm = on_demand(role)
    except OSError as error:
        meanwhile()
        return helper.Verdict(helper.UNAVAILABLE, reason=f"the authentication helper: {error}")
    try:
        return helper.unpack_verdict(ask(warm, request, helper.VERDICT_LIMITS, settings.auth_timeout, meanwhile))
    except TimeoutError:
        return helper.Verdict(helper.UNAVAILABLE, reason=f"no verdict in {settings.auth_timeout} seconds")
    except (OSError, ContractBroken, ValueError) as error:
        return helper.Verdict(helper.UNAVAILABLE, reason=f"the authentication helper: {error}")


def ask(
    child: spawn.Child,
    request: "Sequence[bytes | bytearray]",
    answer_limits: "Sequence[int]",
    timeout: float,
    meanwhile: "Callable[[], object]" = lambda: None,
) -> list[bytearray]:
    """Send the one request, do something else while it is answered, get the answer.

    Raises OSError where the helper is gone, ContractBroken where it dies or says what it may not say, TimeoutError
    after `timeout` seconds.
    """
    try:
        try:
            child.channel.send(request)
        finally:
            meanwhile()
        return child.channel.receive(answer_limits, timeout)
    finally:
        child.end()
