"""The ways to the auth helper, and the one question that a session asks it.

The helper takes one request from a channel and answers it, in a process of its own: one that is forked on demand, or a
worker of a pool that has everything loaded (pool.py). The pool is reached by its socket, or in the standalone daemon by
a relay: a pair of message sockets that all sessions inherit, over which each passes one end of a channel of its own. A
relay has no name, so nobody else can use it.
"""

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from popad.settings import Settings

from popad.auth.verdict import BROKEN, CANCELLED, UNAVAILABLE, VERDICT_LIMITS, Verdict, unpack_verdict
from popad.errors import ContractBroken
from popad.privsep import spawn
from popad.privsep.channel import Channel, message_pair, send_descriptor
from popad.privsep.identity import close_all_but


def on_demand(role: "Callable[[Channel], None]") -> spawn.Child:
    """Fork a worker for one request."""
    return spawn.with_channel(role)


def by_socket(path: str) -> spawn.Child:
    """A worker of the pool that listens at `path`. Raises OSError."""
    channel = Channel(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC))
    try:
        channel.socket.connect(path)
    except OSError:
        channel.close()
        raise
    return spawn.Child(None, channel)


class HelperRelay:
    """A session's end of the relay. A process of it that may not ask closes this before anything else."""

    def __init__(self, end: _socket.socket) -> None:
        self.socket = end

    def reach(self) -> spawn.Child:
        """A worker of the pool at the other end. Raises OSError."""
        ours, theirs = message_pair()
        try:
            send_descriptor(self.socket, b"\0", theirs.fileno())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        return spawn.Child(None, Channel(ours))

    def close(self) -> None:
        self.socket.close()


def verdict(
    settings: "Settings",
    relay: HelperRelay | None,
    known: "Sequence[bytes]",
    credentials: Channel,
    meanwhile: "Callable[[], object]",
) -> Verdict:
    """What the auth helper says to the name and the password that the preauth child says over its channel, of which
    `credentials` is the other end: the helper gets that, and of the monitor what is `known` of the client, as
    REQUEST_LIMITS has it. This process closes it, too, unless the client may begin anew (CANCELLED).

    Whatever goes wrong on the way to the helper is a verdict as well, that nothing is known; ContractBroken is raised
    for what the child says. `meanwhile` is done in any case, best while the helper is busy.
    """

    def role(channel: Channel) -> None:
        from popad.auth import helper

        close_all_but(channel.fileno())  # the helper knows passwords and no client
        helper.Helper(settings).serve(channel)

    given = Verdict(UNAVAILABLE)
    try:
        if settings.auth_socket:
            worker = by_socket(settings.auth_socket)
        elif relay:
            worker = relay.reach()
        else:
            worker = on_demand(role)
        said = ask(worker, known, VERDICT_LIMITS, settings.auth_timeout, credentials, meanwhile)
        given = unpack_verdict(said)
    except TimeoutError:
        given = Verdict(UNAVAILABLE, reason=f"no verdict in {settings.auth_timeout} seconds")
    except (OSError, ContractBroken, ValueError) as error:
        given = Verdict(UNAVAILABLE, reason=f"the authentication helper: {error}")
    finally:
        if given.which != CANCELLED:
            credentials.close()
        meanwhile()
    if given.which == BROKEN:
        raise ContractBroken(f"the preauth child: {given.reason}")
    return given


def ask(
    worker: spawn.Child,
    request: "Sequence[bytes]",
    answer_limits: "Sequence[int]",
    timeout: float,
    passed_on: Channel | None = None,
    meanwhile: "Callable[[], object]" = lambda: None,
) -> list[bytearray]:
    """Send the one request, and with it the end of a channel; do something else while it is answered; get the answer.

    Raises OSError where the helper is gone, ContractBroken where it dies or says what it may not say, TimeoutError
    after `timeout` seconds.
    """
    try:
        worker.channel.send(request, *([passed_on.fileno()] if passed_on else []))
        meanwhile()
        return worker.channel.receive(answer_limits, timeout)
    finally:
        worker.end()
