"""TLS of popad beside Dovecot's, on the same certificate: handshakes a second, the greeting, logins, 100 MB, memory.

    python3 -m tests.bench.tls [--seconds N] [--only SERVER…]

Servers are booted machines, measured in turn. The client is Python's ssl in eight processes; its own time is in each
figure, so ratios are nearer to 1 than those of the servers alone. Ends with 1 where an asked ratio is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.bench import mail, servers
from tests.bench.compare import built_package
from tests.bench.generator import PASSWORD
from tests.support.certificates import make
from tests.support.machine import Machine, needs
from tests.support.patience import wait_until

CLIENTS = 8
LOGINS = 60
PLACE = "/etc/popad/tls"
SETTINGS = f"POPAD_TLS_CERTIFICATE={PLACE}/tls.pem\nPOPAD_TLS_KEY={PLACE}/tls.key\nPOPAD_PLAINTEXT=always\n"
POP3S = "[Socket]\nListenStream=995\n"
LARGE = 100_000_000
TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TRUST.check_hostname, TRUST.verify_mode = False, ssl.CERT_NONE  # the client's time is not what is measured


def popad_daemon(machine: Machine) -> None:
    machine.write("/etc/systemd/system/popad-standalone.socket.d/tls.conf", POP3S)
    machine.run(["systemctl", "daemon-reload"])
    machine.write("/etc/popad/popad.conf", servers.POPAD_CONF + SETTINGS)
    machine.run(["systemctl", "start", "popad-standalone.service"])


def popad_accept(machine: Machine) -> None:
    machine.write("/etc/popad/popad.conf", SETTINGS)
    machine.write("/etc/systemd/system/popad.socket.d/tls.conf", POP3S)
    servers.popad_accept(machine)


def dovecot(count: int) -> Callable[[Machine], None]:
    def set_up(machine: Machine) -> None:
        more = "mail_location = mbox:~/mail:INBOX=/var/mail/%u\nmail_access_groups = mail\n"
        more += f"ssl = yes\nssl_cert = <{PLACE}/tls.pem\nssl_key = <{PLACE}/tls.key\n"
        more += f"service pop3-login {{\n  service_count = {count}\n  process_limit = 1000\n}}\n"
        machine.write("/etc/dovecot/bench.conf", servers.DOVECOT.replace("ssl = no\n", "") + more)
        machine.write("/etc/pam.d/dovecot", "auth required pam_unix.so nodelay\naccount required pam_unix.so\n")
        unit = "[Service]\nExecStart=/usr/sbin/dovecot -F -c /etc/dovecot/bench.conf\n"
        servers.run_unit(machine, unit, "dovecot.service", "dovecot.socket")

    return set_up


SERVERS: dict[str, tuple[str, Callable[[Machine], None]]] = {
    "daemon": ("popad-daemon", popad_daemon),
    "accept": ("popad-accept", popad_accept),
    "sc1": ("dovecot", dovecot(1)),
    "sc0": ("dovecot", dovecot(0)),
}


@dataclass(frozen=True)
class Asked:
    """A ratio that is asked for: of a figure of one server to one of another, at least or at most."""

    mine: str
    other: str
    limit: float
    at_least: bool


ASKED = (
    Asked("daemon handshakes/s", "sc1 handshakes/s", 2, True),
    Asked("daemon handshakes/s", "sc0 handshakes/s", 0.3, True),
    Asked("daemon POP3S greeting ms", "sc1 POP3S greeting ms", 0.55, False),
    Asked("daemon POP3S cost ms", "sc1 POP3S cost ms", 1.1, False),
    Asked("daemon STLS cost ms", "sc1 STLS cost ms", 2, False),
    Asked("accept POP3S login ms", "accept plain login ms", 1.15, False),
    Asked("accept STLS login ms", "accept plain login ms", 1.15, False),
    Asked("daemon 100 MB/s", "sc1 100 MB/s", 2.5, True),
    Asked("daemon round trip us", "sc1 round trip us", 1, False),
)
MOST_PSS = 1.5  # MB a relay
LEAST_RESUMED = 95  # percent


class Client:
    """One connection."""

    def __init__(self, machine: Machine, how: str, session: ssl.SSLSession | None = None) -> None:
        self.socket = machine.connect("127.0.0.1", 995 if how == "POP3S" else 110)
        if how == "POP3S":
            self.encrypt(session)
        self.file = self.socket.makefile("rb")
        self.expect()
        if how == "STLS":
            self.say(b"STLS")
            self.file.close()
            self.encrypt(session)
            self.file = self.socket.makefile("rb")

    def encrypt(self, session: ssl.SSLSession | None) -> None:
        self.socket = TRUST.wrap_socket(self.socket, session=session)

    def expect(self) -> bytes:
        line = self.file.readline()
        if not line.startswith(b"+OK"):
            raise RuntimeError(f"{line!r} is no +OK")
        return line

    def say(self, command: bytes) -> bytes:
        self.socket.sendall(command + b"\r\n")
        return self.expect()

    def log_in(self, name: str) -> None:
        self.say(b"USER " + name.encode())
        self.say(b"PASS " + PASSWORD.encode())

    def close(self) -> None:
        self.file.close()
        self.socket.close()


def handshakes(machine: Machine, seconds: float) -> float:
    """A second, by CLIENTS at once: connect, TLS, greeting, QUIT."""
    with multiprocessing.Pool(CLIENTS, initializer=keep, initargs=(machine,)) as pool:
        done = pool.map(count, [seconds] * CLIENTS)
    return sum(done) / seconds


MACHINE: list[Machine] = []


def keep(machine: Machine) -> None:
    MACHINE[:] = [machine]


def count(seconds: float) -> int:
    number, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        client = Client(MACHINE[0], "POP3S")
        client.say(b"QUIT")
        client.close()
        number += 1
    return number


def median_ms(work: Callable[[], object], times: int = LOGINS) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def login(machine: Machine, how: str) -> None:
    client = Client(machine, how)
    client.log_in("small")
    client.say(b"QUIT")
    client.close()


def throughput(machine: Machine) -> float:
    """MB a second of one RETR."""
    client = Client(machine, "POP3S")
    client.log_in("large")
    client.socket.sendall(b"RETR 1\r\n")
    began, got = time.perf_counter(), 0
    buffer = bytearray(1 << 18)
    client.expect()
    while got < LARGE:
        got += client.socket.recv_into(buffer)
    rate = got / 1e6 / (time.perf_counter() - began)
    client.close()
    return rate


def round_trip(machine: Machine) -> float:
    """Microseconds of a NOOP."""
    client = Client(machine, "POP3S")
    client.log_in("small")
    taken = median_ms(lambda: client.say(b"NOOP"), 2000) * 1000
    client.close()
    return taken


def resumed(machine: Machine) -> float:
    """Percent of connections that resume an earlier session."""
    session, number = None, 0
    for turn in range(41):
        client = Client(machine, "POP3S", session)
        assert isinstance(client.socket, ssl.SSLSocket)
        number += bool(turn and client.socket.session_reused)
        client.say(b"QUIT")
        session = client.socket.session
        client.close()
    return number / 40 * 100


def pss_of_relays(machine: Machine) -> float:
    """MB of each further connection's process of the TLS helper, of twenty."""
    with contextlib.ExitStack() as opened:
        found = []
        for number in (1, 20):
            for _ in range(number):
                opened.callback(Client(machine, "POP3S").close)
            found.append(pss(machine))
    return (found[1] - found[0]) / 20


