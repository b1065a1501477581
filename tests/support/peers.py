"""Runs sessions of both servers in worker processes (namespace.py), one a processor, and fetches popa3d for them."""

import os
import queue
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tests.support import here
from tests.support.here import CHECKOUT, ROOT
from tests.support.patience import PATIENCE

CACHE = here.CACHE / "popa3d"

# Octets, None for no file, or the name of what is there instead of a regular file.
Mailbox = bytes | str | None
# Octets to send, or a change of the mailbox (how, after how many lines received, octets).
Step = bytes | tuple[str, int, bytes]


@dataclass(frozen=True)
class Session:
    """What one session left: the octets that the client received, the mailbox, and the server's standard error."""

    received: bytes
    mailbox: bytes | None
    stderr: bytes


class Unavailable(Exception):
    """This machine cannot run the comparison; the text says why."""


def require(*tools: str) -> None:
    """Raises Unavailable where no namespace can be made, or popa3d or one of these programs is missing."""
    if not ROOT:
        raise Unavailable("needs root: mount namespaces, and servers that become another user")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        raise Unavailable(f"not installed: {' '.join(missing)}")
    tried = subprocess.run(["unshare", "--mount", "--propagation", "private", "true"], capture_output=True, text=True)
    if tried.returncode:
        raise Unavailable(f"no mount namespace: {tried.stderr.strip()}")
    popa3d()


def popa3d() -> Path:
    """Debian's popa3d, unpacked into the cache and not installed."""
    binary = CACHE / "root/usr/sbin/popa3d"
    if not binary.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        fetch = ["apt-get", "-q", "download", "popa3d"]
        fetched = subprocess.run(fetch, cwd=CACHE, capture_output=True, text=True)
        if fetched.returncode:
            subprocess.run(["apt-get", "-q", "update"], capture_output=True)
            fetched = subprocess.run(fetch, cwd=CACHE, capture_output=True, text=True)
        if fetched.returncode:
            raise Unavailable(f"apt-get download popa3d: {fetched.stderr.strip()}")
        packages = sorted(CACHE.glob("popa3d_*.deb"))
        subprocess.run(["dpkg-deb", "-x", packages[-1], CACHE / "root"], check=True)
    return binary


def in_namespace(*words: str) -> list[str]:
    """The command that runs namespace.py with these words in a mount namespace of its own."""
    program = str(Path(__file__).with_name("namespace.py"))
    unshare = ["unshare", "--mount", "--propagation", "private"]
    return [*unshare, sys.executable, "-E", program, *words, str(popa3d()), str(CHECKOUT)]


class Worker:
    """One process in a mount namespace of its own; one session at a time."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                in_namespace("work", str(theirs.fileno())), pass_fds=[theirs.fileno()], cwd=CHECKOUT
            )
        self.channel = Connection(ours.detach())

    def run(self, server: str, mailbox: Mailbox, steps: Sequence[Step]) -> Session:
        self.channel.send((server, mailbox, steps))
        return Session(*self.channel.recv())

    def close(self) -> None:
        self.channel.close()
        self.process.wait(timeout=PATIENCE)


# A session mostly waits: for the clock that stamps files to move on, or for a refusal that is held back.
SESSIONS_EACH = 4  # at a time, of each processor


class Peers:
    """The workers together."""

    def __init__(self, count: int) -> None:
        self.sessions = 0
        self.workers = [Worker() for _ in range(count)]
        self.idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self.workers:
            self.idle.put(worker)

    def run(self, server: str, mailbox: Mailbox, *steps: Step) -> Session:
        """One session of `server`: popa3d, popad (forked from a process that has imported it) or popad-exec."""
        worker = self.idle.get()
        try:
            return worker.run(server, mailbox, steps)
        finally:
            self.sessions += 1
            self.idle.put(worker)


@contextmanager
def peers() -> Iterator[Peers]:
    """Raises Unavailable where the comparison cannot run."""
    require("unshare")
    both = Peers(SESSIONS_EACH * len(os.sched_getaffinity(0)))
    try:
        yield both
    finally:
        for worker in both.workers:
            worker.close()
