"""Maildirs as popad and Dovecot serve them: python3 -m tests.peers.maildirs [--each 60] [--seed 1] [--large N]

Generated Maildirs of some kinds, a copy for each server; which messages there are, how many octets each has, and what
comes over the wire. A difference is printed with what was different, and the exit status is 1. --large N measures
logins, UIDL, RETR and deletions of N messages in place of that. Needs root, and Debian's dovecot-pop3d. Everything
listens on loopback.
"""

from __future__ import annotations

import argparse
import os
import pwd
import random
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from popad.auth import credentials
from tests.peers import scram
from tests.support.daemon import daemon
from tests.support.patience import PATIENCE
from tests.support.serving import NAME, OWNER, PASSWORD, Server

Mails = list[tuple[str, str, bytes]]  # directory, name, content
HEADER = b"Received: from x\nDate: Thu, 1 Jan 1970 00:00:00 +0000\nSubject: s\n\n"
SETTINGS = {
    "POPAD_GUESS_DELAY": "0",
    "POPAD_MAX_SESSIONS_PER_SOURCE": "100000",
    "POPAD_MAX_SESSIONS": "100000",
    "POPAD_MAILDIR_SEEN": "no",
}


def wire(content: bytes) -> int:
    return len(content) + content.count(b"\n") - content.count(b"\r\n") + (0 if content.endswith(b"\n") else 2)


def body(rng: random.Random, line_end: bytes = b"\n") -> bytes:
    lines = [
        rng.choice((b"", b"text", b".", b"..dot", b"\xff\xfe", b"x" * 900, b"From a")) for _ in range(rng.randint(0, 9))
    ]
    return HEADER.replace(b"\n", line_end) + line_end.join([*lines, b""])


def usual(rng: random.Random, number: int) -> str:
    return f"{1_600_000_000 + number}.M{rng.randrange(10**6)}P{rng.randrange(30000)}.host"


def plain(rng: random.Random) -> Mails:
    return [("new", usual(rng, n), body(rng)) for n in range(rng.randint(0, 9))]


def flagged(rng: random.Random) -> Mails:
    flags = ("", ":2,", ":2,S", ":2,RS", ":2,F", ":2,DFR")
    return [("cur", usual(rng, n) + rng.choice(flags), body(rng)) for n in range(rng.randint(1, 9))]


def sized(rng: random.Random) -> Mails:
    """Names with right sizes, as Dovecot, Courier and maildrop write them."""
    made: Mails = []
    for n in range(rng.randint(1, 9)):
        content = body(rng)
        name = usual(rng, n) + f",S={len(content)}" + (f",W={wire(content)}" if rng.random() < 0.5 else "")
        made.append((rng.choice(("new", "cur")), name + rng.choice(("", ":2,S")), content))
    return [(place, name.partition(":")[0] if place == "new" else name, content) for place, name, content in made]


def line_ends(rng: random.Random) -> Mails:
    return [
        ("new", usual(rng, n), rng.choice((body(rng, b"\r\n"), body(rng), body(rng).rstrip(b"\n") + b"x")))
        for n in range(rng.randint(1, 9))
    ]


def clutter(rng: random.Random) -> Mails:
    """With what is no message: names that begin with a dot, and other programs' files."""
    return [
        *plain(rng),
        ("new", ".hidden", body(rng)),
        ("cur", ".nfs0001", body(rng)),
        ("tmp", usual(rng, 99), body(rng)),
    ]


def other_names(rng: random.Random) -> Mails:
    """As qmail, Courier, exim and getmail name files, and as nobody should."""
    forms = (
        "{t}.{p}_{n}.host",
        "{t}.H{n}P{p}.host.example.org",
        "{t}.V801I{n}M{p}.host",
        "{t}.{p}.host",
        "msg.{n}",
        "{n}",
    )
    made = {}
    for n in range(rng.randint(1, 9)):
        made[rng.choice(forms).format(t=1_600_000_000 + n, p=rng.randrange(30000), n=n)] = body(rng)
    return [("new", name, content) for name, content in made.items()]


KINDS: dict[str, Callable[[random.Random], Mails]] = {
    "new alone": plain,
    "flags": flagged,
    "sizes in names": sized,
    "line ends": line_ends,
    "clutter": clutter,
    "other names": other_names,
}


