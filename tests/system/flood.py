"""Floods: what 20,000 connection attempts and slow clients do to a good client and to the host, in each shape.

    /usr/bin/python3 -m tests.system.flood [--help]

popad.socket, `popad -D` (popad-standalone.service) and Debian's `popa3d -D`, one after the other, each in a machine of
its own on its own loopback. Five loads: connections that leave at once from one source; the same from 5,000 sources of
127.0.0.0/8; slow clients at the limit of a source, of which a third send an octet now and then and never end the line,
a third say nothing, and a third ask again and again and read nothing; wrong passwords from one source. Meanwhile one
good client after the other logs in from an address of its own; where it is refused (the limit of all) it tries again
after 50 ms, and what counts is the time until it is in.

Bounded: attempts and seconds have limits, the network is the machine's own, and all of it ends with the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import select
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.support.here import CHECKOUT
from tests.support.instances import table
from tests.support.machine import PACKAGES, Machine, tree
from tests.support.patience import wait_until

POPA3D = Path("/var/cache/popad-tests/popa3d/root/usr/sbin/popa3d")
PORT = 110
NAME, PASSWORD = "good", "secret"
GOOD = "127.77.77.77"  # where the good client comes from before and after: no load does
PATIENCE = 30.0  # seconds for each answer
AGAIN = 0.05  # seconds after which a good client that was refused tries again
ATTEMPTS, SOURCES = 20_000, 5_000
AT_ONCE, AT_ONCE_WITH_LIMITS = 64, 2_000  # connections under way; one that the kernel drops takes a second
LEAST_SECONDS, LOAD_SECONDS = 15.0, 60.0  # of a load: beyond its attempts where they are over soon, and at most
SLOW_SECONDS = 20.0
SLOTS_SECONDS = 11.0  # until the slots of what came before are free
PER_SOURCE = 50


@dataclass
class State:
    """What the host holds for the service."""

    processes: int
    descriptors: int  # of the processes that stay: PID 1, and the daemon
    memory: int  # kB: PSS of the same


@dataclass
class Result:
    """One load on one shape."""

    shape: str
    load: str
    attempts: int = 0
    seconds: float = 0.0
    greeted: int = 0
    failed: int = 0  # refused or reset before an octet, time limits
    logins: list[float] = field(default_factory=list)  # seconds, of the good client
    refused: int = 0  # tries of the good client that were closed or took too long
    log_lines: int = 0
    at_once: int = AT_ONCE
    before: State | None = None
    after: State | None = None
    alive: bool = False  # afterwards the good client logs in, and no unit has failed

    def row(self) -> list[str]:
        assert self.before and self.after
        logins = sorted(self.logins) or [float("nan")]
        return [
            self.shape,
            self.load,
            f"{self.attempts}",
            f"{self.attempts / self.seconds:.0f}",
            f"{self.greeted}",
            f"{statistics.median(logins) * 1000:.0f}",
            f"{logins[-1 - len(logins) // 100] * 1000:.0f}",
            f"{logins[-1] * 1000:.0f}",
            f"{len(self.logins)}/{self.refused}",
            f"{self.log_lines}",
            f"{self.before.processes}/{self.after.processes}",
            f"{self.before.descriptors}/{self.after.descriptors}",
            f"{self.before.memory}/{self.after.memory}",
            "yes" if self.alive else "NO",
        ]


HEADS = [
    *(
        "shape",
        "load",
        "attempts",
        "per s",
        "greeted",
        "login p50 ms",
        "p99 ms",
        "worst ms",
        "logins/refused",
        "log lines",
    ),
    *("processes", "fds", "memory kB", "alive after"),
]


# -- the good client --------------------------------------------------------------------------------------------------


def login(source: str = GOOD) -> float:
    """Seconds from connect to the answer to QUIT. Raises OSError where that is not +OK."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", PORT), PATIENCE, (source, 0)) as client, client.makefile("rb") as lines:
        for command in ("", f"USER {NAME}\r\n", f"PASS {PASSWORD}\r\n", "STAT\r\n", "QUIT\r\n"):
            client.sendall(command.encode())
            if not lines.readline().startswith(b"+OK"):
                raise ConnectionError(f"no login at {command[:4]!r}")
    return time.monotonic() - begun


