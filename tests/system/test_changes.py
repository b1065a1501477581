"""What an administrator does while clients come and go: how many connections are refused, how many sessions cut short.

Each line is in the output (pytest -rP): what was done, sessions served, refused, cut short.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.machine import Machine, needs, tree
from tests.support.patience import wait_until
from tests.support.pop3 import Pop3
from tests.system.conftest import MESSAGES, PASSWORD, SETTINGS, Server

CLIENTS = 4  # that come one session after the other
BEFORE_AND_AFTER = 5  # sessions that all of them together have had before the change, and have after it
SETTINGS_OF_THE_LOAD = "POPAD_GUESS_DELAY=0\nPOPAD_MIN_DELAY=1\nPOPAD_MAX_SESSIONS_PER_SOURCE=500\n"

TO_THE_DAEMON = [["disable", "--now", "popad.socket"], ["enable", "--now", "popad-standalone.service"]]
TO_THE_SOCKET = [["disable", "--now", "popad-standalone.service"], ["enable", "--now", "popad.socket"]]


class Load:
    """Clients that log in, read, pause and leave, until they are told that it is enough."""

    def __init__(self, server: Server, names: Sequence[str]) -> None:
        self.server = server
        self.served = 0
        self.refused: list[str] = []
        self.cut_short: list[str] = []
        self.enough = threading.Event()
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.come, args=(name, number)) for number, name in enumerate(names, 1)]

    def come(self, name: str, number: int) -> None:
        """One client."""
        while not self.enough.is_set():
            try:
                client = self.server.connect(source=f"127.0.1.{number}")
            except OSError as error:
                self.note(self.refused, str(error))
                time.sleep(0.005)
                continue
            with client:
                self.session(client, name)

    def session(self, client: Pop3, name: str) -> None:
        """One session; until the greeting it counts as refused."""
        try:
            greeting = client.line()
        except OSError as error:
            greeting = str(error).encode()
        if greeting != b"+OK popad ready":
            return self.note(self.refused, repr(greeting))
        try:
            for command in (f"USER {name}", f"PASS {PASSWORD}", "STAT", "RETR 1"):
                client.ok(command)
            client.body()
            time.sleep(0.05)
            client.ok("QUIT")
        except (OSError, AssertionError, ValueError) as error:
            return self.note(self.cut_short, f"{type(error).__name__}: {error}")
        with self.lock:
            self.served += 1

    def note(self, where: list[str], what: str) -> None:
        with self.lock:
            where.append(what)

    def goes_on(self) -> None:
        """Until some more have been served."""
        enough = self.served + BEFORE_AND_AFTER
        wait_until(lambda: self.served >= enough)


@contextmanager
def load(server: Server, names: Sequence[str]) -> Iterator[Load]:
    running = Load(server, names)
    for thread in running.threads:
        thread.start()
    try:
        yield running
    finally:
        running.enough.set()
        for thread in running.threads:
            thread.join()


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def busy(request: pytest.FixtureRequest, package: Path) -> Iterator[tuple[Server, list[str]]]:
    """A machine with users that nothing else changes."""
    if reason := needs():
        pytest.skip(reason)
    with Machine(tree(request.param)) as machine:
        machine.install(package)
        machine.write(SETTINGS, SETTINGS_OF_THE_LOAD)
        server = Server(machine, request.param)
        yield server, [server.add_user(MESSAGES) for _ in range(CLIENTS)]


def systemctl(*commands: Sequence[str]) -> Callable[[Server, Path], None]:
    """The change that these commands make."""

    def change(server: Server, package: Path) -> None:
        for command in commands:
            server.machine.run(["systemctl", *command])

    return change


def upgrade(server: Server, package: Path) -> None:
    """The same package once more."""
    server.machine.run(
        ["env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-confold", "-i", f"/root/{package.name}"]
    )


# What is done, in which shape, and whether a document says that connections are refused meanwhile. No session is ever
# cut short: those that the load has take less time than POPAD_STOP_TIMEOUT.
CHANGES = [
    ("reload popad", "popad.socket", systemctl(["reload", "popad"]), False),
    ("restart popad-auth.service", "popad.socket", systemctl(["restart", "popad-auth.service"]), False),
    ("upgrade", "popad.socket", upgrade, False),
    ("restart popad", "popad.socket", systemctl(["restart", "popad"]), True),
    ("reload popad", "popad-standalone.service", systemctl(["reload", "popad"]), False),
    ("upgrade", "popad-standalone.service", upgrade, False),
    ("restart popad", "popad-standalone.service", systemctl(["restart", "popad"]), False),
    ("to the daemon", "popad.socket", systemctl(*TO_THE_DAEMON), True),
    ("to the socket", "popad-standalone.service", systemctl(*TO_THE_SOCKET), True),
]


@pytest.mark.parametrize(("what", "shape", "change", "is_told"), CHANGES, ids=[f"{c[1]}: {c[0]}" for c in CHANGES])
def test_no_session_is_cut_short(
    busy: tuple[Server, list[str]],
    package: Path,
    what: str,
    shape: str,
    change: Callable[[Server, Path], None],
    is_told: bool,
) -> None:
    server, names = busy
    for command in TO_THE_SOCKET if shape == "popad.socket" else TO_THE_DAEMON:
        server.machine.run(["systemctl", *command])
    with load(server, names) as running:
        running.goes_on()
        change(server, package)
        running.goes_on()
    print(
        f"{server.release}, {shape}, {what}: {running.served} sessions, {len(running.refused)} refused, "
        f"{len(running.cut_short)} cut short"
    )
    assert running.cut_short == []
    assert is_told or running.refused == []
