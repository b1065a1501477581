"""Both shapes under mixed clients for as long as is asked: nothing may grow, and no mail be lost or doubled.

In each machine: mail is delivered all the time; good clients fetch it and delete it; others leave in the midst of it,
say an octet a second, say nothing, or give wrong passwords, each from addresses of its own. What the machine holds is
looked at again and again.
"""

from __future__ import annotations

import contextlib
import mailbox
import multiprocessing
import os
import queue
import random
import re
import socket
import statistics
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from tests.bench import mail, servers, works
from tests.bench.generator import PASSWORD
from tests.bench.ratios import ACCEPT, DAEMON
from tests.bench.servers import Running
from tests.support.instances import table
from tests.support.machine import Machine
from tests.support.patience import PATIENCE
from tests.support.pop3 import Pop3

USERS = [f"soak{number}" for number in range(6)]
LOOKS = 10.0  # seconds between two looks at a machine
PAUSE = 0.3  # seconds between two sessions of a client, and two deliveries
SLOW = 1.0  # seconds between two octets of a slow client
PATIENT = 20.0  # seconds until slow and silent clients leave
DELETED = 0.8  # of what was fetched
BETWEEN = 1.0  # seconds that others have at most to end
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: the connection is reset, not ended
NUMBER = re.compile(rb"^Message-ID: <(\d+)@soak>\r?$", re.M)
# What may differ between the first quarter and the last one: octets of memory, descriptors, processes.
MAY_GROW = {"memory": 3_000_000, "descriptors": 15, "processes": 6}


# -- the clients ------------------------------------------------------------------------------------------------------


@dataclass
class Clients:
    """One kind of client in one process, inside a machine's network. What it has to say goes into `said`."""

    machine: Machine
    net: int  # its addresses are 127.NET.x.y
    said: multiprocessing.Queue[tuple[str, object]]
    until: float
    number: int = 0

    def connect(self) -> Pop3:
        self.number += 1
        source = f"127.{self.net}.{self.number // 250 % 250}.{self.number % 250 + 1}"
        return Pop3(socket.create_connection(("127.0.0.1", servers.PORT), PATIENCE, (source, 0)))

    def go_on(self) -> Iterator[int]:
        """Turns until the time is over, with a pause behind each. An error of one is told, and does not end them."""
        turn = 0
        while time.time() < self.until:
            yield turn
            turn += 1
            time.sleep(PAUSE)


def entering(kind: Callable[[Clients], None], clients: Clients) -> None:
    """What such a process does."""
    clients.machine.enter_network()
    random.seed(clients.net)
    kind(clients)


def good(clients: Clients) -> None:
    """Fetch all, delete most, say QUIT. What counts as removed is what a QUIT has confirmed."""
    for turn in clients.go_on():
        name = USERS[turn % len(USERS)]
        begun = time.monotonic()
        try:
            with clients.connect().logged_in(name, PASSWORD) as client:
                clients.said.put(("login", time.monotonic() - begun))
                numbers = fetched(client)
                gone = [number for place, number in numbers.items() if deletes(client, place)]
                reply = client.say("QUIT")
            if reply.startswith(b"+OK"):
                clients.said.put(("removed", (name, gone)))
            elif gone:
                clients.said.put(("refused", reply.decode()))
        except (OSError, AssertionError) as error:
            clients.said.put(("refused", repr(error)))


def fetched(client: Pop3) -> dict[int, int]:
    """The numbers in the messages, by their places."""
    count = int(client.ok("STAT").split()[0])
    found = {}
    for place in range(1, count + 1):
        client.ok(f"RETR {place}")
        (number,) = NUMBER.findall(client.body())
        found[place] = int(number)
    return found


def deletes(client: Pop3, place: int) -> bool:
    return random.random() < DELETED and bool(client.ok(f"DELE {place}") or True)


def leaver(clients: Clients) -> None:
    """Mark all as deleted, and reset the connection: nothing is removed."""
    for turn in clients.go_on():
        try:
            with clients.connect().logged_in(USERS[turn % len(USERS)], PASSWORD) as client:
                count = int(client.ok("STAT").split()[0])
                for place in range(1, count + 1):
                    client.ok(f"DELE {place}")
                client.socket.sendall(b"".join(b"RETR %d\r\n" % place for place in range(1, count + 1)))
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        except (OSError, AssertionError):
            pass  # a mailbox in use


