"""The other side of the race: POP3 clients, each with one session of popad after the other.

A session is a process forked from one that has imported popad already, on a socket pair as under inetd; everything else
is real: it starts as root, asks an authentication helper, becomes the user. See tests/support/namespace.py.
"""

import importlib
import json
import os
import pkgutil
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serials import serial_of

from .namespace import CREDENTIALS, PASSWORD, STATE, WORK, User

LONGEST_UPDATE = 0.006  # seconds; of small mailboxes in memory
GONE = b"-ERR [SYS/TEMP] another program has removed the message"
MOST = 60  # messages that one session retrieves at most


@dataclass
class Session:
    """What a client knows of a session when it is over."""

    user: str
    outcome: str = "gone"  # quit: +OK. refused: -ERR. dropped: by us. gone: by popad. killed. stuck.
    refusal: str = ""
    quitting: bool = False  # QUIT was sent, perhaps to a session that was killed before
    fetched: list[int] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)  # asked for; done if the outcome is quit
    damaged: list[str] = field(default_factory=list)  # messages retrieved that are not what was delivered
    unlisted: int = 0  # sessions in which LIST and the messages did not agree

    def line(self) -> str:
        return json.dumps(asdict(self))


def import_popad() -> Callable[[], object]:
    """What `python3 -m popad` runs, with all modules loaded but PAM's."""
    sys.path.insert(0, str(CHECKOUT))
    popad = importlib.import_module("popad")
    for module in pkgutil.walk_packages(popad.__path__, "popad."):
        if module.name != "popad.auth.pam":
            importlib.import_module(module.name)
    main: Callable[[], object] = sys.modules["popad.__main__"].main
    return main


def environment(user: User, settings: dict[str, str]) -> dict[str, str]:
    place = "mbox:/var/mail/{user}" if user.in_spool else "mbox:{home}/mailbox"
    if user.has_maildir:
        place = "maildir:{home}/Maildir"
    files = {"POPAD_CREDENTIALS": str(CREDENTIALS), "POPAD_STATE": str(STATE), "POPAD_MAILDROP": place}
    # As of systemd: in this namespace all programs that deliver see one another, as on a machine.
    return {"PATH": "/usr/bin:/bin", "INVOCATION_ID": "race", "POPAD_AUTH": "file", **files, **settings}


def start(user: User, settings: dict[str, str], main: Callable[[], object]) -> tuple[int, socket.socket]:
    """A session of popad: its process, and the client's end of the connection."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        ours.settimeout(PATIENCE)
        return pid, ours
    try:
        ours.close()
        log = os.open(WORK / "popad.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for standard, fd in enumerate((theirs.fileno(), theirs.fileno(), log)):
            os.dup2(fd, standard)
        os.environ.clear()
        os.environ.update(environment(user, settings))
        sys.argv = ["popad"]
        main()
    except SystemExit:
        pass
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


class Client:
    """One session's conversation. `kill`: the session's process is killed at some moment, most often in its QUIT."""

    def __init__(self, user: User, settings: dict[str, str], main: Callable[[], object], seed: int) -> None:
        self.seed = seed
        self.pid, self.socket = start(user, settings, main)
        self.stream = self.socket.makefile("rwb", buffering=0)
        self.lines = self.socket.makefile("rb")
        self.session = Session(user.name)
        self.shares = user.has_maildir  # with other sessions, which may have removed a message

    def reply(self) -> bytes:
        line = self.lines.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError
        return line

    def ask(self, command: str) -> bytes:
        self.stream.write(command.encode() + b"\r\n")
        return self.reply()

    def rows(self) -> list[bytes]:
        """A multi-line body, as lines with LF."""
        found = []
        while (line := self.reply()) != b".\r\n":
            found.append(line[line.startswith(b".") : -2] + b"\n")
        return found

    def refuses(self, command: str) -> bool:
        """Ask; whether the answer is that the mailbox is not what it was, or locked. No other refusal is right."""
        answer = self.ask(command)
        if answer.startswith(b"+OK"):
            return False
        if not answer.startswith((b"-ERR [SYS/TEMP] ", b"-ERR [IN-USE] ")):
            self.session.unlisted += 1
        self.session.outcome, self.session.refusal = "refused", answer.decode().strip()
        return True

    def converse(self, rng: random.Random, kill: bool) -> None:
        session = self.session
        self.reply()
        self.ask(f"USER {session.user}")
        moment = rng.choice(("login", "transaction", "quit", "quit", "quit", "quit")) if kill else ""
        self.stream.write(f"PASS {PASSWORD}\r\n".encode())
        if moment == "login":
            self.kill(rng)
        if not (answer := self.reply()).startswith(b"+OK"):
            session.outcome, session.refusal = "refused", answer.decode().strip()
            return
        if self.refuses("UIDL"):
            return
        listed = self.rows()
        if len({row.split()[1] for row in listed}) != len(listed):
            session.unlisted += 1
        numbers = [number for number in range(1, len(listed) + 1) if rng.random() < 0.9]
        for number in numbers[:MOST]:
            if self.shares:
                if (answer := self.ask(f"RETR {number}")).startswith(GONE):
                    continue
                self.session.unlisted += not answer.startswith(b"+OK")
            elif self.refuses(f"RETR {number}"):
                return
            octets = b"".join(self.rows())
            if (serial := serial_of(octets, self.seed)) is None:
                last = "the last" if number == len(listed) else f"number {number} of {len(listed)}"
                session.damaged.append(f"{session.user}: {last} is {octets[:200]!r}…{octets[-60:]!r}")
                continue
            session.fetched.append(serial)
            if rng.random() < 0.85 and self.ask(f"DELE {number}").startswith(b"+OK"):
                session.deleted.append(serial)
        if not kill and rng.random() < 0.12:
            session.outcome = "dropped"
            return
        if moment == "transaction":
            self.kill(rng)
        session.quitting = True
        self.stream.write(b"QUIT\r\n")
        if moment == "quit":
            self.kill(rng)
        answer = self.reply()
        session.outcome, session.refusal = (
            ("quit", "") if answer.startswith(b"+OK") else ("refused", answer.decode().strip())
        )

    def kill(self, rng: random.Random) -> None:
        # Any moment of a recovery or an update will do, and nothing announces one: a random wait is the point.
        time.sleep(rng.random() * LONGEST_UPDATE)
        os.kill(self.pid, signal.SIGKILL)
        self.session.outcome = "killed"

    def run(self, rng: random.Random, kill: bool = False) -> Session:
        try:
            self.converse(rng, kill)
        except (ConnectionError, BrokenPipeError):
            pass
        except TimeoutError:
            self.session.outcome = "stuck"
            os.kill(self.pid, signal.SIGKILL)
        for end in (self.stream, self.lines, self.socket):
            end.close()
        os.waitpid(self.pid, 0)
        return self.session
