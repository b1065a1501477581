"""Process 1 of the race's namespace: deliverers and clients at once, until all is delivered; then the verdict."""

import argparse
import importlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.serials import message, serial_of, serials_in

from . import deliver, namespace, postfix
from .clients import Client, Session, import_popad
from .namespace import FIRST_USER, WORK, User
from .verdict import Delivery, Verdict, judge

FLUSH_SECONDS = 120
PROGRESS = 10  # seconds between two lines that say how far it is


class Race:
    """One run. `arguments` are those of tests/race/run."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        kinds = "m" if arguments.maildirs else "sh"
        self.users = [
            User(f"{kind}{n}", FIRST_USER + 2 * n + (kind == "h")) for n in range(arguments.users) for kind in kinds
        ]
        self.has_postfix = any(way.startswith("postfix") for way in arguments.ways)
        self.tickets = multiprocessing.get_context("fork").Value("q", 0)
        self.deliverers_left = multiprocessing.get_context("fork").Value("q", len(arguments.ways))
        self.settings = dict(word.split("=", 1) for word in arguments.set)
        self.main: Callable[[], object] = lambda: None
        self.deadline = time.monotonic() + arguments.seconds

    def ticket(self) -> int:
        """The serial of the next message; 0 when there shall be no more."""
        with self.tickets.get_lock():
            if self.tickets.value >= self.arguments.deliveries or time.monotonic() > self.deadline:
                return 0
            self.tickets.value += 1
            return int(self.tickets.value)

    def deliverer(self, way_name: str, number: int) -> None:
        rng = random.Random(f"{self.arguments.seed}/{way_name}/{number}")
        way = deliver.WAYS[way_name]
        users = [user for user in self.users if not (user.in_spool and way_name in deliver.ONLY_AT_HOME)]
        try:
            with (WORK / f"deliveries-{number}").open("w") as notes:
                while serial := self.ticket():
                    user = rng.choice(users)
                    done = way(user, message(serial, self.arguments.seed))
                    print(json.dumps([way_name, user.name, serial, done]), file=notes, flush=True)
        finally:
            with self.deliverers_left.get_lock():
                self.deliverers_left.value -= 1

    def client(self, number: int) -> None:
        rng = random.Random(f"{self.arguments.seed}/client/{number}")
        with (WORK / f"sessions-{number}").open("w") as notes:
            while self.deliverers_left.value:
                kill = self.arguments.kill and rng.random() < 0.25
                client = Client(rng.choice(self.users), self.settings, self.main, self.arguments.seed)
                print(client.run(rng, kill).line(), file=notes, flush=True)

    def run(self) -> Verdict:
        namespace.enter([Path(tree) for tree in self.arguments.programs], self.users)
        self.main = import_popad()
        if self.arguments.without_locks:
            forget_locks()
        if self.has_postfix:
            postfix.start()
        started = time.monotonic()
        self.deadline = started + self.arguments.seconds
        pids = [fork(self.deliverer, way, number) for number, way in enumerate(self.arguments.ways)]
        pids += [fork(self.client, number) for number in range(self.arguments.clients)]
        failed = 0
        threading.Thread(target=self.report_progress, args=(started,), daemon=True).start()
        while pids:
            pid, status = os.wait()  # orphans of the programs, too: this is process 1
            if pid in pids:
                pids.remove(pid)
                failed += status != 0
        flushed = self.flush_exim() and (not self.has_postfix or self.flush_postfix())
        seconds = time.monotonic() - started
        verdict = self.judge()
        verdict.seconds = round(seconds, 1)
        if failed or not flushed:
            verdict.stuck += failed + (not flushed)
            verdict.examples.append(f"{failed} workers failed; queues are {'empty' if flushed else 'not empty'}")
        return verdict

    def report_progress(self, started: float) -> None:
        """A line from time to time, for whoever waits: on standard error, as the figures are on standard output."""
        while True:
            time.sleep(PROGRESS)
            print(
                f"{self.tickets.value} of {self.arguments.deliveries} deliveries, "
                f"{time.monotonic() - started:.0f} of {self.arguments.seconds} s at most",
                file=sys.stderr,
                flush=True,
            )

    def flush_exim(self) -> bool:
        """Whether exim has delivered all that it had accepted."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while subprocess.run(["exim4", "-bpc"], capture_output=True, text=True).stdout.strip() != "0":
            if time.monotonic() > deadline:
                return False
            # A dotlock of a killed session ends with the next session that changes the mailbox.
            self.last_sessions("flush")
            subprocess.run(["exim4", "-qff"], capture_output=True)
        return True

    def flush_postfix(self) -> bool:
        flushed = postfix.flush(FLUSH_SECONDS)
        postfix.stop()
        return flushed

    def last_sessions(self, name: str) -> None:
        """One session for each mailbox, which finishes what killed ones have left. It deletes some mail, too."""
        rng = random.Random(f"{self.arguments.seed}/{name}")
        with (WORK / f"sessions-{name}").open("a") as notes:
            for user in self.users:
                client = Client(user, self.settings, self.main, self.arguments.seed)
                print(client.run(rng).line(), file=notes, flush=True)

    def serials_of(self, user: User) -> tuple[list[int], int]:
        """Those in the mailbox, and how many parts of it are no whole message."""
        if not user.has_maildir:
            return serials_in(user.mailbox.read_bytes(), self.arguments.seed)
        files = [path.read_bytes() for part in ("new", "cur") for path in (user.mailbox / part).iterdir()]
        serials = [serial_of(content, self.arguments.seed) for content in files]
        return [serial for serial in serials if serial is not None], serials.count(None)

    def judge(self) -> Verdict:
        self.last_sessions("last")
        deliveries = [Delivery(*json.loads(line)) for line in lines("deliveries-*")]
        sessions = [Session(**json.loads(line)) for line in lines("sessions-*")]
        mailboxes = {user.name: self.serials_of(user) for user in self.users}
        verdict = judge(self.arguments.seed, deliveries, sessions, mailboxes, shared=self.arguments.maildirs)
        places = [Path("/var/mail"), *(user.home for user in self.users if not user.in_spool)]
        verdict.litter = [str(path) for place in places for path in place.iterdir() if is_litter(path)]
        verdict.litter += [
            str(path) for user in self.users if user.has_maildir for path in (user.mailbox / "tmp").iterdir()
        ]
        verdict.litter += [
            str(path)
            for path in namespace.STATE.iterdir()
            if path.name not in (".key", ".reserve") and path.suffix not in (".spare", ".ids")
        ]
        if (log := WORK / "popad.log").exists() and log.stat().st_size:
            verdict.examples += [
                line for line in log.read_text().splitlines() if line and not line.startswith("event=")
            ]
        return verdict


def lines(pattern: str) -> list[str]:
    return [line for path in sorted(WORK.glob(pattern)) for line in path.read_text().splitlines()]


def is_litter(path: Path) -> bool:
    return path.name.endswith(".lock") or path.name.startswith(".popad")


def forget_locks() -> None:
    """popad without any lock: what it loses shows that this race can see a loss."""

    @contextmanager
    def no_lock(fd: int, *arguments: object, **options: object) -> Iterator[os.stat_result]:
        yield os.fstat(fd)

    for module in ("locks", "store"):
        vars(importlib.import_module(f"popad.maildrop.mbox.{module}"))["Lock"] = no_lock


def fork(role: Callable[..., None], *arguments: object) -> int:
    """Start a worker. Returns its number."""
    if pid := os.fork():
        return pid
    try:
        role(*arguments)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def main() -> None:
    arguments = argparse.Namespace(**json.loads(sys.argv[1]))
    print(Race(arguments).run().json())


if __name__ == "__main__":
    main()
