"""Keeping a helper warm: a process with everything loaded that forks a child for each request."""

import _socket
import os
import select
import signal
import socket
import sys
import time

from popad import privsep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Source(Protocol):
        """Where requests come from."""

        def fileno(self) -> int: ...
        def take(self) -> privsep.Channel | None: ...


PEER_CREDENTIALS = 12  # octets of struct ucred: pid, uid, gid
DESCRIPTOR = 4  # octets of a descriptor in SCM_RIGHTS
PAUSE = 0.1  # seconds after a request that could not be taken: it may still wait there, and select() would not


class Exhausted(Exception):
    """Nobody is left who could send a request."""


class Listener:
    """Requests come over a listening socket that systemd has passed."""

    def __init__(self, fd: int) -> None:
        self.socket = socket.socket(fileno=fd)
        self.socket.setblocking(False)  # another process may have taken the request that select() saw

    def fileno(self) -> int:
        """What select() waits for."""
        return self.socket.fileno()

    def take(self) -> privsep.Channel | None:
        """The channel of one request, unless whoever connected may not ask."""
        try:
            connection, _ = self.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS)
        if int.from_bytes(peer[4:8], sys.byteorder) not in (0, os.geteuid()):
            connection.close()
            return None
        return privsep.Channel(_socket.socket(fileno=connection.detach()))


class Relay:
    """Requests come over one message socket that all who may ask have inherited, each with a channel of its own."""

    def __init__(self, end: _socket.socket) -> None:
        self.socket = socket.socket(fileno=end.detach())

    def fileno(self) -> int:
        """What select() waits for."""
        return self.socket.fileno()

    def take(self) -> privsep.Channel | None:
        """The channel of one request. Raises Exhausted when no process is left that has the other end, OSError.

        There is room for one descriptor: the kernel closes what else comes. It must not stay open in a program that a
        PAM module starts, which socket.recv_fds() cannot be told.
        """
        room = socket.CMSG_LEN(DESCRIPTOR)
        message, control, _, _ = self.socket.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
        if not message and self.is_deserted():
            raise Exhausted
        if not control:
            return None
        fd = int.from_bytes(control[0][2], sys.byteorder)
        try:
            return privsep.Channel(_socket.socket(fileno=fd))
        except OSError:
            os.close(fd)  # no socket
            raise

    def is_deserted(self) -> bool:
        """Whether nobody has the other end. An empty message looks like that, but is none."""
        poll = select.poll()
        poll.register(self.socket, 0)
        return bool(poll.poll(0))


def keep(source: "Source", role: "Callable[[privsep.Channel], None]", idle: float | None) -> None:
    """Answer requests until none has come for `idle` seconds (None: for ever), or nobody is left who could ask.

    There are as many children as requests under way. Their number has no limit here: only sessions can ask, once each,
    and have limits themselves; the role has a time limit, for the request to come and for all of it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for: the kernel reaps them
    while select.select([source], [], [], idle)[0]:
        try:
            channel = source.take()
        except Exhausted:
            return
        except OSError as error:
            # No descriptor to be had: this login has to be tried again, those under way go on.
            print(f"popad: authentication helper: {error}", file=sys.stderr, flush=True)
            time.sleep(PAUSE)
            continue
        if channel is None:
            continue
        try:
            pid = os.fork()
        except OSError as error:
            print(f"popad: authentication helper: {error}", file=sys.stderr, flush=True)
            pid = -1
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PAM modules wait for programs of theirs
            os.close(source.fileno())
            privsep.run(role, channel)
        channel.close()
