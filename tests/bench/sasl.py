"""What a login costs by SCRAM-SHA-256, beside one with a password that is hashed with yescrypt, Debian's own.

    python3 -m tests.bench.sasl [--seconds N]

The standalone daemon in a booted machine, without TLS: PLAIN with PAM, then SCRAM with the credentials file and as many
iterations as `popad passwd` makes without being told. Eight clients log in and leave, in as many processes. A SCRAM
client keeps what it has derived of its password, as RFC 5802 section 5.1 lets it. Ends with 1 where the asked ratio is
missed.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import hmac
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import mail, servers
from tests.bench.compare import built_package
from tests.bench.generator import PASSWORD
from tests.support.machine import Machine, needs
from tests.support.patience import wait_until
from tests.support.scram import ScramClient, b64

CLIENTS, LOGINS, NAME = 8, 100, "small"
FILE = "POPAD_AUTH=file\n"
LEAST = 4.0  # SCRAM's logins a second to PLAIN's
MACHINE: list[Machine] = []
DERIVED: dict[tuple[bytes, bytes], bytes] = {}  # SaltedPassword, by salt and iterations


class Keeping(ScramClient):
    """A client that does the expensive part once."""

    def final(self, server_first: bytes) -> bytes:
        nonce, salt, iterations = (part[2:] for part in server_first.split(b","))
        if (salt, iterations) not in DERIVED:
            octets = base64.b64decode(salt)
            DERIVED[salt, iterations] = hashlib.pbkdf2_hmac("sha256", self.password, octets, int(iterations))
        client_key = hmac.digest(DERIVED[salt, iterations], b"Client Key", "sha256")
        without = b"c=biws,r=" + nonce
        messages = b",".join((self.bare, server_first, without))
        signature = hmac.digest(hashlib.sha256(client_key).digest(), messages, "sha256")
        return without + b",p=" + b64(bytes(a ^ b for a, b in zip(client_key, signature, strict=True)))


def plain(say: Callable[[bytes], bytes]) -> bytes:
    return say(b"AUTH PLAIN " + b64(f"\0{NAME}\0{PASSWORD}".encode()))


def scram(say: Callable[[bytes], bytes]) -> bytes:
    client = Keeping(NAME, PASSWORD)
    first = say(b"AUTH SCRAM-SHA-256 " + b64(client.first()))
    say(b64(client.final(base64.b64decode(first[2:]))))
    return say(b"")


MECHANISMS = {"PLAIN, yescrypt": plain, "SCRAM-SHA-256": scram}


def log_in(machine: Machine, mechanism: str) -> float:
    """Seconds of the exchange."""
    with machine.connect("127.0.0.1", 110) as line, line.makefile("rb") as lines:

        def say(text: bytes) -> bytes:
            line.sendall(text + b"\r\n")
            return lines.readline()

        lines.readline()
        began = time.perf_counter()
        answer = MECHANISMS[mechanism](say)
        took = time.perf_counter() - began
        if not answer.startswith(b"+OK"):
            raise RuntimeError(f"{mechanism}: {answer!r}")
        say(b"QUIT")
    return took


def keep(machine: Machine) -> None:
    MACHINE[:] = [machine]


def count(asked: tuple[str, float]) -> int:
    mechanism, seconds = asked
    number, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        log_in(MACHINE[0], mechanism)
        number += 1
    return number


def serves(machine: Machine, mechanism: str) -> bool:
    try:
        log_in(machine, mechanism)
    except (OSError, RuntimeError, ValueError):
        return False
    return True


@contextlib.contextmanager
def booted(package: Path) -> Iterator[Machine]:
    with Machine(servers.tree_of(servers.SERVERS["popad-daemon"], "bookworm")) as machine:
        machine.install(package)
        mail.add_users(machine, [NAME])
        machine.run(["sh", "-c", f"echo {NAME}:{PASSWORD} | chpasswd"])  # with the hash of a new system
        mail.deliver(machine, "mbox", NAME, mail.messages(10, 2000))
        machine.run(["sh", "-c", f"echo {PASSWORD} | popad passwd --file /etc/popad/credentials {NAME}"])
        yield machine


def main() -> int:
    """Measure, print, and judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="of logins by all clients (%(default)s)")
    asked = parser.parse_args()
    if reason := needs():
        sys.exit(f"tests.bench.sasl: {reason}")
    rates: dict[str, float] = {}
    with booted(built_package()) as machine:
        shadow = machine.run(["getent", "shadow", NAME]).stdout
        print(f"the password's hash is {shadow.split(':')[1].split('$')[1:3]}")
        for mechanism, more in (("PLAIN, yescrypt", ""), ("SCRAM-SHA-256", FILE)):
            machine.run(["systemctl", "stop", "popad-standalone.service"])
            machine.write("/etc/popad/popad.conf", servers.POPAD_CONF + more)
            machine.run(["systemctl", "start", "popad-standalone.service"])
            wait_until(lambda mechanism=mechanism: serves(machine, mechanism))  # type: ignore[misc]  # a default
            taken = [log_in(machine, mechanism) * 1000 for _ in range(LOGINS)]
            with multiprocessing.Pool(CLIENTS, initializer=keep, initargs=(machine,)) as pool:
                rates[mechanism] = sum(pool.map(count, [(mechanism, asked.seconds)] * CLIENTS)) / asked.seconds
            print(
                f"{mechanism:20} p50 {statistics.median(taken):7.1f} ms   {rates[mechanism]:7.1f} logins/s", flush=True
            )
    ratio = rates["SCRAM-SHA-256"] / rates["PLAIN, yescrypt"]
    print(f"{'met   ' if ratio >= LEAST else 'MISSED'} SCRAM / PLAIN: {ratio:.2f} (asked >= {LEAST:g})")
    return int(ratio < LEAST)


if __name__ == "__main__":
    sys.exit(main())