class Session:
    """One client, logged in."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.lines = self.socket.makefile("rb")
        self.lines.readline()
        self.ask(f"USER {NAME}")
        self.greeting = self.ask(f"PASS {PASSWORD}")

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
            lines.append(line.removeprefix(b"."))
        return lines

    def close(self) -> None:
        self.ask("QUIT")
        self.lines.close()
        self.socket.close()


def served(port: int) -> tuple[list[int], list[bytes]]:
    """Sizes and octets of all messages."""
    session = Session(port)
    sizes = [int(line.split()[1]) for line in session.body("LIST")]
    contents = [b"".join(session.body(f"RETR {number}")) for number in range(1, len(sizes) + 1)]
    session.close()
    return sizes, contents


def put(place: Path, mails: Mails) -> None:
    shutil.rmtree(place, ignore_errors=True)
    owner = pwd.getpwnam(OWNER)
    for part in ("new", "cur", "tmp"):
        (place / part).mkdir(parents=True)
    for part, name, content in mails:
        (place / part / name).write_bytes(content)
    for path in (place, *place.rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid)


def compare(given: argparse.Namespace, ours: int, theirs: int, places: tuple[Path, Path]) -> int:
    rng = random.Random(given.seed)
    differences: Counter[str] = Counter()
    for kind, make in KINDS.items():
        for number in range(given.each):
            mails = make(rng)
            for place in places:
                put(place, mails)
            found = [served(port) for port in (ours, theirs)]
            for what, (mine, other) in zip(("sizes", "octets"), zip(*found, strict=True), strict=True):
                unfinished = sum(not content.endswith(b"\n") for _, _, content in mails)
                if what == "sizes" and sum(mine) - sum(other) == 2 * unfinished and unfinished:
                    # Dovecot does not count the line end that it sends behind a message without one; popad does.
                    differences[f"{kind}: Dovecot's sizes without the line end that it adds"] += 1
                elif sorted(mine) != sorted(other):
                    differences[f"{kind}: {what}"] += 1
                    print(f"{kind} {number}: {what}: {sorted(mine)!r:.300} {sorted(other)!r:.300}", file=sys.stderr)
                elif mine != other:
                    differences[f"{kind}: order of {what}"] += 1
        of_kind = ", ".join(f"{what}: {count}" for what, count in differences.items() if what.startswith(kind))
        print(f"{kind:24} {given.each} Maildirs, differences: {of_kind or 'none'}", flush=True)
    return int(any("order" not in what and "Dovecot's" not in what for what in differences))


def median(work: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def measure(given: argparse.Namespace, ours: int, theirs: int, places: tuple[Path, Path]) -> int:
    content = HEADER + b"a line of text that is long enough\n" * 80
    for what, form in (("no sizes", "{}"), ("S= and W=", f"{{}},S={len(content)},W={wire(content)}")):
        rng = random.Random(given.seed)
        names = [form.format(usual(rng, n)) for n in range(given.large)]
        mails: Mails = [("cur", f"{name}:2,S", content) for name in names]
        for place in places:
            put(place, mails)
        rows: dict[str, list[float]] = {}
        for port in (ours, theirs):

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
            for number in range(1, given.large + 1):
                session.ask(f"DELE {number}")
            began = time.perf_counter()
            session.close()
            rows.setdefault("QUIT, all deleted", []).append(time.perf_counter() - began)
        for row, (mine, other) in rows.items():
            print(
                f"{what:10} {row:18} popad {mine:7.3f} s  Dovecot {other:7.3f} s  ratio {mine / other:.2f}", flush=True
            )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.peers.maildirs", description=__doc__)
    parser.add_argument("--each", type=int, default=60, help="Maildirs of a kind; 60 without it")
    parser.add_argument("--seed", type=int, default=1, help="for other ones; 1 without it")
    parser.add_argument("--large", type=int, default=0, help="measure so many messages")
    given = parser.parse_args()
    if shutil.which("dovecot") is None:
        parser.error("needs dovecot-pop3d")
    with tempfile.TemporaryDirectory(prefix="popad-test-", dir="/var/tmp") as text:
        os.chmod(text, 0o755)
        server = Server(Path(text))
        server.credentials.write_text(credentials.line(NAME, PASSWORD.encode(), 4096) + "\n")
        places = Path(text, "ours"), Path(text, "theirs")
        location = scram.CONFIGURATION.replace("mbox:{place}/mail:INBOX={place}/inbox", f"maildir:{places[1]}")
        settings = SETTINGS | {"POPAD_MAILDROP": f"maildir:{places[0]}"}
        with daemon(server, settings) as running, scram.dovecot(Path(text, "dovecot"), location) as port:
            work = measure if given.large else compare
            return work(given, running.ports[0], port, places)


if __name__ == "__main__":
    sys.exit(main())
