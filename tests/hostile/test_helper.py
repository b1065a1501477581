"""The authentication helper under hostile clients, and killed at any moment: a login fails with [SYS/TEMP] at worst.

Real processes: the helper as systemd starts it and as the daemon keeps it, sessions that log in meanwhile.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from popad.auth import credentials
from popad.auth.sasl.table import MECHANISMS
from popad.session import monitor
from tests.support.daemon import daemon
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import ALL, NAME, PASSWORD, PYTHON, Server, children_of, handed_over

REQUEST_TIMEOUT = 1.0  # seconds, in place of 10: how long a connection without a request is kept
PROGRAM = f"""
from popad.auth import credentials, helper
helper.REQUEST_TIMEOUT = {REQUEST_TIMEOUT}
credentials.File.refused_soonest = helper.LATER = 0.001
from popad.__main__ import main
main()
"""


def packed(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


class Helper:
    """The helper behind a listening socket, which outlives it as systemd's does."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.path = str(server.path / "auth.sock")
        self.settings = {"POPAD_AUTH_SOCKET": self.path, "POPAD_GUESS_DELAY": "0"}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.bind(self.path)
        self.socket.listen(1000)
        self.start()

    def start(self) -> None:
        with open(self.server.path / "helper.log", "ab") as log:
            self.process = subprocess.Popen(
                handed_over(self.socket, PYTHON, "-c", PROGRAM, "auth-helper"),
                cwd=CHECKOUT,
                env={"PATH": os.defpath, **self.server.settings, **self.settings},
                pass_fds=[self.socket.fileno()],
                stderr=log,
            )

    def connect(self) -> socket.socket:
        one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one.settimeout(PATIENCE)
        one.connect(self.path)
        return one

    def verdict(self, *credentials: bytes) -> bytes:
        """All of the answer to a name and a password."""
        with self.connect() as one:
            ask(one, packed(b"192.0.2.7", b"", b""), packed(b"USER", *credentials))
            return one.recv(70000)

    def log_in(self) -> bytes:
        """A session's answer to the right password."""
        with self.server.session(self.settings) as (client, _):
            return client.log_in()

    def log_in_to_the_end(self) -> bytes:
        """The answer to PASS, with QUIT behind it."""
        with self.server.session(self.settings) as (client, _):
            client.line()
            client.ask(f"USER {NAME}")
            client.send(f"PASS {PASSWORD}\r\nQUIT\r\n".encode())
            return first_of(client.rest())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.close()


@pytest.fixture
def helper(server: Server) -> Iterator[Helper]:
    helper = Helper(server)
    yield helper
    helper.close()


def ask(one: socket.socket, request: bytes, credentials: bytes) -> None:
    """As the monitor and the preauth child do."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        one.sendmsg([request], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, theirs.fileno().to_bytes(4, sys.byteorder))])
        ours.send(credentials)


def datagram(chance: random.Random) -> bytes:
    """Something like a request, or what a mechanism begins with."""
    fields = [chance.choice((b"alice", b"", b"x" * 249, b"x" * 250, chance.randbytes(9))) for _ in range(6)]
    mechanism = chance.choice((b"USER", b"USER", b"USER", *MECHANISMS, b"", chance.randbytes(4)))
    octets = packed(mechanism, *fields[: chance.choice((0, 1, 2, 2, 2, 3, 6))])
    wrong = chance.randrange(5)
    if wrong == 0:
        octets = octets[: chance.randrange(len(octets) + 1)]
    if wrong == 1:
        octets = chance.randbytes(chance.choice((1, 4, 100, 60000)))
    if wrong == 2:
        octets += b"x"
    return octets


def test_garbage(helper: Helper) -> None:
    """None of it is answered with a passed login, none of it ends the helper, and nothing of it stays."""
    assert helper.verdict(b"alice", PASSWORD.encode()).startswith(packed(b"passed"))
    before = len(os.listdir(f"/proc/{helper.process.pid}/fd"))
    chance = random.Random(2)
    null = os.open(os.devnull, os.O_RDONLY)
    answers: Counter[bytes] = Counter()
    for number in range(150):
        with helper.connect() as one:
            octets = datagram(chance)
            fds = null.to_bytes(4, sys.byteorder) * (number % 4)
            try:
                if number % 2:
                    one.sendmsg([octets], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else [])
                else:
                    ask(one, packed(b"192.0.2.7", b"", b""), octets)
                if number % 3 == 0:
                    one.send(octets)
                answers[one.recv(70000)[4:][:6]] += 1
            except ConnectionError:
                answers[b"reset"] += 1
    os.close(null)
    assert set(answers) <= {b"", b"reset", b"failed", b"unknow", b"unavai", b"broken"}, answers
    assert answers[b"unknow"] and answers[b"broken"], answers
    assert helper.process.poll() is None
    assert helper.log_in() == b"+OK 3 messages (102 octets)"
    wait_until(lambda: len(children_of(helper.process.pid)) <= 1)
    assert len(os.listdir(f"/proc/{helper.process.pid}/fd")) <= before


def test_connections_without_a_request_are_given_up(helper: Helper) -> None:
    """A worker each, for a limited time; logins go on meanwhile."""
    assert helper.log_in().startswith(b"+OK")
    waiting = [helper.connect() for _ in range(100)]
    wait_until(lambda: len(children_of(helper.process.pid)) >= 50)
    assert helper.log_in().startswith(b"+OK")
    for one in waiting:
        assert one.recv(1) == b""  # given up
        one.close()
    wait_until(lambda: len(children_of(helper.process.pid)) <= 1)


# -- kill -9

LOADED = b"+OK 3 messages (102 octets)\r\n"


class Killer:
    """Kills the helper, or a worker of it, at random moments."""

    def __init__(self, find: Callable[[], int], bury: Callable[[], None], chance: random.Random) -> None:
        """`find` finds the helper's process, `bury` is for whoever has to start the next one."""
        self.find = find
        self.bury = bury
        self.chance = chance
        self.killed: Counter[str] = Counter()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.kill)
        self.thread.start()

    def kill(self) -> None:
        while not self.done.wait(self.chance.random() * 0.03):
            try:
                pid = self.find()
                children = children_of(pid)
                if children and self.chance.random() < 0.9:
                    os.kill(self.chance.choice(children), signal.SIGKILL)
                    self.killed["workers"] += 1
                elif self.chance.random() < 0.2:
                    os.kill(pid, signal.SIGKILL)
                    self.killed["helpers"] += 1
                    self.bury()
            except (LookupError, FileNotFoundError, ProcessLookupError):
                continue

    def stop(self) -> None:
        self.done.set()
        self.thread.join()


