"""Helpers: two ways to reach one (its warm process, or the same code forked on demand), and keeping one warm.

A helper is a role that takes one request from a channel, answers it and ends. Warm or not, each request has a process
of its own; warm, that process is forked from one that has everything loaded.
"""

import _socket
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

from popad import privsep

PEER_CREDENTIALS = 12  # octets of struct ucred: pid, uid, gid


def ask(
    socket_path: str,
    on_demand: "Callable[[privsep.Channel], None]",
    request: "Sequence[bytes | bytearray]",
    answer_limits: "Sequence[int]",
    timeout: float,
) -> list[bytearray]:
    """Send one request to the helper at `socket_path`, or to `on_demand` in a child where the path is empty.

    Raises OSError where the helper cannot be reached, ContractBroken where it dies or says what it may not say,
    TimeoutError after `timeout` seconds.
    """
    if not socket_path:
        child = privsep.fork(on_demand)
        try:
            child.channel.send(request)
            return child.channel.receive(answer_limits, timeout)
        finally:
            child.end()
    channel = privsep.Channel(_socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC))
    try:
        channel.socket.connect(socket_path)
        channel.send(request)
        return channel.receive(answer_limits, timeout)
    finally:
        channel.close()


def keep_warm(listening_fd: int, role: "Callable[[privsep.Channel], None]", idle: float) -> None:
    """Answer requests until none has come for `idle` seconds; systemd starts the helper again when one does."""
    import signal
    import socket

    listener = socket.socket(fileno=listening_fd)
    listener.setblocking(False)  # another process may have taken the request that select() saw
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for: the kernel reaps them
    while select.select([listener], [], [], idle)[0]:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            continue
        with connection:
            peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS)
            uid = int.from_bytes(peer[4:8], sys.byteorder)
            try:
                child = uid in (0, os.geteuid()) and os.fork() == 0
            except OSError as error:
                # No process to be had: this login has to be tried again, those under way go on.
                print(f"popad auth-helper: {error}", file=sys.stderr, flush=True)
                child = False
            if child:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PAM modules wait for programs of theirs
                listener.close()
                privsep.run(role, privsep.Channel(_socket.socket(fileno=connection.detach())))