def pss(machine: Machine) -> float:
    text = machine.python(
        "import pathlib, re\n"
        "total = 0\n"
        "for process in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    try:\n"
        "        if re.search(r'^Uid:\\t' + str(__import__('pwd').getpwnam('popad-tls').pw_uid) + r'\\b',"
        " (process / 'status').read_text(), re.M):\n"
        "            total += int(re.search(r'^Pss: *(\\d+)', (process / 'smaps_rollup').read_text(), re.M)[1])\n"
        "    except OSError:\n"
        "        pass\n"
        "print(total)"
    )
    return int(text) / 1024


def serves(machine: Machine) -> bool:
    try:
        login(machine, "POP3S")
    except (OSError, RuntimeError):
        return False
    return True


@contextlib.contextmanager
def booted(name: str, package: Path, pair: Path) -> Iterator[Machine]:
    server, set_up = SERVERS[name]
    with Machine(servers.tree_of(servers.SERVERS[server], "bookworm")) as machine:
        if server.startswith("popad"):
            machine.install(package)
        machine.run(["mkdir", "-p", "-m", "700", PLACE])
        for file in ("tls.pem", "tls.key"):
            machine.copy(pair / file, f"{PLACE}/{file}")
        mail.add_users(machine, ["small", "large"])
        mail.deliver(machine, "mbox", "small", mail.messages(10, 2000))
        mail.deliver(machine, "mbox", "large", mail.messages(1, LARGE))
        set_up(machine)
        wait_until(lambda: serves(machine))
        yield machine


