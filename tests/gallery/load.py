"""A busy machine: mail is delivered, and clients fetch it, stay, leave, or guess passwords."""

from __future__ import annotations

import contextlib
import mailbox
import math
import random
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support import certificates
from tests.support.here import CHECKOUT
from tests.support.machine import Machine
from tests.support.pop3 import Pop3

HOST = "mail.example.org"
SERVER = {4: "192.0.2.25", 6: "2001:db8::25"}
PASSWORD = "correct horse"
NAMES = (
    "alice bob carol dave erin frank grace heidi ivan judy kim liam mia noah olivia peggy rosa sam trent wendy".split()
)
LARGE, UNREADABLE = "trent", "wendy"  # one has years of mail, one a directory where the mailbox should be
MESSAGES = 30_000  # of the large one
SWELL = 240.0  # seconds from one busy time to the next
GUESSED = "admin info test root office backup sales alice".split()


def prepare(machine: Machine) -> None:
    """Users with mail, TLS on both ports, and addresses that clients may come from."""
    for network in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32"):
        machine.run(["ip", "route", "add", "local", network, "dev", "lo"])
    machine.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv6/ip_nonlocal_bind"])
    certificates.make(machine.root / "etc/popad/tls", HOST)
    machine.write("/etc/popad/popad.conf", SETTINGS)
    machine.copy(CHECKOUT / "packaging/examples/pop3s.conf", "/etc/systemd/system/popad.socket.d/pop3s.conf")
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "restart", "popad.socket"])
    hashed = machine.run(["openssl", "passwd", "-1", PASSWORD]).stdout.strip()
    for name in NAMES:
        machine.run(["useradd", "--create-home", "--password", hashed, name])
        count = MESSAGES if name == LARGE else random.randint(3, 60)
        text = b"".join(b"From a@example.org Thu Jan  1 00:00:00 1970\n" + message() + b"\n" for _ in range(count))
        machine.write(f"/var/mail/{name}", text, mode=0o600, owner=f"{name}:mail")
    machine.run(["sh", "-ec", f"rm /var/mail/{UNREADABLE}; mkdir /var/mail/{UNREADABLE}"])


SETTINGS = """POPAD_TLS_CERTIFICATE=/etc/popad/tls/tls.pem
POPAD_TLS_KEY=/etc/popad/tls/tls.key
"""
SERIAL = iter(range(1, 1 << 30))


def message() -> bytes:
    """Of a length as people's are: most are short."""
    number = next(SERIAL)
    lines = int(random.paretovariate(1.1) * 5) % 2000
    header = f"Message-ID: <{number}@{HOST}>\nSubject: {number}\n\n".encode()
    return header + b"a line of about forty octets, as many are\n" * lines


@dataclass
class Load:
    """The clients, each a thread; they end with the `with`."""

    machine: Machine
    begun: float = field(default_factory=time.monotonic)
    threads: list[threading.Thread] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.tls = ssl.create_default_context(cafile=str(self.machine.root / "etc/popad/tls/tls.pem"))

    def __enter__(self) -> Load:
        for place, name in enumerate(NAMES):
            source = f"2001:db8:{place:x}::7" if place % 3 == 0 else f"192.0.2.{100 + place}"
            self.start(90 if name == UNREADABLE else 9, self.fetches, name, source, 995 if place % 4 else 110)
            if name != UNREADABLE:
                self.start(30, self.stays, name, f"192.0.2.{200 + place}" if place % 2 else f"2001:db8:{place:x}::8")
        self.start(4, self.guesses, "198.51.100.23")
        self.start(4, self.guesses, "2001:db8:bad::1")
        self.start(12, self.looks, "203.0.113.77")
        self.start(0.2, self.delivers)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def start(self, pause: float, client: Callable[..., None], *given: object) -> None:
        self.threads.append(threading.Thread(target=self.again, args=(pause, client, *given)))
        self.threads[-1].start()

    def again(self, pause: float, client: Callable[..., None], *given: object) -> None:
        """With pauses of so many seconds in the mean, longer where there is less to do."""
        while not self.over.wait(random.expovariate(1 / pause) / self.rush()):
            with contextlib.suppress(OSError, AssertionError):  # refused, in use, ended
                client(*given)

    def rush(self) -> float:
        """How much there is to do now: 1.3 in the mean."""
        return 1.3 + math.sin(2 * math.pi * (time.monotonic() - self.begun) / SWELL)

    def connected(self, source: str, port: int = 995) -> Pop3:
        """A client that has been greeted over TLS: at once, or by STLS."""
        address = SERVER[6 if ":" in source else 4]
        client = Pop3(self.machine.connect(address, port, source=source))
        with contextlib.ExitStack() as failure:
            failure.enter_context(client)
            if port == 110:
                client.greeted().ok("STLS")
            client = Pop3(failure.enter_context(self.tls.wrap_socket(client.socket, server_hostname=HOST)))
            if port == 995:
                client.greeted()
            failure.pop_all()
        return client

    def user(self, name: str, source: str, port: int = 995) -> Pop3:
        """One that has logged in."""
        client = self.connected(source, port)
        with contextlib.ExitStack() as failure:
            failure.enter_context(client)
            client.ok(f"USER {name}")
            client.ok(f"PASS {PASSWORD}")
            failure.pop_all()
        return client

    def fetches(self, name: str, source: str, port: int) -> None:
        """What is new, of which most goes."""
        with self.user(name, source, port) as client:
            count = int(client.ok("STAT").split()[0])
            for number in range(1, min(count, 20) + 1):
                client.ok(f"RETR {number}")
                client.body()
                if name != LARGE and random.random() < 0.8:
                    client.ok(f"DELE {number}")
            if random.random() < 0.95:  # others lose their connection
                client.ok("QUIT")

    def stays(self, name: str, source: str) -> None:
        """For minutes, and says something now and then."""
        with self.user(name, source) as client:
            for number in range(1, min(int(client.ok("STAT").split()[0]), random.randint(0, 3)) + 1):
                client.ok(f"DELE {number}")
            while random.random() < 0.8 and not self.over.wait(random.uniform(5, 60)):
                client.ok("NOOP")
            client.ok("QUIT")

    def guesses(self, source: str) -> None:
        """A password for each of a list of names, and over again."""
        for name in GUESSED:
            if self.over.is_set():
                return
            with self.connected(source) as client:
                client.ok(f"USER {name}")
                client.say(f"PASS {name}{random.randint(1, 99)}")

    def looks(self, source: str) -> None:
        """What is there, and leaves."""
        with self.connected(source) as client:
            client.ok("CAPA")
            client.body()

    def delivers(self) -> None:
        """As delivery programs do; in the host, which sees the machine's files."""
        box = mailbox.mbox(self.machine.root / "var/mail" / random.choice(NAMES[:-1]), create=False)
        with contextlib.suppress(mailbox.ExternalClashError), contextlib.closing(box):
            box.lock()
            box.add(message())
            box.flush()
