"""A fuzzer in the authorization child's place: what it may hand over is believed, anything else ends the session.

    python3 -m tests.hostile.children [--count N] [--seed N]

Each case is a real session (fork, channel, helper, log) whose child sends made-up datagrams, too many or too few, with
descriptors, and lives or dies as it likes.
"""

import argparse
import os
import random
import signal
import socket
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from popad import sinks
from popad.net.connection import Connection
from popad.privsep import identity as spawn_identity
from popad.privsep import spawn
from popad.privsep.channel import LENGTH, Channel
from popad.session import monitor, preauth
from popad.settings import UIDS_OF_STRANGERS, Settings
from tests.support.here import ROOT
from tests.support.serving import ALL, NAME, PASSWORD, STRANGER, Server, connection, read_logfmt

PATIENCE, MORE_PATIENCE = (
    0.15,
    5.0,
)  # seconds that a child has to speak, and to end; the second on a machine that is busy
MUCH = 70000  # octets: more than a message may have


def packed(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(LENGTH, "big") + field for field in fields)


def one_of_four(message: bytes) -> list[bytes] | None:
    """The four fields of a message that may be handed over; None for any other. Reads as plainly as can be."""
    fields = []
    for limit in preauth.HAND_OVER_LIMITS:
        size = int.from_bytes(message[:4], "big")
        if len(message) < 4 or size > limit or len(message) < 4 + size:
            return None
        fields.append(message[4 : 4 + size])
        message = message[4 + size :]
    return None if message else fields


