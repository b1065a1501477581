"""In the preauth child's place: what the monitor's table allows is served, anything else ends the session.

    python3 -m tests.hostile.children [--count N] [--seed N]

Each case is a real session (fork, channels, auth helper, log) whose child sends datagrams to the monitor and to the
helper, too many or too few, with descriptors, and lives or dies as it likes. First all that can be made of the table's
rows, then so many cases that are made up.
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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from popad import sinks
from popad.auth import credentials, helper
from popad.auth.sasl import table
from popad.auth.verdict import MAX_NAME, MAX_PASSWORD
from popad.maildrop import open as stores
from popad.net import arrival
from popad.net.connection import Connection
from popad.privsep import identity as spawn_identity
from popad.privsep import spawn
from popad.privsep.channel import LENGTH, Channel
from popad.protocol.authorization import is_summary
from popad.session import monitor, preauth
from popad.session.preparation import load_maildrop, load_postauth, load_transaction
from popad.settings import PREAUTH_UIDS, Settings
from tests.support.here import ROOT
from tests.support.serving import ALL, NAME, PASSWORD, PREAUTH_USER, Server, connection, read_logfmt

PATIENCE, MORE_PATIENCE = (
    0.15,
    5.0,
)  # seconds that a child has to speak, and to end; the second on a machine that is busy
MUCH = 70000  # octets: more than a message may have


def packed(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(LENGTH, "big") + field for field in fields)


def fields_of(message: bytes, shapes: Mapping[bytes, Sequence[int]] | None, limits: Sequence[int] = ()) -> list[bytes]:
    """The fields of a message as the table, or `limits`, allows them; none for any other. Plainly read."""
    fields: list[bytes] = []
    while message:
        size = int.from_bytes(message[:LENGTH], "big")
        if len(message) < LENGTH + size:
            return []
        fields.append(message[LENGTH : LENGTH + size])
        message = message[LENGTH + size :]
    if shapes is not None:
        if not fields or fields[0] not in shapes:
            return []
        limits = (len(fields[0]), *shapes[fields[0]])
    fits = len(fields) == len(limits) and all(len(field) <= most for field, most in zip(fields, limits, strict=True))
    return fields if fits else []


class Message:
    """A datagram: to the monitor, or to the auth helper (credentials)."""

    def __init__(self, octets: bytes, *, credentials: bool = False, descriptors: int = 0) -> None:
        self.octets = octets
        self.credentials = credentials
        self.descriptors = descriptors


GOOD = b"USER", NAME.encode(), PASSWORD.encode()
ENDS = ("leave", "fail", "killed", "stay", "stop")


class Case:
    """What a child does: datagrams, and an end."""

    def __init__(self, sent: Sequence[Message], end: str = "leave") -> None:
        self.sent = list(sent)
        self.end = end

    def play(self, channel: Channel, credentials: Channel, note: int) -> None:
        """In the child: `note` is a descriptor that gets an octet for each message that has arrived."""
        null = os.open(os.devnull, os.O_RDONLY)
        for number, message in enumerate(self.sent):
            if number and not message.octets:
                break  # an empty message is the end, for receive(), too
            fds = null.to_bytes(4, sys.byteorder) * message.descriptors
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)] if fds else []
            end = credentials if message.credentials else channel
            try:
                end.socket.sendmsg([message.octets], control, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
                os.write(note, b"x")
            except OSError:
                os.write(note, b"-")  # nobody hears it any more
        if self.end == "fail":
            os._exit(3)
        if self.end in ("killed", "stop"):
            os.kill(os.getpid(), signal.SIGKILL if self.end == "killed" else signal.SIGSTOP)
        if self.end == "stay":
            signal.pause()

    def expected(self, arrived: bytes) -> str:
        """What must become of the session, if these messages have arrived."""
        there = [message for message, mark in zip(self.sent, arrived, strict=False) if mark == ord("x")]
        requests = [message for message in there if not message.credentials]
        said = [message for message in there if message.credentials]
        if any(message.descriptors for message in requests) or self.end != "leave":
            return "broken"
        asked = [fields_of(message.octets, monitor.SHAPES) or [b""] for message in requests]
        if len(asked) == 1 and asked[0][0] in monitor.WHY_NOT:
            return "no login" if is_summary(asked[0][1]) else "broken"
        if [request for request, *_ in asked] in ([preauth.SASL, preauth.GONE], [preauth.SASL, preauth.SILENT]):
            ahead = b"" if is_summary(asked[1][1]) else None
        else:
            is_login = [request for request, *_ in asked] in ([preauth.LOGIN], [preauth.SASL, preauth.DECIDED])
            ahead = asked[-1][1] if is_login else None
        if ahead is None or len(said) != 1 or said[0].descriptors:
            return "broken"
        typed = fields_of(said[0].octets, table.SHAPES)
        if not typed:
            return "broken"
        if tuple(typed) != GOOD:
            return "wrong"
        return "passed" if ahead.endswith(b"QUIT\r\n") else "passed, without QUIT"


def said(*fields: bytes, descriptors: int = 0) -> Message:
    return Message(packed(*fields), credentials=True, descriptors=descriptors)


def whole_table() -> Iterator[Case]:
    """Every row of the monitor's table: alone, with each end, before each other, and each way to make it wrong."""
    good = said(*GOOD)
    for row in monitor.ROWS:
        sample = b"QUIT\r\n" if row.request == preauth.LOGIN else b"CAPA AUTH!"
        fields = [row.request, *(sample for _ in row.limits)]
        fine = Message(packed(*fields))
        yield from (Case([good, fine], end) for end in ENDS)
        yield Case([fine])  # without a name and a password
        yield Case([fine, good])
        yield Case([fine, fine, good])  # twice
        for other in monitor.ROWS:
            behind = Message(packed(other.request, *(b"" for _ in other.limits)))
            yield Case([good, fine, behind])
            yield Case([behind, good, fine])
        yield from (Case([good, Message(fine.octets, descriptors=count)]) for count in (1, 3, 250))
        for place, most in enumerate((len(row.request), *row.limits)):
            for size in (most - 1, most, most + 1):
                some = [*fields[:place], b"x" * size if place else (row.request + b"x")[:size], *fields[place + 1 :]]
                yield Case([good, Message(packed(*some))])
        yield Case([good, Message(packed(*fields, b""))])
        yield Case([good, Message(packed(*fields[:-1]))])
        yield Case([good, Message(fine.octets[:-1])])
        yield Case([good, Message(fine.octets + b"x")])
        for wrong in (
            [said(*GOOD, descriptors=1)],
            [said(*GOOD, b"")],
            [said(GOOD[0], GOOD[1])],
            [said(GOOD[0], b"x" * (MAX_NAME + 1), GOOD[2])],
            [said(*GOOD[:2], b"x" * (MAX_PASSWORD + 1))],
            [said(GOOD[0], b"x" * MAX_NAME, b"x" * MAX_PASSWORD)],
            [good, good],
            [Message(b"", credentials=True)],
            [Message(good.octets[:-1], credentials=True)],
        ):
            yield Case([*wrong, fine])
    for request in (b"", b"root", b"LOGIN", b"sasl", b"stls", b"x" * 60000):
        yield Case([good, Message(packed(request, b""))])
    yield from (Case([good, Message(octets)]) for octets in (b"", b"\0", bytes(4), b"\xff" * 9, bytes(MUCH)))
    yield from (Case([good], end) for end in ENDS)
    yield from (Case([], end) for end in ENDS)


