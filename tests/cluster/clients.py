"""Who polls the cluster by way of HAProxy, and who delivers into its store meanwhile, each in a process of its own
until it is told to stop. A mailbox has one client, so that what happens to it has an order.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path

from tests.support.pop3 import Pop3
from tests.support.serials import message, serial_of

from .hosts import PASSWORD, Cluster, Store

THINK = 0.08  # seconds between an answer and the next command, on average
STAYS = 0.25  # of sessions: those of clients that keep the connection for a while
STAY = 3.0, 8.0  # seconds
BETWEEN = 1.0  # seconds between two sessions of a client, on average
PATIENT = 40.0  # seconds until a client gives up: more than HAProxy needs to notice a host that has died
DELETED = 0.85  # of what was fetched
MOST = 20  # messages fetched in a session
ADDRESSES = 8  # of a client: HAProxy limits what one address does in a minute


@dataclass
class Poll:
    """One session, as its client knows it. Times are seconds of the monotonic clock."""

    user: str
    address: str = ""
    port: int = 0
    began: float = 0
    logged_in: float = 0  # how long it took, with the connection
    ended: float = 0
    outcome: str = ""  # quit: +OK. refused: -ERR to a command. gone: the connection ended. silent: no answer.
    said: str = ""  # what was refused, or what ended it
    answers: list[float] = field(default_factory=list)  # seconds each, behind the login
    quitting: bool = False
    ids: dict[int, str] = field(default_factory=dict)  # of messages fetched, by serial
    deleted: list[int] = field(default_factory=list)  # asked for; done if the outcome is quit
    damaged: list[str] = field(default_factory=list)


class Client:
    """One user's, with one session after the other."""

    def __init__(self, user: str, number: int, seed: int, write: Callable[[str], None], stop: Event) -> None:
        self.user = user
        self.number = number
        self.seed = seed
        self.rng = random.Random(f"{seed}/{user}")
        self.write = write
        self.stop = stop
        self.count = 0

    def run(self) -> None:
        self.stop.wait(self.rng.random() * 2 * BETWEEN)
        while not self.stop.is_set():
            poll = self.poll()
            self.write(json.dumps(asdict(poll)))
            self.stop.wait(self.rng.expovariate(1 / BETWEEN))

    def poll(self) -> Poll:
        self.count += 1
        address = f"127.1.{self.number}.{1 + self.count % ADDRESSES}"
        poll = Poll(self.user, address, began=time.monotonic())
        try:
            with Pop3(socket.create_connection(("127.0.0.1", 110), PATIENT, (address, 0))) as server:
                poll.port = server.port
                self.converse(server, poll)
        except TimeoutError:
            poll.outcome = "silent"
        except (OSError, EOFError) as error:
            poll.outcome, poll.said = "gone", str(error)
        except AssertionError as refused:
            poll.outcome, poll.said = "refused" if "-ERR" in str(refused) else "gone", str(refused)
        poll.ended = time.monotonic()
        return poll

    def converse(self, server: Pop3, poll: Poll) -> None:
        server.logged_in(self.user, PASSWORD)
        poll.logged_in = time.monotonic() - poll.began
        listed = self.listed(server, poll)
        until = time.monotonic() + (self.rng.uniform(*STAY) if self.rng.random() < STAYS else 0)
        for number, unique_id in listed[:MOST]:
            self.ask(server, poll, f"RETR {number}")
            octets = body(server)
            serial = serial_of(octets, self.seed)
            if serial is None or octets != message(serial, self.seed):
                poll.damaged.append(f"{self.user} {unique_id}: {octets[:200]!r}")
                continue
            poll.ids[serial] = unique_id
            if self.rng.random() < DELETED:
                self.ask(server, poll, f"DELE {number}")
                poll.deleted.append(serial)
        while time.monotonic() < until and not self.stop.is_set():
            self.stop.wait(0.5)
            self.ask(server, poll, "NOOP")
        poll.quitting = True
        self.ask(server, poll, "QUIT")
        poll.outcome = "quit"

    def ask(self, server: Pop3, poll: Poll, command: str) -> None:
        if not self.stop.is_set():
            time.sleep(self.rng.expovariate(1 / THINK))  # a person's, or a machine's own work: no wait for anything
        asked = time.monotonic()
        server.ok(command)
        poll.answers.append(time.monotonic() - asked)

    def listed(self, server: Pop3, poll: Poll) -> list[tuple[str, str]]:
        self.ask(server, poll, "UIDL")
        rows = [row.split() for row in body(server).decode().splitlines()]
        return [(number, unique_id) for number, unique_id in rows]


