"""Maildirs as popad, Dovecot and Courier serve them: python3 -m tests.peers.maildirs [--each 60] [--seed 1] [--large N]

Generated Maildirs of some kinds, and those of layouts.py, a copy for each server; which messages there are, how many
octets each has, what comes over the wire; and whether popad keeps the unique-ids that the others have given. What
differs must be in maildir_differences.py; else it is printed, and the exit status is 1. --large N measures logins,
UIDL, RETR and deletions of N messages of popad and Dovecot in place of that. Needs root; Dovecot and Courier are not
installed. Everything listens on loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from popad.auth import credentials
from tests.peers.maildir_differences import (
    COURIER,
    DIFFERENCES,
    DOVECOT,
    NOT_KEPT,
    POPAD,
    WHOLE,
    Answer,
    expected,
    messages,
)
from tests.support import courier, dovecot, unpacked
from tests.support.daemon import daemon
from tests.support.generated import HEADER, KINDS, Mails, as_layout, give_away, put, usual, wire
from tests.support.layouts import LAYOUTS, Layout
from tests.support.patience import PATIENCE
from tests.support.serving import NAME, PASSWORD, Server

BRIEF = 2.0  # seconds for a server that is known to wait
SETTINGS = {
    "POPAD_GUESS_DELAY": "0",
    "POPAD_MAX_SESSIONS_PER_SOURCE": "100000",
    "POPAD_MAX_SESSIONS": "100000",
    "POPAD_MAILDIR_SEEN": "no",
}


SERVERS = (POPAD, DOVECOT, COURIER)


class Session:
    """One client, logged in."""

    def __init__(self, port: int, patience: float = PATIENCE) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), patience)
        self.lines = self.socket.makefile("rb")
        try:
            self.lines.readline()
            self.ask(f"USER {NAME}")
            self.ask(f"PASS {PASSWORD}")
        except (RuntimeError, OSError):
            self.leave()
            raise

    def ask(self, command: str) -> bytes:
        self.socket.sendall(command.encode() + b"\r\n")
        line = self.lines.readline()
        if not line.startswith(b"+OK"):
            raise RuntimeError(f"{command}: {line!r}")
        return line

    def body(self, command: str) -> list[bytes]:
        self.ask(command)
        lines = []
        while (line := self.lines.readline()) != b".\r\n":
            if not line:
                raise RuntimeError(f"{command}: the connection has ended")
            lines.append(line.removeprefix(b"."))
        return lines

    def close(self) -> None:
        self.ask("QUIT")
        self.leave()

    def leave(self) -> None:
        self.lines.close()
        self.socket.close()


@dataclass(frozen=True)
class Served:
    """A message, as a server has shown it."""

    unique_id: bytes
    size: int
    octets: bytes


def served(port: int, patience: float = PATIENCE) -> list[Served] | None:
    """All messages; one that cannot be had alone has no octets. None where the server refuses all of it."""
    try:
        session = Session(port, patience)
    except (RuntimeError, OSError):
        return None
    try:
        sizes = [int(line.split()[1]) for line in session.body("LIST")]
        ids = [line.split(b" ", 1)[1].rstrip(b"\r\n") for line in session.body("UIDL")]
        found = []
        for number, (unique_id, size) in enumerate(zip(ids, sizes, strict=True), 1):
            try:
                octets = b"".join(session.body(f"RETR {number}"))
            except RuntimeError:
                octets = b""
            found.append(Served(unique_id, size, octets))
        session.ask("QUIT")
        return found
    except (RuntimeError, OSError):
        return None
    finally:
        session.leave()


@dataclass
class Comparison:
    """The servers, each with its copy; and popad once more for the copy of each other one, with the ids of that."""

    places: dict[str, Path]
    ports: dict[str, int]
    with_ids: dict[str, int]
    met: Counter[tuple[str, str]] = field(default_factory=Counter)  # differences, by server and name
    problems: list[str] = field(default_factory=list)

    def prepare(self, layout: Layout) -> None:
        """The Maildir for all of them, as the servers of `layout.by` have left it, one behind the other."""
        for place in self.places.values():
            put(place, layout)
        for server in layout.by.split():
            served(self.ports[server])
            for other in SERVERS:
                if other != server:
                    shutil.rmtree(self.places[other])
                    shutil.copytree(self.places[server], self.places[other], symlinks=True)
                    give_away(self.places[other])

    def compare(self, layout: Layout) -> None:
        self.prepare(layout)
        there = messages(self.places[POPAD])
        said: dict[str, list[Served] | None] = {}
        for server in SERVERS:
            odd = (server, layout.name) in WHOLE
            found = said[server] = served(self.ports[server], BRIEF if odd else PATIENCE)
            ought = expected(server, there, self.met)
            shown = None if found is None else Counter[Answer]((each.size, each.octets) for each in found)
            if odd and shown != ought:
                self.met[server, WHOLE[server, layout.name]] += 1
            elif shown != ought:
                self.problems.append(f"{layout.name}: {server}: {difference(shown, ought)}")
        for server in (DOVECOT, COURIER):
            theirs = said[server]
            if theirs and not {(server, layout.name), (POPAD, layout.name)} & {*WHOLE, *NOT_KEPT}:
                self.compare_ids(layout, server, theirs)

    def compare_ids(self, layout: Layout, server: str, theirs: list[Served]) -> None:
        """Messages that popad has, too, have the ids that the other server has given them."""
        ours = served(self.with_ids[server])
        if ours is None:
            self.problems.append(f"{layout.name}: popad with the ids of {server}: nothing is served")
            return
        given, kept = (Counter((each.unique_id, text_of(each.octets)) for each in found) for found in (theirs, ours))
        there = {text for _, text in kept}
        for unique_id, text in given - kept:
            if text in there:
                self.problems.append(f"{layout.name}: popad has not kept {server}'s {unique_id!r} of {text[-40:]!r}")


def text_of(octets: bytes) -> bytes:
    """What servers do not differ in."""
    return octets.replace(b"\r", b"").strip(b"\n")


def difference(shown: Counter[Answer] | None, ought: Counter[Answer] | None) -> str:
    """In a line."""
    if shown is None or ought is None:
        return f"{'nothing' if shown is None else 'something'} is served"
    more, less = ([(size, octets[-50:]) for size, octets in some] for some in (shown - ought, ought - shown))
    return f"has {more!r:.300}, not {less!r:.300}"


@contextlib.contextmanager
def servers(text: Path) -> Iterator[Comparison]:
    """All of them, with nothing to serve yet. `text`: a directory that others can enter."""
    server = Server(text)
    server.credentials.write_text(credentials.line(NAME, PASSWORD.encode(), 4096) + "\n")
    places = {name: text / name / "Maildir" for name in SERVERS}
    for place in places.values():
        place.mkdir(parents=True)
    location = dovecot.CONFIGURATION.replace("mbox:{place}/mail:INBOX={place}/inbox", f"maildir:{places[DOVECOT]}")
    with contextlib.ExitStack() as running:
        ports, with_ids = {}, {}
        for name, uidl in ((POPAD, ""), (DOVECOT, "dovecot"), (COURIER, "courier")):
            settings = SETTINGS | {"POPAD_MAILDROP": f"maildir:{places[name]}", "POPAD_UIDL": uidl}
            with_ids[name] = running.enter_context(daemon(server, settings)).ports[0]
        ports[POPAD] = with_ids.pop(POPAD)
        ports[DOVECOT] = running.enter_context(dovecot.dovecot(text / "dovecot", location))
        ports[COURIER] = running.enter_context(courier.courier(text / COURIER))
        yield Comparison(places, ports, with_ids)


def compare(comparison: Comparison, each: int, seed: int) -> int:
    """How much is not as maildir_differences.py has it."""
    rng = random.Random(seed)
    for kind, make in KINDS.items():
        for number in range(each):
            comparison.compare(as_layout(f"{kind} {number}", make(rng)))
    for layout in LAYOUTS:
        comparison.compare(layout)
    rows = [(server, row.name) for row in DIFFERENCES for server in row.servers]
    rows += [(server, why) for (server, _), why in WHOLE.items()]
    comparison.problems += [f"{server}: never so: {name}" for server, name in rows if not comparison.met[server, name]]
    for server, name in rows:
        print(f"{server:8} {comparison.met[server, name]:6} times  {name}", flush=True)
    for problem in comparison.problems:
        print(problem, flush=True)
    print(f"{len(KINDS) * each + len(LAYOUTS)} Maildirs, {len(comparison.problems)} problems", flush=True)
    return len(comparison.problems)


def median(work: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def measure(comparison: Comparison, large: int, seed: int) -> None:
    content = HEADER + b"a line of text that is long enough\n" * 80
    for what, form in (("no sizes", "{}"), ("S= and W=", f"{{}},S={len(content)},W={wire(content)}")):
        rng = random.Random(seed)
        names = [form.format(usual(rng, n)) for n in range(large)]
        mails: Mails = [("cur", f"{name}:2,S", content) for name in names]
        for place in comparison.places.values():
            put(place, as_layout(what, mails))
        rows: dict[str, list[float]] = {}
        for port in (comparison.ports[POPAD], comparison.ports[DOVECOT]):

            def one(*commands: str, port: int = port) -> None:
                session = Session(port)
                for command in commands:
                    session.body(command) if command != "STAT" else session.ask(command)
                session.close()

            rows.setdefault("first", []).append(median(lambda: one("STAT"), 1))
            rows.setdefault("first UIDL", []).append(median(lambda: one("UIDL"), 1))
            rows.setdefault("later", []).append(median(lambda: one("STAT")))
            rows.setdefault("later UIDL", []).append(median(lambda: one("UIDL")))
            session = Session(port)
            began = time.perf_counter()
            for number in range(1, 1001):
                session.body(f"RETR {number}")
            rows.setdefault("1000 RETR", []).append(time.perf_counter() - began)
            session.close()
            session = Session(port)
            for number in range(1, large + 1):
                session.ask(f"DELE {number}")
            began = time.perf_counter()
            session.close()
            rows.setdefault("QUIT, all deleted", []).append(time.perf_counter() - began)
        for row, (mine, other) in rows.items():
            print(
                f"{what:10} {row:18} popad {mine:7.3f} s  Dovecot {other:7.3f} s  ratio {mine / other:.2f}", flush=True
            )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.peers.maildirs", description=__doc__)
    parser.add_argument("--each", type=int, default=60, help="Maildirs of a kind; 60 without it")
    parser.add_argument("--seed", type=int, default=1, help="for other ones; 1 without it")
    parser.add_argument("--large", type=int, default=0, help="measure so many messages")
    given = parser.parse_args()
    try:
        dovecot.require()
        courier.require()
    except unpacked.Unavailable as reason:
        parser.error(str(reason))
    with tempfile.TemporaryDirectory(prefix="popad-test-", dir="/var/tmp") as text:
        os.chmod(text, 0o755)
        with servers(Path(text)) as comparison:
            if given.large:
                measure(comparison, given.large, given.seed)
                return 0
            return int(bool(compare(comparison, given.each, given.seed)))


if __name__ == "__main__":
    sys.exit(main())