def wrong(clients: Clients) -> None:
    """A password that is none."""
    for turn in clients.go_on():
        with contextlib.suppress(OSError), clients.connect() as client:
            client.line()
            client.say(f"USER {USERS[0]}x{turn}")
            client.say("PASS wrong")


def slow(clients: Clients) -> None:
    """An octet each second, and no end of the line."""
    for _ in clients.go_on():
        with contextlib.suppress(OSError), clients.connect() as client:
            client.line()
            for _ in range(int(PATIENT / SLOW)):
                client.socket.sendall(b"U")
                time.sleep(SLOW)  # the load itself


def silent(clients: Clients) -> None:
    for _ in clients.go_on():
        with contextlib.suppress(OSError), clients.connect() as client:
            client.line()
            client.socket.settimeout(PATIENT)
            client.line()


def delivering(clients: Clients) -> None:
    """As delivery programs do, with fcntl and a dotlock. In the host, which sees the machine's files."""
    number = clients.net * 10_000_000
    for turn in clients.go_on():
        name = USERS[turn % len(USERS)]
        path = clients.machine.root / "var/mail" / name
        number += 1
        text = f"Message-ID: <{number}@soak>\nSubject: {number}\n\n" + "a line\n" * random.randint(1, 400)
        box = mailbox.mbox(path, create=False)
        try:
            box.lock()
            box.add(text.encode())
            box.flush()
        except mailbox.ExternalClashError:
            continue  # in use: a real one tries again
        finally:
            box.close()
        clients.said.put(("delivered", (name, number)))


KINDS = (*(good,) * 3, leaver, wrong, slow, slow, silent, silent)


# -- the machine ------------------------------------------------------------------------------------------------------


@dataclass
class Look:
    """What a machine holds at a moment."""

    seconds: float
    memory: int  # octets (PSS) of all processes but the journal
    descriptors: int
    processes: int
    logins: list[float]  # seconds, of those since the look before


