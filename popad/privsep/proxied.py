"""A client that comes by way of a proxy: who it is, a process without rights reads, and this one checks."""

import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.net.arrival import Facts
    from popad.net.connection import Connection

from popad.errors import ContractBroken, PeerGone, PeerSilent
from popad.net import proxy
from popad.net.arrival import GREETING, NoClient
from popad.net.connection import without_mapping
from popad.net.encryption import Encryption
from popad.net.proxy import LIMITS, Header, HeaderWrong
from popad.privsep import spawn
from popad.privsep.channel import Channel
from popad.privsep.identity import become_preauth, close_all_but, close_all_doors, confine

MAX_REASON = 100
WRONG, RIGHT = b"wrong", b"right"
SHAPES = {RIGHT: LIMITS, WRONG: (MAX_REASON,)}
GRACE = 5.0  # seconds that the reader gets beyond its time limit


def learn_client(
    connection: "Connection", facts: "Facts", has_slot: "Callable[[str], bool]" = lambda _: True
) -> Encryption | None:
    """Who has come by way of the proxy; and what that says of TLS, if it has ended some. `has_slot`: whether there may
    be a session more of that address. Raises NoClient.
    """
    from popad import journal

    try:
        header = hear_of_client(connection, facts.identity, facts.settings.login_timeout)
    except (HeaderWrong, ContractBroken, OSError) as wrong:
        journal.send(journal.PROXY_REFUSED, rhost=connection.rhost, rport=connection.rport, reason=str(wrong))
        raise NoClient from wrong
    if not header.address:
        answer_health_check(connection, GREETING)
        raise NoClient
    encryption = believe(connection, header)
    if not has_slot(connection.rhost):
        raise NoClient
    return encryption


def hear_of_client(connection: "Connection", identity: tuple[int, int] | None, seconds: float) -> Header:
    """The header, within so many seconds; the connection is at what the client itself has said then. `identity`: who
    reads it (uid, gid).

    Raises HeaderWrong, ContractBroken.
    """
    deadline = time.monotonic() + seconds

    def role(channel: Channel) -> None:
        close_all_but(channel.fileno(), connection.fileno())
        if identity is not None:
            become_preauth(*identity)
        confine()
        close_all_doors(seconds)
        try:
            channel.send((RIGHT, *proxy.read(lambda octets: take(connection, octets, deadline)).pack()))
        except HeaderWrong as wrong:
            channel.send((WRONG, str(wrong).encode()))

    child = spawn.with_channel(role)
    try:
        which, *fields = child.channel.receive_request(SHAPES, seconds + GRACE)
        if which == WRONG:
            raise HeaderWrong(fields[0].decode("ascii", "replace"))
        return proxy.unpack(fields)
    except (TimeoutError, ValueError) as error:
        raise ContractBroken(f"the reader of a PROXY header: {error}") from None
    finally:
        child.end()


def take(connection: "Connection", octets: int, deadline: float) -> bytes:
    """Exactly so many octets of the proxy's. Raises HeaderWrong."""
    data = b""
    while len(data) < octets:
        if not select.select([connection.fileno()], [], [], max(deadline - time.monotonic(), 0))[0]:
            raise HeaderWrong("no PROXY header in time")
        try:
            piece = connection.socket.recv(octets - len(data))
        except OSError as error:
            raise HeaderWrong("the proxy left") from error
        if not piece:
            raise HeaderWrong("the proxy left")
        data += piece
    return data


def believe(connection: "Connection", header: Header) -> Encryption | None:
    """From now on the connection is the client's. What the proxy says of TLS, where it has ended some."""
    connection.proxy = connection.rhost
    connection.rhost, connection.rport = without_mapping(header.address), header.port
    if not header.version:
        return None
    connection.is_encrypted = True
    return Encryption(header.version, header.cipher or "unknown")


def answer_health_check(connection: "Connection", greeting: bytes) -> None:
    """The proxy asks for itself whether there is a server: this is no session."""
    try:
        connection.write(greeting, GRACE)
    except (PeerGone, PeerSilent):
        pass
    connection.hang_up()