def made_up(chance: random.Random) -> Case:
    """Something like what a child does."""
    sent = [datagram(chance) for _ in range(chance.choice((0, 1, 1, 1, 1, 1, 1, 2, 3)))]
    for _ in range(chance.choice((0, 1, 1, 1, 1, 1, 1, 2))):
        sent.insert(chance.randrange(len(sent) + 1), datagram(chance, credentials=True))
    return Case(sent, chance.choices(ENDS, (40, 3, 3, 2, 1))[0])


def datagram(chance: random.Random, *, credentials: bool = False) -> Message:
    """Octets, mostly right, and perhaps descriptors."""
    names = NAME.encode(), b"root", PREAUTH_USER.encode(), b"", b"../x", b"a\r\nb", b"x" * 249, b"x" * 250, b"\xff\0"
    passwords = PASSWORD.encode(), PASSWORD.encode(), b"wrong", b"", b"x" * 249, b"x" * 250, b"\0"
    requests = (
        (preauth.LOGIN,) * 6
        + (preauth.SASL, preauth.DECIDED) * 3
        + (preauth.QUIT, preauth.GONE, preauth.STLS, b"root", b"", b"LOGIN")
    )
    aheads = b"QUIT\r\n", b"", b"STAT\r\nQUIT\r\n", b"x" * 32768
    summaries = b"", b"CAPA", b"USER AUTH! ?!", b"TLS!", b"secret", b"CAPA  USER", b"USER!!", b" ".join([b"CAPA"] * 17)
    request = chance.choice(requests)
    fields = [request, chance.choice(aheads if request not in monitor.WHY_NOT else summaries)]
    if request == preauth.SASL:
        fields.pop()
    if credentials:
        fields = [GOOD[0], chance.choice((GOOD[1], chance.choice(names))), chance.choice(passwords)]
    wrong = chance.randrange(12)
    if wrong == 0:
        fields = fields[: chance.randrange(len(fields))]
    elif wrong == 1:
        fields.append(chance.choice((b"", b"x", aheads[0])))
    elif wrong == 2:
        fields[chance.randrange(len(fields))] = b"x" * chance.choice((256, 9, 32769))
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
    return Message(octets, credentials=credentials, descriptors=chance.choice((0,) * 12 + (1, 3, 250)))


