"""Machines with popad installed, one for each release in a test run, and users with mail on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.here import CHECKOUT
from tests.support.machine import Machine, needs, tree
from tests.support.pop3 import Pop3

PASSWORD = "correct horse"  # with a space: PASS takes the rest of the line
SETTINGS = "/etc/popad/popad.conf"

MESSAGES = [
    "Subject: first\nMessage-ID: <1@example.org>\n\nbody of the first\n",
    "Subject: second\nMessage-ID: <2@example.org>\n\n.a dot at the start of a line\n",
    "Subject: third\nMessage-ID: <3@example.org>\n\nbody of the third\n",
]


class Server:
    """A machine that serves POP3."""

    def __init__(self, machine: Machine, release: str) -> None:
        self.machine = machine
        self.release = release
        self._numbers = itertools.count(1)

    def connect(self, address: str = "127.0.0.1", *, source: str = "") -> Pop3:
        """A client of port 110."""
        return Pop3(self.machine.connect(address, 110, source=source))

    def add_user(self, mail: list[str] | None = None, *, mailbox: str = "/var/mail/{name}") -> str:
        """A new system user with PASSWORD and these messages; the user's name."""
        name = f"user{next(self._numbers)}"
        # MD5-crypt: these tests wait for popad, not for the hash.
        hashed = self.machine.run(["openssl", "passwd", "-1", PASSWORD]).stdout.strip()
        self.machine.run(["useradd", "--create-home", "--password", hashed, name])
        self.machine.write(
            mailbox.format(name=name), mbox(MESSAGES if mail is None else mail), mode=0o600, owner=f"{name}:mail"
        )
        return name

    def uid(self, name: str) -> int:
        return int(self.machine.run(["id", "-u", name]).stdout)

    def instance(self, client: Pop3) -> str:
        """The unit that serves this client: its name ends in the client's port."""
        units = self.machine.run(["systemctl", "list-units", "--plain", "--no-legend", "popad@*"]).stdout
        (unit,) = [
            line.split()[0] for line in units.splitlines() if line.split()[0].endswith(f":{client.port}.service")
        ]
        return unit

    def main_pid(self, client: Pop3) -> str:
        return self.machine.show(self.instance(client), "MainPID")["MainPID"]

    def process_status(self, pid: str) -> dict[str, str]:
        """Lines of /proc/PID/status, by name."""
        lines = (self.machine.root / "proc" / pid / "status").read_text().splitlines()
        return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}

    @contextmanager
    def settings(self, text: str, *, restart_helper: bool = True) -> Iterator[None]:
        """Serve with this popad.conf; the helper starts anew with it, and afterwards without it."""
        path = self.machine.root / SETTINGS.lstrip("/")
        before = path.read_bytes()
        stop_helper = ["systemctl", "stop", "popad-auth.service"] if restart_helper else ["true"]
        try:
            path.write_text(text)
            self.machine.run(stop_helper)
            yield
        finally:
            path.write_bytes(before)
            self.machine.run(stop_helper)

    @contextmanager
    def drop_in(self, unit: str, text: str) -> Iterator[None]:
        """Serve with a drop-in for a unit."""
        directory = f"/etc/systemd/system/{unit}.d"
        try:
            self.machine.write(f"{directory}/test.conf", text)
            self.machine.run(["systemctl", "daemon-reload"])
            yield
        finally:
            self.machine.run(["rm", "-r", directory])
            self.machine.run(["systemctl", "daemon-reload"])


def mbox(messages: list[str]) -> str:
    return "".join(f"From a@example.org Thu Jan  1 00:00:00 1970\n{message}\n" for message in messages)


@pytest.fixture(scope="session")
def package() -> Path:
    built = list((CHECKOUT / "dist").glob("popad_*_all.deb"))
    if len(built) != 1:
        pytest.skip("dist/ has no package: run packaging/build-deb")
    return built[0]


@pytest.fixture(scope="session", params=["bookworm", "trixie"])
def server(request: pytest.FixtureRequest, package: Path) -> Iterator[Server]:
    if reason := needs():
        pytest.skip(reason)
    with Machine(tree(request.param)) as machine:
        machine.install(package)
        yield Server(machine, request.param)
