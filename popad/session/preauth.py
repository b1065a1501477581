"""The preauth child: the AUTHORIZATION state, in a process that can open and start nothing.

It is the one part of popad that reads what unauthenticated clients send. It says what has become of them in one request
to the monitor; and before a LOGIN the name and the password, which the auth helper reads and the monitor never does.
"""

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable

    from popad.settings import Settings

    Pairs = tuple[tuple[_socket.socket, _socket.socket], tuple[_socket.socket, _socket.socket]]

from popad.errors import ContractBroken, PeerGone, PeerSilent
from popad.net.connection import LINGER, Connection
from popad.privsep import spawn  # all of it: the child can open nothing any more, so nothing can be imported then
from popad.privsep.channel import Channel, message_pair, receive_descriptor, send_descriptor
from popad.privsep.identity import become_preauth, close_all_but, close_all_doors, confine
from popad.protocol.authorization import MAX_ERRORS, MAY_LOG_IN, PROXY_HEADERS, TABLE, Authorization
from popad.protocol.dialogue import converse
from popad.protocol.lines import Lines
from popad.protocol.replies import err
from popad.protocol.sasl import CANCEL_EXCHANGE, END_EXCHANGE

# Requests to the monitor, which has a row for each. LOGIN and DECIDED have one field: what the client has sent after
# its login. STLS and SASL have none. The others have one, too: what the client has said, as Authorization.summary()
# puts it.
LOGIN, STLS, QUIT, GONE, SILENT, ERRORS = b"login", b"stls", b"quit", b"gone", b"silent", b"errors"
PROXIED = b"proxied"  # the client begins as a proxy does, and is none
SASL, DECIDED = b"sasl", b"decided"  # the helper is to hear of a mechanism from the child; it has heard all it wants
BEHIND_STLS = err("nothing may follow STLS before its answer")
MAX_AHEAD = 32768  # octets: what one read brings, and a line before it
MAX_CHALLENGE = 1024  # octets, of the helper's
MAY_OCTETS = 2  # of what a client may do
ENDS = ((CANCEL_EXCHANGE,), (END_EXCHANGE,))  # of an exchange: the helper hears no more of it


class Preauth:
    """The monitor's view of the child: the channel for requests, and the auth helper's end of the credentials channel.

    Both of that are the child's from its birth, as it can be given nothing later: it may open no descriptor.
    """

    def __init__(self, child: spawn.Child, credentials: Channel) -> None:
        self.child = child
        self.channel = child.channel
        self.credentials = credentials

    def introduce(self, connection: Connection, may: int) -> bool:
        """Give it its client, and what that may do. False where it has died while it waited."""
        try:
            send_descriptor(self.channel.socket, may.to_bytes(MAY_OCTETS, "big"), connection.fileno())
        except OSError:
            self.end()
            return False
        return True

    def end(self) -> int:
        """What Child.end() does; and nobody asks for a password any more."""
        self.credentials.close()
        return self.child.end()


def start(
    connection: Connection | None,
    deadline: float,
    settings: "Settings",
    identity: tuple[int, int] | None,
    pairs: "Pairs | None" = None,
    first: "Callable[[], object]" = lambda: None,
    may: int = MAY_LOG_IN,
) -> Preauth:
    """Fork the child, for a client that `may` do what that says (authorization.py).

    Without a connection there is no client yet: introduce() brings it, and it has the settings' time from then on, in
    place of `deadline`. `pairs`: for requests and for credentials, where they exist already. `first` is done in the
    child before all else. Raises OSError.
    """
    requests, credentials = pairs or (message_pair(), message_pair())
    helpers_end, its_end = map(Channel, credentials)

    def role(channel: Channel) -> None:
        first()
        preauth_role(channel, its_end, connection, deadline, settings, identity, may)

    child = spawn.with_channel(role, requests)
    its_end.close()
    return Preauth(child, helpers_end)


def preauth_role(
    channel: Channel,
    credentials: Channel,
    connection: Connection | None,
    deadline: float,
    settings: "Settings",
    identity: tuple[int, int] | None,
    may: int = MAY_LOG_IN,
) -> None:
    """Become `identity` (uid, gid; None: stay who it is) and converse until `deadline`. Ends with one request.

    Whatever else is open but the standard streams is closed first of all: the auth helper believes who has its relay.
    """
    ends = [channel.fileno(), credentials.fileno()]
    close_all_but(*ends, *([connection.fileno()] if connection else []))
    if identity is not None:
        become_preauth(*identity)
    confine()
    if connection is None:
        client, may = client_of(channel)
        if (connection := client) is None:
            return
        deadline = time.monotonic() + settings.login_timeout
    close_all_doors(deadline - time.monotonic())
    speak(connection, channel, credentials, deadline, settings, may)


