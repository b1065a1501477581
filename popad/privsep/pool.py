"""A pool of workers: a process that has everything loaded, and the workers forked from it that answer requests."""

import _socket
import errno
import os
import select
import signal
import socket
import sys
import time

from popad.privsep import spawn
from popad.privsep.channel import Channel, message_pair, receive_descriptor, send_descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Source(Protocol):
        """Where requests come from."""

        def fileno(self) -> int: ...
        def take(self) -> Channel | None: ...


PEER_CREDENTIALS = 12  # octets of struct ucred: pid, uid, gid
REQUESTS = 100  # that one worker answers
MOST_FREE = 8  # workers that wait for the next burst
AN_HOUR = 3600.0  # select() takes no infinity
REST = 1.0  # seconds without a request after which only one of them stays
PAUSE = 0.1  # seconds after a request that could not be taken: it may still wait there, and select() would not


class Ending:
    """SIGTERM, as something that select() waits for, or a reason to leave that is looked for at each request: those who
    have asked get their answers first.
    """

    def __init__(self, is_due: "Callable[[], bool]" = lambda: False) -> None:
        self.is_due = is_due
        self.reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def fileno(self) -> int:
        """What select() waits for."""
        return self.reading


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

    def take(self) -> Channel | None:
        """The channel of one request, unless the peer may not ask."""
        try:
            connection, _ = self.socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return None
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS)
        if int.from_bytes(peer[4:8], sys.byteorder) not in (0, os.geteuid()):
            connection.close()
            return None
        return Channel(_socket.socket(fileno=connection.detach()))


class RelaySource:
    """Requests come over one message socket that all who may ask have inherited, each with a channel of its own."""

    def __init__(self, end: _socket.socket) -> None:
        self.socket = end

    def fileno(self) -> int:
        """What select() waits for."""
        return self.socket.fileno()

    def take(self) -> Channel | None:
        """The channel of one request. Raises Exhausted when no process is left that has the other end, OSError."""
        message, fd = receive_descriptor(self.socket, 1)
        if not message and self.is_deserted():
            raise Exhausted
        if fd is None:
            if message:
                raise OSError(errno.EMFILE, "a request without its channel: no descriptor to be had for it")
            return None
        try:
            return Channel(_socket.socket(fileno=fd))
        except OSError:
            os.close(fd)  # no socket
            raise

    def is_deserted(self) -> bool:
        """Whether nobody has the other end. An empty message looks like that, but is none."""
        poll = select.poll()
        poll.register(self.socket, 0)
        return bool(poll.poll(0))


class Worker:
    """A child that answers one request after the other, and our end of the channel to it."""

    def __init__(self, socket: _socket.socket) -> None:
        self.socket = socket

    def give(self, channel: Channel) -> bool:
        """Hand a request over; False where the worker has gone."""
        try:
            send_descriptor(self.socket, b"\0", channel.fileno())
        except OSError:
            return False
        return True

    def has_answered(self) -> bool:
        """Whether it has just said that it waits for the next request; else it has gone."""
        try:
            return bool(self.socket.recv(1, _socket.MSG_DONTWAIT))
        except OSError:
            return False