def body(server: Pop3) -> bytes:
    """Of a multi-line answer. Raises EOFError where the connection ends in the midst of it."""
    lines = []
    while (line := server.line()) != b".":
        if not line and is_over(server):
            raise EOFError("in the midst of an answer")
        lines.append(line.removeprefix(b".") + b"\n")
    return b"".join(lines)


def is_over(server: Pop3) -> bool:
    """Whether the connection has ended, behind an empty line, which a message may have, too."""
    return not server.unread and server.socket.recv(1, socket.MSG_PEEK) == b""


def poll_all(cluster: Cluster, seed: int, file: Path, stop: Event) -> None:
    """In a process of its own: the clients of all users, in the front's network; a line of JSON for each session."""
    cluster.front.enter_network()
    lock = threading.Lock()
    with file.open("w") as out:

        def write(line: str) -> None:
            with lock:
                out.write(line + "\n")

        clients = [Client(user, number, seed, write, stop) for number, user in enumerate(cluster.store.users)]
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def deliver_all(store: Store, seed: int, rate: float, file: Path, stop: Event) -> None:
    """In a process of its own: `rate` messages a second to any of the users, as a delivery program does it, whole
    before they are in new/; a line with the serial and the user for each.
    """
    rng = random.Random(f"{seed}/deliveries")
    users = list(store.users)
    serial = 0
    with file.open("w") as out:
        while not stop.is_set():
            serial += 1
            user = rng.choice(users)
            deliver(store, user, serial, message(serial, seed))
            out.write(f"{serial} {user}\n")
            stop.wait(rng.expovariate(rate))


def deliver(store: Store, user: str, serial: int, content: bytes) -> None:
    now = time.time_ns()
    name = f"{now // 10**9}.M{now // 1000 % 10**6}P{os.getpid()}Q{serial}.mx"
    written = store.maildir(user) / "tmp" / name
    written.write_bytes(content)
    os.chown(written, store.users[user], store.users[user])
    written.rename(store.maildir(user) / "new" / name)


class Load:
    """Both, for as long as the `with` lasts; then their notes."""

    def __init__(self, cluster: Cluster, seed: int, rate: float, place: Path) -> None:
        self.polls_file = place / "polls"
        self.deliveries_file = place / "deliveries"
        context = multiprocessing.get_context("fork")
        self.stop = context.Event()
        self.processes = [
            context.Process(target=poll_all, args=(cluster, seed, self.polls_file, self.stop)),
            context.Process(target=deliver_all, args=(cluster.store, seed, rate, self.deliveries_file, self.stop)),
        ]

    def __enter__(self) -> Load:
        for process in self.processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        for process in self.processes:
            process.join(2 * PATIENT)
            if process.exitcode != 0:
                process.kill()
                raise RuntimeError(f"a process of the load ended with {process.exitcode}")

    def polls(self) -> list[Poll]:
        """All sessions, in the order of their ends."""
        found = [Poll(**json.loads(line)) for line in self.polls_file.read_text().splitlines()]
        for poll in found:
            poll.ids = {int(serial): unique_id for serial, unique_id in poll.ids.items()}
        return found

    def deliveries(self) -> dict[int, str]:
        """The user of each serial."""
        lines = (line.split() for line in self.deliveries_file.read_text().splitlines())
        return {int(serial): user for serial, user in lines}