class Seen:
    """What became of a session."""

    def __init__(self, arrived: bytes, heard: bytes, status: int, events: list[str], became: list[str]) -> None:
        self.arrived = arrived
        self.heard = heard.removeprefix(arrival.GREETING)
        self.status = status
        self.events = events
        self.became = became  # what the session's own process took on: a user's uid, "preauth"

    def check(self, case: Case) -> str:
        """Returns what was expected, which it was."""
        expected = case.expected(self.arrived)
        told = (expected, [vars(message) for message in case.sent], case.end, vars(self))
        if not expected.startswith("passed"):
            assert not {"login-passed", "maildrop-loaded"} & set(self.events), told
            assert self.became in ([], ["preauth"] if expected == "wrong" else []), told
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
    return Seen(arrived.read_bytes(), heard, status, events, became.read_text().split())


def serve(case: Case, server: Server, client: Connection, arrived: Path, became: Path, patience: float) -> None:
    """The process of the session. Does not return."""
    sys.stderr = server.stderr.open("a", buffering=1)
    os.dup2(sys.stderr.fileno(), 2)
    sinks.journald.path = "/nonexistent"
    monitor.GRACE, spawn.PATIENCE = patience - 1, patience
    note, arrivals = (os.open(path, os.O_WRONLY | os.O_APPEND) for path in (became, arrived))
    become = spawn_identity.become

    def noted(uid: int, *others: Any, **more: Any) -> None:
        os.write(note, b"preauth\n" if uid in PREAUTH_UIDS else b"%d\n" % uid)
        become(uid, *others, **more)

    vars(monitor)["become"] = vars(spawn_identity)["become"] = noted

    def role(channel: Channel, theirs: Channel, *_: object) -> None:
        case.play(channel, theirs, arrivals)

    vars(preauth)["preauth_role"] = role
    helper.REQUEST_TIMEOUT, helper.LATER, credentials.File.refused_soonest = patience, 0.001, 0.001
    settings = Settings({**server.settings, "POPAD_LOGIN_TIMEOUT": "1", "POPAD_GUESS_DELAY": "0"})
    arrived_client = arrival.arrive(client, arrival.facts_of(settings, with_rules=False))
    assert arrived_client
    outcome = monitor.serve(arrived_client)
    os._exit(monitor.SUCCESS if outcome == monitor.SERVED else outcome)


def play(cases: Iterable[Case]) -> tuple[Counter[str], int]:
    """How many cases there were of each outcome, and how many messages. AssertionError tells the case."""
    outcomes: Counter[str] = Counter()
    messages = 0
    stores.load("mbox:")
    for load in (load_maildrop, load_transaction, load_postauth):
        load()
    with tempfile.TemporaryDirectory(prefix="popad-test-") as place:
        os.chmod(place, 0o755)
        server = Server(Path(place))
        for case in cases:
            server.deliver(ALL)
            try:
                outcome = run(case, server, PATIENCE).check(case)
            except AssertionError:
                outcome = run(case, server, MORE_PATIENCE).check(case)
            outcomes[outcome] += 1
            messages += len(case.sent)
            assert server.mailbox.read_bytes() == ALL
    return outcomes, messages


def main() -> None:
    """Fuzz, and print what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    asked = parser.parse_args()
    print(f"seed {asked.seed}, {'three identities' if ROOT else 'one identity'}")
    made = (made_up(random.Random(asked.seed + number)) for number in range(asked.count))
    for title, cases in (("the table", whole_table()), ("made up", made)):
        outcomes, messages = play(cases)
        print(f"{title}: {outcomes.total()} sessions, {messages} messages")
        for outcome, count in sorted(outcomes.items()):
            print(f"{count:7} {outcome}")


if __name__ == "__main__":
    main()