class Workers:
    """The children that answer. One that has answered waits for the next request: a fork costs as much as a login.

    Each has one request at a time, so what crashes or hangs takes one login with it, and leaves after so many of
    them: what a module leaks has an end. There are as many as there are requests under way; few of them stay.
    """

    def __init__(
        self, source: "Source", role: "Callable[[Channel], None]", is_outdated: "Callable[[], bool]", requests: int
    ) -> None:
        self.requests = requests  # that one worker answers
        self.source = source
        self.role = role
        self.is_outdated = is_outdated
        self.free: list[Worker] = []  # the last one is the next to work: its memory is at hand
        self.busy: dict[int, Worker] = {}  # by the descriptor of the channel to it
        self.poll = select.poll()

    def answer(self, channel: Channel) -> None:
        """Have this request answered by a worker that is free, or by a new one. Raises OSError."""
        self.look()
        while self.free:
            worker = self.free.pop()
            if worker.give(channel):
                self.watch(worker)
                return
            worker.socket.close()
        self.start(channel)

    def look(self) -> None:
        """Learn who is free by now and who has gone."""
        for fd, _ in self.poll.poll(0):
            self.poll.unregister(fd)
            worker = self.busy.pop(fd)
            if worker.has_answered() and len(self.free) < MOST_FREE:
                self.free.append(worker)
            else:
                worker.socket.close()

    def shrink(self) -> bool:
        """No request has come for a while: let all go but one. Returns whether nothing is left to do."""
        self.look()
        while len(self.free) > 1:
            self.free.pop(0).socket.close()
        return not self.busy

    def finish(self) -> None:
        """Wait until each has answered or gone: they have time limits."""
        while self.busy:
            self.poll.poll()
            self.look()

    def start(self, channel: Channel) -> None:
        """A new worker, which has this request to begin with. Raises OSError."""
        ours, theirs = message_pair()

        def work() -> None:
            self.busy[ours.fileno()] = Worker(ours)
            self.work(channel, RelaySource(theirs))

        try:
            spawn.spawn(work)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self.watch(Worker(ours))

    def work(self, channel: Channel | None, requests: RelaySource) -> None:
        """What a worker does: answer, say so, wait for the next.

        Ends with the pool's process, after so many of them, and when what it has loaded is outdated.
        """
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PAM modules wait for programs of theirs
        os.close(self.source.fileno())
        for worker in (*self.free, *self.busy.values()):
            worker.socket.close()  # the pool's process alone has these: the workers leave when it ends
        for left in reversed(range(self.requests)):
            if channel is None:
                return
            self.role(channel)
            channel.close()
            if not left or self.is_outdated():
                return
            try:
                requests.socket.send(b"\0", _socket.MSG_NOSIGNAL)
                channel = requests.take()
            except (Exhausted, OSError):
                return

    def watch(self, worker: Worker) -> None:
        """It is busy: look() hears of it again."""
        self.busy[worker.socket.fileno()] = worker
        self.poll.register(worker.socket, select.POLLIN)


def serve_requests(
    source: "Source",
    role: "Callable[[Channel], None]",
    idle: float,
    is_outdated: "Callable[[], bool]" = lambda: False,
    ending: Ending | None = None,
    requests: int = REQUESTS,
) -> bool:
    """Answer requests until none has come for `idle` seconds (infinity: for ever), nobody is left who could ask, or
    `ending` says so and those under way are answered; where a worker has one request, it goes on by itself.

    Returns whether it ended for another reason: what this process has loaded is outdated. A request that waits is left
    to the next process then; those under way have their answers from the workers, which leave by themselves.
    The number of workers has no limit here but that of descriptors, one for each: only sessions can ask, once each, and
    have limits themselves; the role has a time limit, for the request to come and for all of it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are not waited for: the kernel reaps them
    workers = Workers(source, role, is_outdated, requests)
    resting = True
    last = time.monotonic()
    while True:
        patience = min(last + idle - time.monotonic(), AN_HOUR if resting else REST)
        waited_for: list[Source | Ending] = [source, *([ending] if ending else [])]
        ready = select.select(waited_for, [], [], max(patience, 0))[0]
        if ending and (ending in ready or (ready and ending.is_due())):
            if requests > 1:
                workers.finish()
            return False
        if not ready:
            if time.monotonic() >= last + idle:
                return False
            resting = workers.shrink()
            continue
        if is_outdated():
            return True
        last, resting = time.monotonic(), False
        try:
            if channel := source.take():
                try:
                    workers.answer(channel)
                finally:
                    channel.close()
        except Exhausted:
            return False
        except OSError as error:
            # No descriptor or process to be had: this login has to be tried again, those under way go on.
            print(f"popad: helper: {error}", file=sys.stderr, flush=True)
            time.sleep(PAUSE)
