"""A real `popad -D` for tests: on loopback ports of its own, without systemd and without a journal."""

import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import (
    POPAD_WITHOUT_JOURNAL,
    PYTHON,
    Client,
    Entry,
    Server,
    children_of,
    links_of,
    open_checkout,
)

LISTENS = "0A"  # TCP_LISTEN, as /proc/net/tcp shows it


class Systemd:
    """The notification socket of a unit: what a daemon tells, waited for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        path.chmod(0o777)
        self.socket.settimeout(PATIENCE)

    def hear(self, assignment: str) -> list[str]:
        """The first message with `assignment` (or one that starts so), as its lines."""
        while True:
            lines = self.socket.recv(4096).decode().split("\n")
            if any(line.startswith(assignment) for line in lines):
                return lines


class Daemon:
    """A running daemon in the foreground."""

    def __init__(self, server: Server, process: "subprocess.Popen[bytes]", systemd: Systemd, ports: list[int]) -> None:
        self.server = server
        self.process = process
        self.systemd = systemd
        self.ports = ports
        self.clients: list[Client] = []

    def connect(self, address: str = "127.0.0.1", source: str = "", port: int = 0) -> Client:
        """A client, closed with the daemon at the latest: a test that fails leaves none to the tests after it."""
        origin = (source, 0) if source else None
        self.clients.append(Client(socket.create_connection((address, port or self.ports[0]), PATIENCE, origin)))
        return self.clients[-1]

    @property
    def children(self) -> list[int]:
        return children_of(self.process.pid)

    @property
    def helper(self) -> int:
        """The child that keeps the guesses, when it has begun to."""
        found: list[int] = []

        def there() -> bool:
            found[:] = [pid for pid in self.children if any("popad-guesses" in link for link in links_of(pid))]
            return bool(found)

        wait_until(there)
        return found[-1]

    @property
    def sessions(self) -> list[int]:
        """The children that have a client."""
        connections = tcp_connections()
        return [pid for pid in self.children if connections & links_of(pid)]

    @property
    def spare(self) -> int:
        """The session that waits for a client."""
        (pid,) = set(self.children) - {self.helper, *self.sessions}
        return pid

    @property
    def at_rest(self) -> bool:
        """Whether there are the helper and the spare session, and nobody else."""
        return not self.sessions and not self.zombies and len(self.children) == 2

    @property
    def descendants(self) -> list[int]:
        """The children and theirs."""
        return [pid for child in self.children for pid in (child, *children_of(child))]

    @property
    def zombies(self) -> list[int]:
        return [
            pid for pid in self.children if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        ]

    def reload(self) -> None:
        """SIGHUP, and wait until it has been acted on."""
        self.process.send_signal(signal.SIGHUP)
        self.systemd.hear("RELOADING=1")
        self.systemd.hear("READY=1")

    def entries(self, event: str, count: int = 1) -> list[Entry]:
        """At least `count` entries of `event`, waited for."""
        wait_until(lambda: len([e for e in self.server.log if e["event"] == event]) >= count)
        return [entry for entry in self.server.log if entry["event"] == event]

    def ended(self) -> int:
        """The exit status, waited for."""
        return self.process.wait(PATIENCE)


def named_popad(server: Server) -> tuple[str, str]:
    """A program for daemon() whose command line is that of an installed popad, as `popad who` knows it."""
    launcher = server.path / "popad"
    launcher.write_text(f"import sys; sys.path.insert(0, {str(open_checkout())!r}); {POPAD_WITHOUT_JOURNAL[-1]}")
    return PYTHON, str(launcher)


def tcp_connections() -> set[str]:
    """All of this host, as links_of() has them: not what listens, which a child has until it has closed it."""
    rows = [row.split() for family in ("tcp", "tcp6") for row in Path(f"/proc/net/{family}").read_text().splitlines()]
    return {f"socket:[{row[9]}]" for row in rows if row[3] != LISTENS}


def listens(port: int) -> bool:
    """Whether somebody does, at this port of 127.0.0.1."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def free_ports(family: socket.AddressFamily, address: str, count: int = 1) -> list[int]:
    """Ports that nobody listens on, and that the kernel gives to nobody else as long as this process lives.

    They stay bound here; who asks for one of them with SO_REUSEADDR, as servers do, may bind it too and listen.
    """
    ports = []
    for _ in range(count):
        with socket.socket(family) as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((address, 0))
            ports.append(held.getsockname()[1])
            held.detach()
    return ports


@contextmanager
def daemon(
    server: Server,
    settings: Mapping[str, str] = {},
    arguments: Sequence[str] | None = None,
    ports: Sequence[int] = (),
    program: Sequence[str] = POPAD_WITHOUT_JOURNAL,
    environment: Mapping[str, str] = {},
    log: int | None = None,
) -> Iterator[Daemon]:
    """`popad -D --foreground` that is ready; on 127.0.0.1 unless `arguments` say otherwise. Ended at the end.

    `log` is its standard error in place of the server's file.
    """
    ports = list(ports) or free_ports(socket.AF_INET, "127.0.0.1")
    where = arguments if arguments is not None else [f"--listen=127.0.0.1:{ports[0]}"]
    systemd = Systemd(server.path / f"notify{ports[0]}")
    given = {"PATH": os.defpath, "NOTIFY_SOCKET": str(systemd.path), **server.settings, **settings, **environment}
    with server.stderr.open("ab") as stderr:
        process = subprocess.Popen(
            [*program, "-D", "--foreground", *where],
            cwd=open_checkout(),
            env={name: value for name, value in given.items() if value != "-"},
            stdin=subprocess.DEVNULL,
            stdout=stderr,
            stderr=stderr if log is None else log,
        )
    running = Daemon(server, process, systemd, ports)
    try:
        wait_until(lambda: process.poll() is not None or bool(select.select([systemd.socket], [], [], 0)[0]))
        assert process.poll() is None, server.stderr.read_text()
        systemd.hear("READY=1")
        yield running
    finally:
        for client in running.clients:
            client.close()
        left = running.children if process.poll() is None else []
        process.kill()
        process.wait()
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        systemd.socket.close()