class GoodClient:
    """Logs in again and again, at most 3 times a second, until it is told that it is enough.

    From 200 addresses in turn: popa3d and popad keep the slot of a short session for ten seconds.
    """

    def __init__(self, result: Result, inside: Callable[[Callable[[], None]], None]) -> None:
        self.result = result
        self.enough = threading.Event()
        self.thread = threading.Thread(target=lambda: inside(self.go))

    def go(self) -> None:
        number = 0
        while not self.enough.is_set():
            number += 1
            begun = time.monotonic()
            while not self.enough.is_set():
                try:
                    login(f"127.77.77.{1 + number % 200}")
                except OSError:
                    self.result.refused += 1
                    self.enough.wait(AGAIN)
                else:
                    self.result.logins.append(time.monotonic() - begun)
                    break
            self.enough.wait(0.33)

    def __enter__(self) -> GoodClient:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.enough.set()
        self.thread.join()


# -- the loads --------------------------------------------------------------------------------------------------------


def attempts_from(sources: list[str], result: Result, least_seconds: float = LEAST_SECONDS) -> None:
    """Connect, read what is said if it comes at once, leave. `at_once` at a time, in one process."""
    begun = time.monotonic()
    deadline = begun + LOAD_SECONDS
    open_ones: dict[int, tuple[socket.socket, float]] = {}
    poll = select.epoll()
    started = 0
    total = result.attempts
    while time.monotonic() < deadline:
        more = started < total or time.monotonic() < begun + least_seconds
        if not more and not open_ones:
            break
        while more and len(open_ones) < result.at_once:
            client = socket.socket()
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.bind((sources[started % len(sources)], 0))
                client.connect(("127.0.0.1", PORT))
            open_ones[client.fileno()] = client, time.monotonic()
            poll.register(client, select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP)
            started += 1
        now = time.monotonic()
        ready = {fd for fd, _ in poll.poll(0.05)}
        for fd, (client, since) in list(open_ones.items()):
            if fd in ready:
                with contextlib.suppress(OSError):
                    if client.recv(100).startswith(b"+OK"):
                        result.greeted += 1
            elif now - since < 1.0:
                continue
            else:
                result.failed += 1
            poll.unregister(fd)
            client.close()
            del open_ones[fd]
    for client, _ in open_ones.values():
        client.close()
    poll.close()
    result.attempts = started


def one_source(result: Result) -> None:
    attempts_from(["127.0.0.9"], result)


def many_sources(result: Result) -> None:
    attempts_from([f"127.{1 + number // 250}.{1 + number % 250}.5" for number in range(SOURCES)], result)


def slow_clients(result: Result, seconds: float = SLOW_SECONDS) -> None:
    """At the limit of a source. An octet each 0.2 s stands for one each 30 s: no time limit is met."""
    clients: list[socket.socket] = []
    for _ in range(PER_SOURCE + 10):
        try:
            client = socket.create_connection(("127.0.0.1", PORT), PATIENCE, ("127.0.9.1", 0))
        except ConnectionRefusedError:
            result.failed += 1  # by the kernel, where popad-limits.service is on
            continue
        client.setblocking(False)
        clients.append(client)
    result.attempts = len(clients)
    deadline = time.monotonic() + seconds
    alive = clients[:]
    while time.monotonic() < deadline:
        for number, client in list(enumerate(clients)):
            if client not in alive:
                continue
            try:
                if number % 3 == 0:
                    client.send(b"A")
                elif number % 3 == 1:
                    client.send(b"CAPA\r\n" * 100)  # and reads nothing of the answers
            except BlockingIOError:
                pass
            except OSError:
                alive.remove(client)
        time.sleep(0.2)  # the load itself
    for client in clients:
        with contextlib.suppress(OSError):
            if client.recv(100).startswith(b"+OK"):
                result.greeted += 1
        client.close()