def outcomes(log_in: Callable[[], bytes], clients: int, logins: int, enough: Callable[[], bool]) -> Counter[bytes]:
    """What clients at once hear who log in so often each, and go on until it is `enough`."""
    heard: Counter[bytes] = Counter()
    failures: list[BaseException] = []
    deadline = time.monotonic() + PATIENCE

    def client() -> None:
        try:
            done = 0
            while done < logins or (not enough() and time.monotonic() < deadline):
                heard[log_in()] += 1
                done += 1
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    return heard


def slow(server: Server) -> None:
    """Make a verdict take long enough to be killed before it is given."""
    server.credentials.write_text(credentials.line(NAME, PASSWORD.encode(), 100_000) + "\n")


def test_a_helper_killed_at_any_moment(helper: Helper) -> None:
    """As under systemd: whoever is about to get a verdict hears [SYS/TEMP], everybody else is let in."""
    slow(helper.server)

    def bury() -> None:
        helper.process.wait()
        helper.start()

    killer = Killer(lambda: helper.process.pid, bury, random.Random(3))
    try:
        heard = outcomes(helper.log_in_to_the_end, 3, 5, lambda: len(killer.killed) == 2)
    finally:
        killer.stop()
    assert set(heard) <= {LOADED, monitor.LATER}, heard
    assert killer.killed["workers"] and killer.killed["helpers"], killer.killed
    assert heard[monitor.LATER] <= killer.killed.total()
    assert outcomes(helper.log_in_to_the_end, 2, 2, lambda: True) == {LOADED: 4}
    assert helper.server.mailbox.read_bytes() == ALL


def test_the_daemons_helper_killed_at_any_moment(server: Server) -> None:
    """The daemon starts the next one; what was asked meanwhile waits for it."""
    slow(server)
    with daemon(server, {"POPAD_GUESS_DELAY": "0", "POPAD_MAX_SESSIONS_PER_SOURCE": "10000"}) as running:

        def helper() -> int:
            """The child that keeps the guesses: a session does not."""
            for pid in running.children:
                if any("popad-guesses" in os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()):
                    return pid
            raise LookupError

        def log_in() -> bytes:
            with closing(running.connect()) as client:
                client.line()
                client.ask(f"USER {NAME}")
                client.send(f"PASS {PASSWORD}\r\nQUIT\r\n".encode())
                return first_of(client.rest())

        killer = Killer(helper, lambda: None, random.Random(4))
        try:
            heard = outcomes(log_in, 3, 10, lambda: len(killer.killed) == 2)
        finally:
            killer.stop()
        assert set(heard) <= {LOADED, monitor.LATER}, heard
        assert killer.killed["workers"] and killer.killed["helpers"], killer.killed
        assert heard[monitor.LATER] <= killer.killed.total()
        assert outcomes(log_in, 2, 2, lambda: True) == {LOADED: 4}
    assert server.mailbox.read_bytes() == ALL


def first_of(heard: bytes) -> bytes:
    """The first line, which is all where there is no session."""
    line, rest = heard.split(b"\n", 1)
    assert rest == (b"+OK bye\r\n" if line.startswith(b"+OK") else b""), heard
    return line + b"\n"
