"""The session's part of TLS: it asks the helper for a relay, and goes on behind it."""

import _socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.journal import Event
    from popad.net.connection import Connection
    from popad.privsep.helpers import HelperRelay
    from popad.settings import Settings

from popad.errors import ContractBroken
from popad.net.encryption import LIMITS, Encryption, unpack
from popad.privsep import helpers, spawn
from popad.privsep.channel import Channel
from popad.privsep.identity import close_all_but

GRACE = 5.0  # seconds beyond the handshake's own time limit in which the helper has to answer


class TlsNotPossible(Exception):
    """The helper cannot be reached: nothing has been said to the client, and its connection is as it was."""


def reach(settings: "Settings", relay: "HelperRelay | None") -> spawn.Child:
    """A process of the helper: of the one at POPAD_TLS_SOCKET, of the daemon's, or of the session's own.

    Raises TlsNotPossible.
    """
    try:
        if settings.tls_socket:
            return helpers.by_socket(settings.tls_socket)
        if relay:
            return relay.reach()
        return on_demand(settings)
    except OSError as error:
        raise TlsNotPossible(f"the TLS helper: {error}") from error


def on_demand(settings: "Settings") -> spawn.Child:
    """A helper of this session's own, as under inetd: nobody waits for it, as it ends behind the session. OSError."""

    def role(channel: Channel) -> None:
        from popad.tls.helper import TlsHelper
        from popad.tls.identity import tls_identity

        close_all_but(channel.fileno())
        TlsHelper(settings, tls_identity(settings)).serve(channel)

    return spawn.Child(None, helpers.on_demand(role).channel)


def hand_over(
    connection: "Connection", worker: spawn.Child, settings: "Settings", meanwhile: "Callable[[], object]"
) -> Encryption:
    """Have the helper do the handshake with the client; the connection is the plain end from then on. `meanwhile` is
    done while it does. What the helper does not say is an answer, too: there is no TLS then, and no connection to speak
    over.
    """
    plain, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    client = connection.take_plain_end(plain)
    try:
        try:
            worker.channel.send((connection.rhost.encode("ascii", "replace"),), client.fileno(), theirs.fileno())
        finally:
            theirs.close()
        meanwhile()
        outcome = unpack(worker.channel.receive(LIMITS, settings.tls_timeout + GRACE))
    except TimeoutError:
        outcome = fault("the TLS helper did not keep the time limit")
    except (OSError, ContractBroken, ValueError) as error:
        outcome = fault(f"the TLS helper: {error}")
    finally:
        worker.end()
    if outcome.is_helpers_fault:
        hang_up(client)
    client.close()
    return outcome


def hang_up(client: _socket.socket) -> None:
    """End the client's connection, whoever has it: a copy may lie in the queue of a helper that never takes it out."""
    try:
        client.shutdown(_socket.SHUT_RDWR)
    except OSError:
        pass  # the client was faster


def fault(reason: str) -> Encryption:
    """No TLS, and not by the client's doing."""
    outcome = Encryption(reason=reason)
    outcome.is_helpers_fault = True
    return outcome


def why_not(outcome: Encryption) -> "Event":
    """What the journal has of a handshake that has not succeeded: an administrator has to mend one of the two."""
    from popad import journal

    return journal.TLS_UNAVAILABLE if outcome.is_helpers_fault else journal.HANDSHAKE_FAILED


def at_once(
    connection: "Connection",
    settings: "Settings",
    relay: "HelperRelay | None" = None,
    meanwhile: "Callable[[], object]" = lambda: None,
) -> Encryption | None:
    """TLS before the greeting; None, and the connection ended, where it has not begun. The journal knows why."""
    try:
        outcome = hand_over(connection, reach(settings, relay), settings, meanwhile)
    except TlsNotPossible as reason:
        outcome = fault(str(reason))
    if outcome.is_up:
        return outcome
    from popad import journal

    rhost = connection.rhost or "unknown"
    if journal.wants(settings.log, event := why_not(outcome)):
        journal.send(event, rhost=rhost, rport=connection.rport, reason=outcome.reason)
    connection.hang_up()
    return None