def guesses(result: Result, seconds: float = SLOW_SECONDS) -> None:
    """As many connections of one source as may be, each with another wrong password; `greeted` counts the verdicts."""
    deadline = time.monotonic() + seconds
    open_ones: dict[int, socket.socket] = {}
    poll = select.epoll()
    started = 0
    while time.monotonic() < deadline:
        while len(open_ones) < PER_SOURCE:
            client = socket.create_connection(("127.0.0.1", PORT), PATIENCE, ("127.0.0.9", 0))
            started += 1
            client.sendall(f"USER guessed\r\nPASS {started}\r\n".encode())
            open_ones[client.fileno()] = client
            poll.register(client, select.EPOLLIN)
        for fd, _ in poll.poll(0.05):
            said = b""
            with contextlib.suppress(OSError):
                said = open_ones[fd].recv(1000)
            result.greeted += b"-ERR" in said
            if not said or b"-ERR" in said:
                poll.unregister(fd)
                open_ones.pop(fd).close()
    for client in open_ones.values():
        client.close()
    poll.close()
    result.attempts = started


LOADS: dict[str, Callable[[Result], None]] = {
    "one source": one_source,
    f"{SOURCES} sources": many_sources,
    "slow, one source": slow_clients,
    "guesses, one source": guesses,
}


# -- the shapes -------------------------------------------------------------------------------------------------------


def state(machine: Machine, unit: str) -> State:
    """Of the machine's PID 1, its journal apart, and of the unit's main process."""
    said = machine.python(
        """
import os, subprocess, sys
said = subprocess.run(["systemctl", "show", "--property=MainPID", "--value", sys.argv[1]], capture_output=True)
main = said.stdout.decode().strip()
stay = ["1"] + [main] * (main not in ("", "0"))
memory = fds = 0
for pid in stay:
    fds += len(os.listdir(f"/proc/{pid}/fd"))
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        memory += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
kernel = [pid for pid in os.listdir("/proc") if pid.isdigit() and os.path.exists(f"/proc/{pid}/exe")]
print(len(kernel) - 1, fds, memory)
""",
        unit,
    ).split()
    return State(int(said[0]), int(said[1]), int(said[2]))


def wait_for_rest(machine: Machine, unit: str, processes: int) -> State:
    """Wait until no session is left, as far as one goes at all."""
    found: list[State] = []

    def at_rest() -> bool:
        found.append(state(machine, unit))
        return found[-1].processes <= processes

    with contextlib.suppress(AssertionError):
        wait_until(at_rest, 60)
    return found[-1]


def log_lines(machine: Machine, after: str) -> int:
    """Entries of all but the bench itself."""
    return len(machine.journal(after=after))


@contextlib.contextmanager
def popad(options: argparse.Namespace, unit: str, *, limits: bool = False) -> Iterator[tuple[Machine, str]]:
    """`limits`: with popad-limits.service."""
    with Machine(tree(options.release, (*PACKAGES, "nftables") if limits else PACKAGES)) as machine:
        (package,) = (CHECKOUT / "dist").glob("popad_*_all.deb")
        machine.install(package)
        add_user(machine)
        if limits:
            machine.run(["systemctl", "enable", "popad-limits.service"])
        machine.write("/etc/popad/popad.conf", "\n".join([*options.setting, ""]))
        machine.write("/etc/systemd/system/popad.socket.d/flood.conf", "\n".join(["[Socket]", *options.socket, ""]))
        machine.run(["systemctl", "daemon-reload"])
        machine.run(["systemctl", "restart", unit])
        yield machine, unit