class Case:
    """What a child does: datagrams with descriptors, and an end."""

    def __init__(self, chance: random.Random) -> None:
        self.sent = [self.datagram(chance) for _ in range(chance.choice((0, 1, 1, 1, 1, 1, 1, 2, 3)))]
        self.end = chance.choices(("leave", "fail", "killed", "stay", "stop"), (40, 3, 3, 2, 1))[0]

    @staticmethod
    def datagram(chance: random.Random) -> tuple[bytes, int]:
        """Octets, and how many descriptors come with them."""
        which = chance.choice((preauth.LOGIN,) * 6 + (preauth.QUIT, preauth.GONE, b"root", b"", b"LOGIN"))
        name = chance.choice(
            (NAME.encode(), b"root", STRANGER.encode(), b"", b"../x", b"a\r\nb", b"x" * 249, b"x" * 250, b"\xff\0")
        )
        password = chance.choice((PASSWORD.encode(), PASSWORD.encode(), b"wrong", b"", b"x" * 249, b"x" * 250, b"\0"))
        ahead = chance.choice((b"QUIT\r\n", b"", b"STAT\r\nQUIT\r\n", b"x" * 32768))
        fields = [which, name, password, ahead]
        wrong = chance.randrange(12)
        if wrong == 0:
            fields = fields[: chance.randrange(4)]
        elif wrong == 1:
            fields.append(chance.choice((b"", b"x", ahead)))
        elif wrong == 2:
            fields[chance.randrange(4)] = b"x" * chance.choice((256, 9, 32769))
        octets = packed(*fields)
        if wrong == 3:
            octets = octets[: chance.randrange(len(octets) + 1)]
        elif wrong == 4:
            octets = chance.randbytes(chance.choice((0, 1, 4, 20, 1000, MUCH)))
        elif wrong == 5:
            place = chance.randrange(4)
            octets = octets[:place] + bytes([chance.randrange(256)]) + octets[place + 1 :]
        elif wrong == 6:
            octets += bytes(chance.choice((1, 4, 1000, MUCH)))
        return octets, chance.choice((0,) * 12 + (1, 3, 250))

    def play(self, channel: Channel, note: int) -> None:
        """In the child: `note` is a descriptor that gets an octet for each message that the session has."""
        null = os.open(os.devnull, os.O_RDONLY)
        for number, (octets, descriptors) in enumerate(self.sent):
            if number and not octets:
                break  # an empty message is the end, for receive(), too
            fds = null.to_bytes(4, sys.byteorder) * descriptors
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if descriptors else []
            try:
                channel.socket.sendmsg([octets], control, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
            except OSError:
                break  # the session has heard enough
            os.write(note, b"x")
        if self.end == "fail":
            os._exit(3)
        if self.end in ("killed", "stop"):
            os.kill(os.getpid(), signal.SIGKILL if self.end == "killed" else signal.SIGSTOP)
        if self.end == "stay":
            signal.pause()

    def expected(self, arrived: int) -> str:
        """What must become of the session, if so many messages have reached it."""
        fields = one_of_four(self.sent[0][0]) if arrived == 1 and not self.sent[0][1] else None
        if fields is None or self.end != "leave":
            return "broken"
        which, name, password, ahead = fields
        if which in monitor.WHY_NOT:
            return "no login"
        if which != preauth.LOGIN:
            return "broken"
        if (name, password) != (NAME.encode(), PASSWORD.encode()):
            return "wrong"
        return "passed" if ahead.endswith(b"QUIT\r\n") else "passed, without QUIT"


class Seen:
    """What became of a session."""

    def __init__(self, arrived: int, heard: bytes, status: int, events: list[str], became: list[str]) -> None:
        self.arrived = arrived
        self.heard = heard.removeprefix(monitor.GREETING)
        self.status = status
        self.events = events
        self.became = became  # what the session's own process took on: a user's uid, "stranger"

    def check(self, case: Case) -> str:
        """Returns what was expected, which it was."""
        expected = case.expected(self.arrived)
        told = (expected, vars(case), vars(self))
        if not expected.startswith("passed"):
            assert not {"login-passed", "maildrop-loaded"} & set(self.events), told
            assert self.became in ([], ["stranger"] if expected == "wrong" else []), told
        if expected == "broken":
            assert (self.heard, self.status, self.events[-1]) == (b"", monitor.SOFTWARE, "contract-broken"), told
            return expected
        assert self.status == 0, told
        answers = {"wrong": monitor.WRONG, "no login": b""}
        if expected in answers:
            assert self.heard == answers[expected], told
        else:
            assert self.heard.startswith(b"+OK 3 messages"), told
            assert self.heard.endswith(b"+OK bye\r\n") == (expected == "passed"), told
        return expected


def run(case: Case, server: Server, patience: float) -> Seen:
    """A session with this child, in processes of its own."""
    ours, theirs = connection()
    server.stderr.write_bytes(b"")
    arrived, became = server.path / "arrived", server.path / "became"
    for notes in (arrived, became):
        notes.write_bytes(b"")
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            serve(case, server, Connection(theirs.detach(), "192.0.2.7", 1), arrived, became, patience)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(99)
    theirs.close()
    ours.shutdown(socket.SHUT_WR)
    heard = b""
    try:
        while octets := ours.recv(65536):
            heard += octets
    except ConnectionResetError:
        pass  # what the client hears of an end without a word
    ours.close()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status != 99, server.stderr.read_text()
    entries = [read_logfmt(line) for line in server.stderr.read_text().splitlines()]
    events = [entry["event"] for entry in entries if "event" in entry]
    return Seen(len(arrived.read_bytes()), heard, status, events, became.read_text().split())


def serve(case: Case, server: Server, client: Connection, arrived: Path, became: Path, patience: float) -> None:
    """The process of the session. Does not return."""
    sys.stderr = server.stderr.open("a", buffering=1)
    os.dup2(sys.stderr.fileno(), 2)
    sinks.journald.path = "/nonexistent"
    monitor.GRACE, spawn.PATIENCE = patience - 1, patience
    note, arrivals = (os.open(path, os.O_WRONLY | os.O_APPEND) for path in (became, arrived))
    become = spawn_identity.become

    def noted(uid: int, *others: Any, **more: Any) -> None:
        os.write(note, b"stranger\n" if uid in UIDS_OF_STRANGERS else b"%d\n" % uid)
        become(uid, *others, **more)

    vars(spawn_identity)["become"] = noted

    def role(channel: Channel, *_: object) -> None:
        case.play(channel, arrivals)

    vars(preauth)["authorization_role"] = role
    settings = Settings({**server.settings, "POPAD_LOGIN_TIMEOUT": "1", "POPAD_GUESS_DELAY": "0"})
    os._exit(monitor.serve(client, settings, monitor.identity_of_strangers(settings)))


def fuzz(count: int, seed: int) -> Counter[str]:
    """So many cases; how many there were of each outcome. AssertionError tells the case."""
    outcomes: Counter[str] = Counter()
    list(monitor.load_what_a_user_needs())
    with tempfile.TemporaryDirectory(prefix="popad-test-") as place:
        os.chmod(place, 0o755)
        server = Server(Path(place))
        for number in range(count):
            server.deliver(ALL)
            case = Case(random.Random(seed + number))
            try:
                outcome = run(case, server, PATIENCE).check(case)
            except AssertionError:
                outcome = run(case, server, MORE_PATIENCE).check(case)
            outcomes[outcome] += 1
            assert server.mailbox.read_bytes() == ALL
    return outcomes


def main() -> None:
    """Fuzz, and print what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {'three identities' if ROOT else 'one identity'}")
    for outcome, count in sorted(fuzz(asked.count, asked.seed).items()):
        print(f"{count:7} {outcome}")


if __name__ == "__main__":
    main()
