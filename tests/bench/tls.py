"""What TLS costs, by clients in Python: handshakes, logins over STLS and POP3S beside plain ones, 100 MB, memory.

The load generator speaks no TLS. A client's own share is in each figure, so ratios are nearer to 1 than those of the
servers alone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import ssl
import statistics
import time
from collections.abc import Callable, Sequence

from tests.bench.figures import Figures
from tests.bench.generator import PASSWORD, ServerFailed
from tests.bench.servers import Running
from tests.support.machine import Machine
from tests.support.patience import PATIENCE

CLIENTS = 8
RESUMING = 40  # connections
RELAYS = 20
NOOPS = 2000
TRUST = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TRUST.check_hostname, TRUST.verify_mode = False, ssl.CERT_NONE  # the client's time is not what is measured
HOW = ("plain", "stls", "pop3s")


class Client:
    """One connection, of a process or thread that is in the machine's network."""

    def __init__(self, how: str, session: ssl.SSLSession | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", 995 if how == "pop3s" else 110), PATIENCE)
        if how == "pop3s":
            self.encrypt(session)
        self.file = self.socket.makefile("rb")
        self.expect()
        if how == "stls":
            self.say(b"STLS")
            self.file.close()
            self.encrypt(session)
            self.file = self.socket.makefile("rb")

    def encrypt(self, session: ssl.SSLSession | None) -> None:
        self.socket = TRUST.wrap_socket(self.socket, session=session)

    def expect(self) -> bytes:
        line = self.file.readline()
        if not line.startswith(b"+OK"):
            raise ServerFailed(f"{line!r} is no +OK")
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


def log_in(how: str, name: str) -> None:
    """A session: USER, PASS, STAT, QUIT."""
    client = Client(how)
    client.log_in(name)
    client.say(b"STAT")
    client.say(b"QUIT")
    client.close()


def greet() -> None:
    """A session: QUIT."""
    client = Client("pop3s")
    client.say(b"QUIT")
    client.close()


def measure(
    running: Running, figures: Figures, name: str, large: str, octets: int, seconds: float, logins: int
) -> None:
    """A round. `name` and `large`: users, the second with a message of so many octets; `seconds` of many clients."""
    machine, server = running.machine, running.server.name
    with multiprocessing.Pool(CLIENTS, initializer=machine.enter_network) as clients:

        def rate(work: Callable[..., None], *words: str) -> float:
            """Sessions a second, of CLIENTS at once."""
            return sum(clients.starmap(count, [(seconds, work, words)] * CLIENTS)) / seconds

        figures.add(server, "tls_handshakes", rate(greet))
        for how in ("plain", "pop3s"):
            figures.add(server, f"tls_rate/{how}", rate(log_in, how, name))
        figures.add(server, "tls_greeting_ms", clients.apply(median_ms, (greeted, (), logins)))
        taken = {how: clients.apply(median_ms, (log_in, (how, name), logins)) for how in HOW}
        for how, each in taken.items():
            figures.add(server, f"tls_login_ms/{how}", each)
        for how in ("stls", "pop3s"):
            figures.add(server, f"tls_cost_ms/{how}", taken[how] - taken["plain"])
        figures.add(server, "tls_mb_s", max(clients.apply(throughput, (large, octets)) for _ in range(3)))
        figures.add(server, "tls_round_trip_us", clients.apply(round_trip, (name,)))
        figures.add(server, "tls_resumed", clients.apply(resumed))
    if server.startswith("popad"):
        figures.add(server, "tls_relay_mb", pss_of_relays(machine))


def count(seconds: float, work: Callable[..., None], words: Sequence[str]) -> int:
    """Sessions within this time, by one client."""
    number, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        work(*words)
        number += 1
    return number


def greeted() -> None:
    """A client that hears the greeting and leaves."""
    Client("pop3s").close()


def median_ms(work: Callable[..., object], words: Sequence[object], times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work(*words)
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def throughput(name: str, octets: int) -> float:
    """MB a second of one RETR."""
    client = Client("pop3s")
    client.log_in(name)
    client.socket.sendall(b"RETR 1\r\n")
    began, got = time.perf_counter(), 0
    buffer = bytearray(1 << 18)
    client.expect()
    while got < octets:
        if not (more := client.socket.recv_into(buffer)):
            raise ServerFailed(f"RETR: {got} octets of {octets}")
        got += more
    taken = got / 1e6 / (time.perf_counter() - began)
    client.close()
    return taken


def round_trip(name: str) -> float:
    """Microseconds of a NOOP."""
    client = Client("pop3s")
    client.log_in(name)
    taken = median_ms(client.say, (b"NOOP",), NOOPS) * 1000
    client.close()
    return taken


def resumed() -> float:
    """Percent of connections that resume an earlier session."""
    session, number = None, 0
    for turn in range(RESUMING + 1):
        client = Client("pop3s", session)
        assert isinstance(client.socket, ssl.SSLSocket)
        number += bool(turn and client.socket.session_reused)
        client.say(b"QUIT")
        session = client.socket.session
        client.close()
    return number / RESUMING * 100


def pss_of_relays(machine: Machine) -> float:
    """MB of the process that each further connection has in the TLS helper."""
    with contextlib.ExitStack() as opened:
        found = []
        for number in (1, RELAYS):
            for _ in range(number):
                opened.callback(machine.inside(lambda: Client("pop3s")).close)
            found.append(pss(machine))
    return (found[1] - found[0]) / RELAYS


def pss(machine: Machine) -> float:
    """MB of all processes of popad-tls."""
    text = machine.python(
        "import pathlib, pwd, re\n"
        "total, uid = 0, pwd.getpwnam('popad-tls').pw_uid\n"
        "for process in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    try:\n"
        "        if re.search(rf'^Uid:\\t{uid}\\b', (process / 'status').read_text(), re.M):\n"
        "            total += int(re.search(r'^Pss: *(\\d+)', (process / 'smaps_rollup').read_text(), re.M)[1])\n"
        "    except OSError:\n"
        "        pass\n"
        "print(total)"
    )
    return int(text) / 1024
