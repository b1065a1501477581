"""The same faults end to end: real sessions over a connection, from the login to QUIT, killed or failing in UPDATE."""

import errno
import os
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from popad.auth.guessing import ROW_OCTETS, ROWS
from popad.maildrop.private import KEY, RESERVE
from tests.faults.crashes import deaths
from tests.faults.errors import fill_up
from tests.faults.interposer import Call, Kind, Mode, orders, parse, preloaded
from tests.faults.judge import Tally
from tests.faults.mailboxes import APPENDED, Case
from tests.faults.world import Wanted, redo_logs, write
from tests.support.patience import PATIENCE
from tests.support.serving import POPAD_WITHOUT_JOURNAL, Server

NUMBERS = {
    errno.ENOSPC: b"[SYS/TEMP]",
    errno.EDQUOT: b"[SYS/TEMP]",
    errno.EIO: b"[SYS/TEMP]",
    errno.EROFS: b"[SYS/PERM]",
}


class Wire:
    """One user's mailbox and sessions of it."""

    def __init__(self, path: Path, seed: int) -> None:
        self.server = Server(path)
        self.log = path / "calls"
        self.log.touch()
        self.log.chmod(0o666)
        self.chance = random.Random(f"wire {seed}")
        self.tally = Tally()
        self.before_quit = 0  # calls of the last session before it was UPDATE's turn
        self.server.deliver(b"")
        self.session([], Mode.COUNT)  # makes the key of the state directory, once

    def session(
        self, deletions: Sequence[int], mode: Mode, nth: int = 0, number: int = 0, program: Sequence[str] = ()
    ) -> tuple[bytes, int]:
        """Log in, delete, QUIT, with a fault; the answer to QUIT and the exit status."""
        self.log.write_bytes(b"")
        roots = f"{self.server.mailbox.parent}:{self.server.state}"
        environment = preloaded() | orders(roots, mode, nth, number, self.log)
        with self.server.session(program=[*program, *POPAD_WITHOUT_JOURNAL], environment=environment) as (
            client,
            process,
        ):
            if not client.log_in().startswith(b"+OK"):
                return b"refused", process.wait(PATIENCE)
            for deleted in deletions:
                assert client.ask(f"DELE {deleted + 1}").startswith(b"+OK")
            self.before_quit = len(self.calls())
            client.send(b"QUIT\r\n")
            status = process.wait(PATIENCE)
            return b"" if status < 0 else client.rest(), status  # the connection of one that was killed stays open

    def calls(self) -> list[Call]:
        return list(parse(self.log.read_bytes()))

    def put(self, case: Case) -> None:
        if not self.server.mailbox.exists():
            self.server.deliver(b"")
        # The lock file of a session that was killed: the next one has judged it, and this one would make other calls.
        for left in self.server.mailbox.parent.iterdir():
            if left != self.server.mailbox:
                left.unlink()
        for left in self.server.state.iterdir():  # so that each session makes it: the same calls
            if left.name not in (KEY, RESERVE):
                left.unlink()
        self.server.mailbox.write_bytes(case.before)

    def check(self, where: str, wanted: Wanted) -> None:
        """The next session opens the mailbox and retrieves each message."""
        self.tally.points += 1
        with self.server.session() as (client, _):
            answer = client.log_in()
            sizes = []
            if answer.startswith(b"+OK"):
                client.ask("LIST")
                sizes = [int(line.split()[1]) for line in client.body().splitlines()]
            for number, size in enumerate(sizes, 1):
                client.ask(f"RETR {number}")
                body = client.body()
                if len(body.replace(b"\r\n..", b"\r\n.")) - body.startswith(b"..") != size:
                    self.tally.fail(f"{where}: message {number} is not of its size", damaged=1)
            client.send(b"QUIT\r\n")
        left = redo_logs(self.server.state)
        if not answer.startswith(b"+OK") or left or not wanted.by(self.server.mailbox.read_bytes()):
            self.tally.fail(f"{where}: {answer!r}, left {left}", damaged=1)

    def kill(self, case: Case, most: int) -> None:
        """SIGKILL at each call of UPDATE, or at so many."""
        self.put(case)
        self.session(sorted(case.gone), Mode.COUNT)
        calls = self.calls()
        points = [point for point in deaths(calls, 1 << 20, self.chance) if point[1] > self.before_quit]
        for mode, nth in self.chance.sample(points, min(len(points), most)):
            self.put(case)
            _, status = self.session(sorted(case.gone), mode, nth)
            where = f"{case.name}, over the wire: {mode.name} at call {nth} of {len(calls)}"
            if status != -signal.SIGKILL:
                self.tally.fail(f"{where}: exit status {status}", damaged=1)
            appended = [self.append(APPENDED[1])] if nth % 2 else []
            self.check(where, Wanted(case, appended))

    def append(self, message: bytes) -> bytes:
        fd = os.open(self.server.mailbox, os.O_WRONLY | os.O_APPEND)
        there = self.server.mailbox.read_bytes()
        if there and not there.endswith(b"\n"):
            message = b"\n\n" + message
        write(fd, message)
        os.close(fd)
        return message

    def fail(self, case: Case, most: int) -> None:
        """Errors in UPDATE: what the client hears."""
        self.put(case)
        self.session(sorted(case.gone), Mode.COUNT)
        # From the mailbox's first on, and without those of files without which an update goes on: its lock, and what is
        # remembered of unique-ids.
        calls = list(enumerate(self.calls(), 1))
        first = next(nth for nth, call in calls if call.path == str(self.server.mailbox))
        writes = [
            nth
            for nth, call in calls
            if nth >= first and call.kind in (Kind.WRITE, Kind.FSYNC) and not call.path.endswith(".ids")
        ]
        points = [(nth, number) for nth in writes[:-2] for number in NUMBERS]  # the last are of a redo log not needed
        for nth, number in self.chance.sample(points, min(len(points), most)):
            self.put(case)
            answer, status = self.session(sorted(case.gone), Mode.FAIL, nth, number)
            where = f"{case.name}, over the wire: {errno.errorcode[number]} at call {nth}"
            if not answer.startswith(b"-ERR " + NUMBERS[number]) or status:
                self.tally.fail(f"{where}: {answer!r}, exit status {status}", damaged=1)
            self.tally.notes[f"{NUMBERS[number].decode()} to QUIT"] += 1
            self.check(where, Wanted(case))

    def limit(self, case: Case) -> None:
        """RLIMIT_FSIZE below what the redo log needs: an error and no death by SIGXFSZ."""
        limit = ROWS * ROW_OCTETS  # the helper's table of guesses is a file, too
        self.put(case)
        self.server.stderr.unlink()
        answer, status = self.session(sorted(case.gone), Mode.COUNT, program=["prlimit", f"--fsize={limit}"])
        if len(case.after) <= limit or not answer.startswith(b"-ERR [SYS/TEMP]") or status:
            self.tally.fail(f"{case.name}, over the wire, file size limit: {answer!r}, status {status}", damaged=1)
        self.check(f"{case.name}, over the wire: file size limit", Wanted(case, done=False))

    def on_a_full_disk(self, case: Case, filler: Path) -> None:
        """Nobody has opened the mailbox while there was room: what root keeps is given up for it."""
        self.put(case)
        fill_up(filler, 0)
        answer, status = self.session(sorted(case.gone), Mode.COUNT)
        if not answer.startswith(b"+OK") or status:
            self.tally.fail(f"{case.name}, over the wire, full disk: {answer!r}, status {status}", damaged=1)
        self.check(f"{case.name}, over the wire: full disk", Wanted(case, done=True))
        filler.unlink()


@contextmanager
def wire(seed: int) -> Iterator[Wire]:
    path = Path(tempfile.mkdtemp(prefix="popad-faults-"))
    path.chmod(0o755)
    try:
        yield Wire(path, seed)
    finally:
        shutil.rmtree(path)
