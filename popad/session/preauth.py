"""The authorization child: the AUTHORIZATION state, spoken by somebody who can open and start nothing.

It is the one part of popad that reads what strangers send. All that it has to say is one message to its session.
"""

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.privsep.channel import Channel
    from popad.settings import Settings

from popad.errors import PeerGone, PeerSilent
from popad.net.connection import LINGER, Connection
from popad.privsep import spawn  # all of it: the child can open nothing any more, so nothing can be imported then
from popad.privsep.channel import receive_descriptor
from popad.privsep.identity import become_a_stranger, close_all_but, close_all_doors, confine
from popad.protocol.authorization import MAX_ERRORS, TABLE, Authorization
from popad.protocol.dialogue import converse
from popad.protocol.lines import Lines
from popad.settings import ARGUMENT_OCTETS

LOGIN, QUIT, GONE, SILENT, ERRORS = b"login", b"quit", b"gone", b"silent", b"errors"
MAX_AHEAD = 32768  # octets read ahead of the login: what one read brings, and a line before it
# Which of these, name, password, octets read ahead.
HAND_OVER_LIMITS = (8, ARGUMENT_OCTETS, ARGUMENT_OCTETS, MAX_AHEAD)


def authorization_role(
    channel: "Channel",
    connection: "Connection | None",
    deadline: float,
    settings: "Settings",
    identity: tuple[int, int] | None,
) -> None:
    """Become `identity` (uid, gid; None: stay who it is) and converse until `deadline`. Ends with one message.

    Without a connection there is no client yet: it comes over `channel`, and has the settings' time from then on.
    Whatever else is open but the standard streams is closed first of all: the helper believes whoever has its relay.
    """
    close_all_but(channel.fileno(), *([connection.fileno()] if connection else []))
    if identity is not None:
        become_a_stranger(*identity)
    confine()
    if connection is None:
        if (connection := client_of(channel)) is None:
            return
        deadline = time.monotonic() + settings.login_timeout
    close_all_doors(deadline - time.monotonic())
    speak(connection, channel, deadline, settings)


def speak(connection: "Connection", channel: "Channel", deadline: float, settings: "Settings") -> None:
    """The AUTHORIZATION state, and the message of what has become of it."""
    state = Authorization()
    lines = Lines()
    try:
        converse(Stranger(connection, channel, deadline), lines, TABLE, state, settings.max_argument)
    except PeerGone:
        channel.send((GONE, b"", b"", b""))
    except PeerSilent:
        channel.send((SILENT, b"", b"", b""))
    else:
        if state.password is None:
            erred = state.errors >= MAX_ERRORS
            channel.send((ERRORS if erred else QUIT, b"", b"", b""))
            connection.close(LINGER if erred else 0)  # it may not have stopped sending
        else:
            channel.send((LOGIN, state.name, state.password, lines.rest()))


def client_of(channel: "Channel") -> "Connection | None":
    """The client, when it has come; None where the session has ended before."""
    _, fd = receive_descriptor(channel.socket, 1)
    return None if fd is None else Connection(fd, "", None)


class Stranger:
    """The client, who has until the deadline in all."""

    def __init__(self, connection: "Connection", channel: "Channel", deadline: float) -> None:
        self.connection = connection
        self.channel = channel
        self.deadline = deadline

    def read(self) -> bytes:
        # Asked before each read: a client that never stops sending would never be waited for.
        if (left := self.deadline - time.monotonic()) <= 0:
            raise PeerSilent
        ends = [self.connection.fileno(), self.channel.fileno()]
        if self.channel.fileno() in select.select(ends, [], [], left)[0]:
            os._exit(spawn.CRASHED)  # the session has died: nobody would hear of a login
        return self.connection.read(max(self.deadline - time.monotonic(), 0))

    def write(self, data: bytes) -> None:
        self.connection.write(data, max(self.deadline - time.monotonic(), 0))