@contextlib.contextmanager
def popa3d(release: str) -> Iterator[tuple[Machine, str]]:
    """Debian's binary under a plain unit; the journal takes its syslog."""
    with Machine(tree(release)) as machine:
        machine.copy(POPA3D, "/usr/sbin/popa3d")
        for library in ("libwrap.so.0",):
            (found,) = Path("/usr/lib").glob(f"*/{library}")
            machine.copy(found.resolve(), f"/usr/lib/{found.parent.name}/{library}")
        machine.run(["useradd", "--system", "--no-create-home", "popa3d"])
        machine.run(["mkdir", "-p", "/var/lib/popa3d"])
        machine.write("/etc/pam.d/popa3d", "auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
        machine.write(
            "/etc/systemd/system/popa3d.service",
            "[Service]\nType=forking\nExecStart=/usr/sbin/popa3d -D\nStandardError=journal\n",
        )
        add_user(machine)
        machine.run(["systemctl", "daemon-reload"])
        machine.run(["systemctl", "start", "popa3d.service"])
        yield machine, "popa3d.service"


def add_user(machine: Machine) -> None:
    """With a cheap hash: the servers are loaded, not crypt."""
    hashed = machine.run(["openssl", "passwd", "-1", PASSWORD]).stdout.strip()
    machine.run(["useradd", "--password", hashed, NAME])
    mail = "From a@example.org Thu Jan  1 00:00:00 1970\nSubject: one\n\nbody\n\n"
    machine.write(f"/var/mail/{NAME}", mail, mode=0o600, owner=f"{NAME}:mail")


def run_load(machine: Machine, unit: str, shape: str, load: str, attempts: int) -> Result:
    """One load, the good client beside it, and what is left."""
    result = Result(shape, load, attempts, at_once=AT_ONCE_WITH_LIMITS if "limits" in shape else AT_ONCE)
    machine.inside(lambda: [login() for _ in range(3)])  # warm
    time.sleep(SLOTS_SECONDS)
    result.before = state(machine, unit)
    since = machine.cursor()
    with GoodClient(result, machine.inside):
        begun = time.monotonic()
        machine.inside(lambda: LOADS[load](result))
        result.seconds = time.monotonic() - begun
    result.after = wait_for_rest(machine, unit, result.before.processes)
    time.sleep(SLOTS_SECONDS)
    with contextlib.suppress(OSError):
        machine.inside(login)
        result.alive = machine.run(["systemctl", "--failed", "--no-legend"]).stdout == ""
    result.log_lines = log_lines(machine, since)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    parser.add_argument("--attempts", type=int, default=ATTEMPTS)
    parser.add_argument("--release", default="bookworm")
    parser.add_argument(
        "--shape",
        action="append",
        choices=["popad.socket", "popad -D", "popad.socket, limits", "popad -D, limits", "popa3d -D"],
    )
    parser.add_argument("--load", action="append", choices=list(LOADS))
    parser.add_argument(
        "--socket", action="append", metavar="DIRECTIVE=VALUE", default=[], help="of popad.socket, besides its own"
    )
    parser.add_argument("--setting", action="append", metavar="NAME=VALUE", default=[], help="of popad.conf")
    options = parser.parse_args()
    random.seed(0)
    shapes: dict[str, Callable[[], contextlib.AbstractContextManager[tuple[Machine, str]]]] = {
        "popad.socket": lambda: popad(options, "popad.socket"),
        "popad -D": lambda: popad(options, "popad-standalone.service"),
        "popad.socket, limits": lambda: popad(options, "popad.socket", limits=True),
        "popad -D, limits": lambda: popad(options, "popad-standalone.service", limits=True),
        "popa3d -D": lambda: popa3d(options.release),
    }
    if not os.access(POPA3D, os.X_OK):
        print(f"without popa3d: no {POPA3D} (the tests in tests/peers unpack it)", file=sys.stderr)
        del shapes["popa3d -D"]
    results = []
    for shape in options.shape or shapes:
        with shapes[shape]() as (machine, unit):
            for load in options.load or LOADS:
                results.append(run_load(machine, unit, shape, load, options.attempts))
                print(table([results[-1].row()], HEADS).splitlines()[-1], file=sys.stderr, flush=True)
    print(table([result.row() for result in results], HEADS))
    if options.json:
        options.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