def speak(
    connection: Connection,
    channel: Channel,
    credentials: Channel,
    deadline: float,
    settings: "Settings",
    may: int = MAY_LOG_IN,
) -> None:
    """The AUTHORIZATION state, and the request that tells what has become of it."""
    helper = AuthHelper(channel, credentials, deadline)
    state = Authorization(may, helper)
    lines = Lines()
    client = PreauthClient(connection, channel, helper, deadline)
    try:
        converse(client, lines, TABLE, state, settings.max_argument)
    except Decided:
        channel.send((DECIDED, b""))
    except PeerGone:
        state.end_exchange()
        channel.send((GONE, state.summary(client.first)))
    except PeerSilent:
        state.end_exchange()
        channel.send((SILENT, state.summary(client.first)))
    else:
        if state.is_decided:
            channel.send((DECIDED, lines.rest()))
        elif state.wants_tls and not lines.rest():
            channel.send((STLS,))
        elif state.wants_tls:
            # It was sent before TLS: whoever is between the client and us may have written it (CVE-2011-0411).
            channel.send((ERRORS, state.summary(client.first)))
            try:
                connection.write(BEHIND_STLS, max(deadline - time.monotonic(), 0))
            except (PeerGone, PeerSilent):
                pass
            connection.close(LINGER)
        elif client.first.startswith(PROXY_HEADERS):
            channel.send((PROXIED, state.summary(client.first)))
            connection.close(LINGER)
        elif state.login is None:
            erred = state.errors >= MAX_ERRORS
            channel.send((ERRORS if erred else QUIT, state.summary(client.first)))
            connection.close(LINGER if erred else 0)  # it may not have stopped sending
        else:
            credentials.send(state.login)
            channel.send((LOGIN, lines.rest()))


def client_of(channel: Channel) -> tuple[Connection | None, int]:
    """The client, when it has come, and what it may do; None where the session has ended before."""
    may, fd = receive_descriptor(channel.socket, MAY_OCTETS)
    return None if fd is None else Connection(fd, "", None), int.from_bytes(may, "big")


class Decided(Exception):
    """The helper has heard enough while the client was waited for: the monitor has the verdict."""


class AuthHelper:
    """The auth helper, as a mechanism asks it: over the credentials channel, once the monitor has given it the other
    end.
    """

    def __init__(self, channel: Channel, credentials: Channel, deadline: float) -> None:
        self.channel = channel
        self.credentials = credentials
        self.deadline = deadline
        self.listens = False  # has been told of an exchange, and has not heard the end of it

    def ask(self, *fields: bytes) -> bytes | None:
        """What the client is to be asked next; None where there is nothing left to ask. Raises PeerSilent."""
        self.tell(*fields)
        ends = [self.credentials.fileno(), self.channel.fileno()]
        # Not poll(2), which wants room for as many descriptors as it waits for: this process may have none.
        ready = select.select(ends, [], [], max(self.deadline - time.monotonic(), 0))[0]
        if self.channel.fileno() in ready:
            os._exit(spawn.CRASHED)  # the session has died
        if not ready:
            raise PeerSilent
        try:
            (challenge,) = self.credentials.take((MAX_CHALLENGE,))
        except ContractBroken:
            return None  # it has closed its end: the verdict is with the monitor
        return bytes(challenge)

    def tell(self, *fields: bytes) -> None:
        """Say something that needs no answer."""
        if not self.listens:
            self.channel.send((SASL,))
        self.listens = fields not in ENDS
        try:
            self.credentials.send(fields)
        except OSError:
            pass  # it has closed its end


class PreauthClient:
    """The client, who has until the deadline in all."""

    def __init__(self, connection: Connection, channel: Channel, helper: AuthHelper, deadline: float) -> None:
        self.connection = connection
        self.channel = channel
        self.helper = helper
        self.deadline = deadline
        self.first = b""  # of what it has sent, the first read

    def read(self) -> bytes:
        # Asked before each read: a client that never stops sending would never be waited for.
        if (left := self.deadline - time.monotonic()) <= 0:
            raise PeerSilent
        ends = [self.connection.fileno(), self.channel.fileno()]
        if self.helper.listens:
            ends.append(self.helper.credentials.fileno())
        ready = select.select(ends, [], [], left)[0]
        if self.channel.fileno() in ready:
            os._exit(spawn.CRASHED)  # the session has died: nobody would hear of a login
        if self.helper.credentials.fileno() in ready:
            raise Decided
        data = self.connection.read(max(self.deadline - time.monotonic(), 0))
        self.first = self.first or data
        return data

    def write(self, data: bytes) -> None:
        self.connection.write(data, max(self.deadline - time.monotonic(), 0))