def measure(name: str, machine: Machine, seconds: float) -> dict[str, float]:
    figures = {"handshakes/s": handshakes(machine, seconds)}
    figures["POP3S greeting ms"] = median_ms(lambda: Client(machine, "POP3S").close())
    for how in ("plain", "STLS", "POP3S"):
        figures[f"{how} login ms"] = median_ms(partial(login, machine, how))
    for how in ("STLS", "POP3S"):
        figures[f"{how} cost ms"] = figures[f"{how} login ms"] - figures["plain login ms"]
    figures["100 MB/s"] = max(throughput(machine) for _ in range(3))
    figures["round trip us"] = round_trip(machine)
    figures["resumed %"] = resumed(machine)
    if name in ("daemon", "accept"):
        figures["relay MB"] = pss_of_relays(machine)
    return {f"{name} {figure}": value for figure, value in figures.items()}


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of handshakes (%(default)s)")
    parser.add_argument("--only", nargs="+", choices=SERVERS, default=list(SERVERS), help="servers (all)")
    asked = parser.parse_args()
    if reason := needs():
        sys.exit(f"tests.bench.tls: {reason}")
    package = built_package()
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="popad-bench-") as directory:
        make(Path(directory))
        for name in asked.only:
            with booted(name, package, Path(directory)) as machine:
                measured = measure(name, machine, asked.seconds)
            figures |= measured
            print(*(f"{figure:28} {value:10.2f}" for figure, value in measured.items()), sep="\n", flush=True)
    return judged(figures)


def judged(figures: dict[str, float]) -> int:
    """Print the ratios; 1 where one is missed."""
    missed = 0
    for row in ASKED:
        if row.mine in figures and row.other in figures:
            value = figures[row.mine] / figures[row.other]
            is_met = value >= row.limit if row.at_least else value <= row.limit
            missed += not is_met
            sign = ">=" if row.at_least else "<="
            print(
                f"{'met   ' if is_met else 'MISSED'} {row.mine} / {row.other}: {value:.2f} (asked {sign} {row.limit})"
            )
    for name in ("daemon", "accept"):
        if (memory := figures.get(f"{name} relay MB")) is not None:
            missed += memory > MOST_PSS
            print(f"{'met   ' if memory <= MOST_PSS else 'MISSED'} {name} relay: {memory:.2f} MB (asked <= {MOST_PSS})")
            share = figures[f"{name} resumed %"]
            missed += share < LEAST_RESUMED
            word = "met   " if share >= LEAST_RESUMED else "MISSED"
            print(f"{word} {name} resumed: {share:.0f} % (asked >= {LEAST_RESUMED})")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