@dataclass
class Course:
    """A server's whole run."""

    running: Running
    looks: list[Look] = field(default_factory=list)
    delivered: list[tuple[str, int]] = field(default_factory=list)
    removed: list[tuple[str, int]] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    logins: list[float] = field(default_factory=list)
    lines: int = 0  # in the journal

    def take(self, said: multiprocessing.Queue[tuple[str, object]]) -> None:
        """What clients have said since."""
        while True:
            try:
                kind, what = said.get_nowait()
            except queue.Empty:
                return
            if kind == "login" and isinstance(what, float):
                self.logins.append(what)
            elif kind == "delivered" and isinstance(what, tuple):
                self.delivered.append(what)
            elif kind == "removed" and isinstance(what, tuple):
                self.removed += [(what[0], number) for number in what[1]]
            else:
                self.refused[str(what)[:80]] += 1

    def look(self, begun: float) -> None:
        processes = [path for path in (self.running.machine.root / "proc").iterdir() if path.name.isdigit()]
        descriptors = 0
        for process in processes:
            with contextlib.suppress(OSError):
                descriptors += len(os.listdir(process / "fd"))
        fresh = self.logins[sum(len(look.logins) for look in self.looks) :]
        memory = works.pss(self.running.machine)
        self.looks.append(Look(time.monotonic() - begun, memory, descriptors, len(processes), fresh))

    def left(self) -> list[tuple[str, int]]:
        """What stands in the mailboxes."""
        found = []
        for name in USERS:
            text = (self.running.machine.root / "var/mail" / name).read_bytes()
            found += [(name, int(number)) for number in NUMBER.findall(text)]
        return found

    def judge(self) -> list[str]:
        """What is wrong: mail that is lost or doubled, what has grown."""
        accounted = Counter(self.removed) + Counter(self.left())
        lost = set(self.delivered) - accounted.keys()
        doubled = [each for each, count in accounted.items() if count > 1]
        said = [f"{len(lost)} messages are lost"] * bool(lost) + [f"{len(doubled)} are doubled"] * bool(doubled)
        quarter = max(len(self.looks) // 4, 1)
        for what, most in MAY_GROW.items():
            first, last = (
                statistics.median(getattr(look, what) for look in part)
                for part in (self.looks[:quarter], self.looks[-quarter:])
            )
            if last - first > most:
                said.append(f"{what} grew from {first:.0f} to {last:.0f}")
        return said

    def row(self) -> list[str]:
        logins = sorted(self.logins) or [float("nan")]
        memory = [look.memory / 1e6 for look in self.looks]
        return [
            self.running.server.title,
            str(len(self.delivered)),
            str(len(self.removed)),
            str(len(self.logins)),
            str(self.refused.total()),
            f"{statistics.median(logins) * 1000:.0f}",
            f"{logins[-1 - len(logins) // 100] * 1000:.0f}",
            f"{memory[0]:.0f}/{max(memory):.0f}/{memory[-1]:.0f}",
            f"{self.looks[0].descriptors}/{self.looks[-1].descriptors}",
            f"{self.looks[0].processes}/{self.looks[-1].processes}",
            str(self.lines),
        ]


HEADS = [
    *("shape", "delivered", "removed", "logins", "refused", "login p50, ms", "p99, ms"),
    *("memory, MB: first/most/last", "descriptors", "processes", "journal lines"),
]


def soak(minutes: float, release: str, package: Path, page: Path) -> int:
    """All of it. Returns the exit status: 1 where something is lost, or grows."""
    with contextlib.ExitStack() as machines:
        courses = []
        for name in (DAEMON, ACCEPT):
            machine = machines.enter_context(Machine(servers.tree_of(servers.SERVERS[name], release)))
            running = servers.start(servers.SERVERS[name], machine, package)
            mail.add_users(machine, USERS)
            for user in USERS:
                mail.deliver(machine, "mbox", user, [])
            courses.append(Course(running))
        run_all(courses, minutes * 60)
        for course in courses:
            course.lines = int(course.running.machine.run(["sh", "-c", "journalctl -q --no-pager | wc -l"]).stdout)
        wrong_ones = [f"{course.running.server.title}: {said}" for course in courses for said in course.judge()]
    print(table([course.row() for course in courses], HEADS))
    for course in courses:
        for said, count in course.refused.most_common(5):
            print(f"{course.running.server.title}: {count} times {said}")
    draw(courses, minutes, page)
    print("\n".join(wrong_ones) or "nothing is lost or doubled, and nothing grows")
    return 1 if wrong_ones else 0


def run_all(courses: list[Course], seconds: float) -> None:
    """The clients of all machines at once, and the looks at them."""
    begun, until = time.monotonic(), time.time() + seconds
    processes, queues = [], []
    for course in courses:
        said: multiprocessing.Queue[tuple[str, object]] = multiprocessing.Queue()
        queues.append(said)
        for net, kind in enumerate(KINDS, 16):
            clients = Clients(course.running.machine, net, said, until)
            processes.append(multiprocessing.Process(target=entering, args=(kind, clients)))
        clients = Clients(course.running.machine, 15, said, until)
        processes.append(multiprocessing.Process(target=delivering, args=(clients,)))
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        time.sleep(min(LOOKS, max(until - time.time(), BETWEEN)))  # between two looks
        for course, said in zip(courses, queues, strict=True):
            course.take(said)
            if time.time() < until:
                course.look(begun)
        print(f"{time.monotonic() - begun:.0f} s", *(len(course.logins) for course in courses), file=sys.stderr)
    for process in processes:
        process.join()
    for course, said in zip(courses, queues, strict=True):
        course.take(said)


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>popad for $minutes minutes</title><style>
$style
</style></head><body><header><h1>popad for $minutes minutes</h1></header><main><section>$plots</section></main></body>
</html>
"""


def draw(courses: list[Course], minutes: float, page: Path) -> None:
    """The page, where matplotlib is there to draw it."""
    try:
        from tests.bench import plots
    except ImportError:
        return
    lines: dict[str, Callable[[Look], float]] = {
        "memory of all processes (PSS), MB": lambda look: look.memory / 1e6,
        "descriptors of all processes": lambda look: look.descriptors,
        "processes": lambda look: look.processes,
        "login, median, ms": lambda look: statistics.median(look.logins or [float("nan")]) * 1000,
    }
    drawings = []
    for title, value in lines.items():
        series = {
            course.running.server.name: [(look.seconds / 60, value(look)) for look in course.looks]
            for course in courses
        }
        titles = {course.running.server.name: course.running.server.title for course in courses}
        drawings.append(f'<div class="plot">{plots.course(title, series, titles)}</div>')
    style = (Path(__file__).parent / "theme.css").read_text()
    page.mkdir(parents=True, exist_ok=True)
    text = Template(PAGE).substitute(minutes=f"{minutes:g}", style=style, plots="\n".join(drawings))
    (page / "soak.html").write_text(text)
    print(f"the page: {page / 'soak.html'}", file=sys.stderr)
