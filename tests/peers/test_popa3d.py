"""popad against Debian's popa3d: the same answers to the same commands, and the same mailbox afterwards.

What differs must be in the table of differences.py, in exactly the way the table says, and each row must be met.
Sessions of popad are forked from a process that has imported it, which is what makes thousands of them affordable; a
sample goes through a real execve as inetd would do it, and must not differ from the forked ones by an octet.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest

from tests.support import edges
from tests.support.namespace import REMEMBERED
from tests.support.peers import Mailbox, Peers, Session, Unavailable, peers

from . import differences, scripts
from .replies import Reply, parse

# RFC 1939 section 7.
UNIQUE_ID = re.compile(rb"[!-~]{1,70}")
SEED = 1939
GENERATED = 520
# Scripts for each mailbox, in turn, behind the one that reads everything; and mailboxes that meet every script.
SCRIPTS_EACH = 2
ALL_SCRIPTS_ON = (
    "one message",
    "two messages",
    "many messages",
    "five identical messages",
    "twins around another",
    "no LF at the end of the second message",
    "no header, no body, three times",
    "dots",
    "CRLF",
    "two From lines",
    "empty",
    "missing",
)
NOT_FILES: dict[str, Mailbox] = {"missing": None, "directory": "directory", "FIFO": "fifo", "symlink": "symlink"}


def all_mailboxes() -> dict[str, Mailbox]:
    fixed = {**NOT_FILES, **edges.EDGES, **edges.REFUSED, **dict(edges.crossing())}
    return {**fixed, **dict(edges.generate(GENERATED, SEED))}


@dataclass
class Tally:
    """What a part of the run has seen."""

    replies: int = 0
    octets: int = 0
    differences: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    remembered: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: "Tally") -> None:
        self.replies += other.replies
        self.octets += other.octets
        self.differences += other.differences
        self.refused += other.refused
        self.remembered += other.remembered
        self.problems += other.problems


class Comparison:
    """All sessions on one mailbox."""

    def __init__(self, both: Peers, name: str, mailbox: Mailbox) -> None:
        self.both = both
        self.name = name
        self.mailbox = mailbox
        self.tally = Tally()
        self.ids: dict[bytes, bytes] = {}

    def run(self, names: list[str]) -> Tally:
        expected = self.compare("everything", scripts.READ)
        count = next((int(reply.text.split()[0]) for reply in expected if reply.verb == b"STAT"), 0)
        self.tally.refused += len(expected) < 5
        for name in names:
            self.compare(name, scripts.SCRIPTS[name](count))
        self.compare_with_index(scripts.SCRIPTS[names[0]](count))
        return self.tally

    def compare_with_index(self, script: bytes) -> None:
        """What popad remembers of an earlier session makes no difference."""
        scanned, remembered = (self.both.run(server, self.mailbox, script) for server in ("popad", "popad-indexed"))
        self.tally.remembered += REMEMBERED in remembered.stderr
        if remembered.received != scanned.received:
            self.tally.problems.append(f"{self.name!r}: {remembered.received!r} with an index, {scanned.received!r}")
        if remembered.mailbox != scanned.mailbox or b"Traceback" in remembered.stderr:
            self.tally.problems.append(f"{self.name!r}: {remembered.mailbox!r} with an index; {remembered.stderr!r}")

    def popa3d(self, rows: list[differences.Difference], script: bytes, for_ids: bool = False) -> tuple[bytes, Session]:
        """popa3d's session with the input rewritten by `rows`, and the script it got."""
        mailbox = self.mailbox
        for row in rows:
            mailbox, script = row.rewrite(mailbox, script, for_ids)
        session = self.both.run("popa3d", mailbox, script)
        return script, replace(session, received=session.received.replace(differences.TEXT, b"From "))

    def compare(self, name: str, script: bytes) -> list[Reply]:
        rows = [row for row in differences.REWRITTEN if row.applies(self.mailbox, script)]
        sent, session = self.popa3d(rows, script)
        expected = parse(sent, session.received)
        if rows:
            original = [reply.content for reply in parse(script, self.popa3d([], script)[1].received)]
            for row in rows:
                alone = parse(*as_parsed(self.popa3d([row], script))) if len(rows) > 1 else expected
                self.tally.differences[row.name] += [reply.content for reply in alone] != original
        if any(row.ids for row in rows):
            sent, with_ids = self.popa3d(rows, script, for_ids=True)
            expected = merge(expected, parse(sent, with_ids.received))
        ours = self.both.run("popad", self.mailbox, script)
        try:
            self.tally.problems += [
                f"{self.name!r}, {name!r}: {problem}" for problem in self.check(script, expected, session, rows, ours)
            ]
        except ValueError as wrong:
            self.tally.problems.append(f"{self.name!r}, {name!r}: {wrong}")
        return expected

    def check(
        self, script: bytes, expected: list[Reply], theirs: Session, rows: list[differences.Difference], ours: Session
    ) -> Iterator[str]:
        if b"Traceback" in ours.stderr:
            yield f"traceback: {ours.stderr.decode(errors='replace')}"
        answers = parse(script, ours.received)
        if not expected or not expected[0].positive:
            yield f"no greeting of popa3d: {theirs}"
        self.tally.replies += len(answers)
        self.tally.octets += len(ours.received)
        if not self.ids:
            yield from self.learn_ids(expected, answers)
        for reply, answer in zip(expected, answers, strict=False):
            if answer.command.strip().upper() == b"CAPA" and not reply.positive:
                self.tally.differences[differences.CAPA] += 1
                if not answer.positive or not answer.body:
                    yield f"CAPA: {answer}"
            elif answer.command.upper().startswith(b"USER ") and answer.positive and not reply.positive:
                self.tally.differences[differences.USER_AGAIN] += 1
            elif answer.content != (wanted := self.with_ids(reply).content):
                yield f"{answer.command!r}: popa3d {shown(wanted)}, popad {shown(answer.content)} {answer.text!r}"
        if len(answers) != len(expected):
            yield f"{len(expected)} replies of popa3d, {len(answers)} of popad"
        rewritten = ours.mailbox
        for row in rows:
            rewritten = row.mailbox(rewritten) if rewritten is not None else None
        # The blank line that popa3d was given before a separator stays behind the message before.
        if rewritten != theirs.mailbox and (rewritten or b"") + b"\n" != theirs.mailbox:
            yield f"mailbox afterwards: popa3d {theirs.mailbox!r:.200}, popad {ours.mailbox!r:.200}"
        before, after = (
            set(box.split(b"\n") if isinstance(box, bytes) else ()) for box in (self.mailbox, ours.mailbox)
        )
        if not after <= before | {b""}:
            yield "popad wrote lines into the mailbox that were not in it"

    def learn_ids(self, expected: list[Reply], answers: list[Reply]) -> Iterator[str]:
        """The ids are popa3d's; from the second message with the same id on, and where popa3d looks at no header, any
        other id that is unique.
        """
        listed = [dict(line.split(b" ") for line in lines) for lines in (uidl(expected), uidl(answers))]
        first: set[bytes] = set()
        for number, unique_id in listed[0].items():
            if unique_id in first or unique_id == differences.NO_HEADERS_ID:
                self.ids[number] = listed[1].get(number, b"")
                self.tally.differences[differences.TWINS if unique_id in first else differences.NO_HEADER] += 1
            else:
                self.ids[number] = unique_id
            first.add(unique_id)
        if len(set(self.ids.values())) != len(self.ids):
            yield f"unique-ids that are not unique: {self.ids}"
        yield from (f"{each!r} is no unique-id" for each in self.ids.values() if not UNIQUE_ID.fullmatch(each))

    def with_ids(self, reply: Reply) -> Reply:
        """A UIDL reply of popa3d with the ids that are expected from popad."""
        if reply.verb != b"UIDL" or not reply.positive:
            return reply
        if reply.body is None:
            number = reply.text.split(b" ")[0]
            return Reply(reply.command, True, number + b" " + self.ids[number])
        numbers = [line.split(b" ")[0] for line in reply.body.splitlines()]
        lines = (b"%b %b\r\n" % (number, self.ids[number]) for number in numbers)
        return Reply(reply.command, True, b"", b"".join(lines))


def as_parsed(run: tuple[bytes, Session]) -> tuple[bytes, bytes]:
    return run[0], run[1].received


def merge(replies: list[Reply], ids: list[Reply]) -> list[Reply]:
    """`replies`, but those to UIDL from `ids`."""
    assert len(replies) == len(ids)
    return [other if reply.verb == b"UIDL" else reply for reply, other in zip(replies, ids, strict=True)]


def uidl(replies: list[Reply]) -> list[bytes]:
    return next((reply.body.splitlines() for reply in replies if reply.verb == b"UIDL" and reply.body), [])


def shown(content: tuple[bytes | None, ...]) -> str:
    return " ".join(f"{part!r:.120}" for part in content if part is not None)


@pytest.fixture(scope="module")
def both() -> Iterator[Peers]:
    try:
        with peers() as running:
            yield running
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_sessions(both: Peers, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = all_mailboxes()
    names = list(scripts.SCRIPTS)
    assert len(set(dict(edges.generate(GENERATED, SEED)).values())) >= 500
    assert len(names) >= 40
    began = time.monotonic()

    def compare(numbered: tuple[int, str]) -> Tally:
        number, name = numbered
        turn = [names[(number * SCRIPTS_EACH + step) % len(names)] for step in range(SCRIPTS_EACH)]
        return Comparison(both, name, boxes[name]).run(names if name in ALL_SCRIPTS_ON else turn)

    total = Tally()
    with ThreadPoolExecutor(len(both.workers)) as pool:
        for tally in pool.map(compare, enumerate(boxes)):
            total.add(tally)
    with capsys.disabled():
        print(f"\n\npopad against popa3d, {time.monotonic() - began:.0f} s")
        rows = [("mailboxes", len(boxes)), ("of them refused", total.refused), ("scripts", len(names) + 1)]
        rows += [("of popad that found an index", total.remembered)]
        rows += [("sessions", both.sessions), ("replies compared", total.replies), ("octets compared", total.octets)]
        rows += [(f"differs: {name}", total.differences[name]) for name in differences.NAMES]
        for name, figure in rows:
            print(f"  {name:45}{figure:>12,}")
    count = f"{len(total.problems)} differences outside of the table"
    assert not total.problems, "\n".join([count, *total.problems[:40]])
    assert total.remembered > (len(boxes) - total.refused) // 2, "an index that nobody uses"
    assert [name for name in differences.NAMES if not total.differences[name]] == [], "differences that do not occur"


THREE = b"".join(b"From a\nDate: %d\nSubject: %d\n\nbody %d\n\n" % (each, each, each) for each in (1, 2, 3))
ADDED = b"From b\nDate: 9\nSubject: new\n\nnew\n\n"
READ_ON = scripts.lines("STAT", "LIST 1", "RETR 1", "TOP 2 0", "DELE 2", "NOOP", "QUIT")
UPDATE = scripts.lines("DELE 1", "DELE 3", "STAT", "QUIT")


@dataclass(frozen=True)
class Change:
    """Another program's hand in the mailbox between two commands.

    popa3d drops the connection when it notices, popad refuses. `refused_at`: the command at which popad notices, and
    popa3d does not.
    """

    how: str
    octets: bytes
    then: bytes
    refused_at: bytes = b""


CHANGES = {
    "appended": Change("append", ADDED, READ_ON),
    "appended, UIDL": Change("append", ADDED, scripts.lines("UIDL", "QUIT")),
    "appended, removal": Change("append", ADDED, UPDATE),
    "appended without a From line": Change("append", b"more\n\n", UPDATE),
    "appended, nothing deleted": Change("append", ADDED, scripts.lines("STAT", "QUIT")),
    "one octet shorter": Change("rewrite", THREE[:-1], READ_ON),
    "one octet shorter, removal": Change("rewrite", THREE[:-1], UPDATE),
    "emptied, removal": Change("rewrite", b"", UPDATE),
    "one message less": Change("rewrite", THREE[: len(THREE) // 3 * 2], READ_ON),
    "first message replaced by one more": Change("rewrite", THREE[len(THREE) // 3 :] + ADDED, UPDATE),
    "a hashed header changed": Change("rewrite", THREE.replace(b"Date: 2", b"Date: 7"), READ_ON),
    "a hashed header changed, removal": Change("rewrite", THREE.replace(b"Date: 2", b"Date: 7"), UPDATE),
    "shorter, nothing deleted": Change("rewrite", THREE[:-1], scripts.lines("STAT", "QUIT")),
    # popa3d compares sizes and unique-ids alone, and in the file that it has opened, not the one at the path now.
    "a body changed": Change("rewrite", THREE.replace(b"body 2", b"BODY 2"), READ_ON, refused_at=b"RETR 1"),
    "a body changed, removal": Change("rewrite", THREE.replace(b"body 2", b"BODY 2"), UPDATE, refused_at=b"QUIT"),
    "replaced by rename": Change("replace", ADDED, READ_ON, refused_at=b"RETR 1"),
    "replaced by rename, removal": Change("replace", ADDED, UPDATE, refused_at=b"QUIT"),
    "replaced by a copy, removal": Change("replace", THREE, UPDATE, refused_at=b"QUIT"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_program_changes_the_mailbox(both: Peers, name: str) -> None:
    change = CHANGES[name]
    before = scripts.LOGIN + scripts.lines("STAT")
    steps = (before, (change.how, before.count(b"\n") + 1, change.octets), change.then)
    sent = before + change.then
    theirs, ours, remembered = (both.run(server, THREE, *steps) for server in ("popa3d", "popad", "popad-indexed"))
    assert (remembered.received, remembered.mailbox) == (ours.received, ours.mailbox)
    assert REMEMBERED in remembered.stderr
    expected, answers = parse(sent, theirs.received), parse(sent, ours.received)
    mailbox = theirs.mailbox
    if change.refused_at:
        commands = [reply.command for reply in expected]
        assert change.refused_at in commands, "popa3d ends the session, too: no difference"
        expected = expected[: commands.index(change.refused_at)]
        mailbox = change.octets
    both_gave, popad_alone = answers[: len(expected)], answers[len(expected) :]
    assert [reply.content for reply in both_gave] == [reply.content for reply in expected]
    if popad_alone:
        assert popad_alone[0].text.startswith(b"[SYS/TEMP] ")
        assert not any(reply.body for reply in popad_alone)
    assert answers[-1].command == b"QUIT"
    assert ours.mailbox == mailbox
    assert b"Traceback" not in ours.stderr


SAMPLE = ("two messages", "five identical messages", "CRLF", "many lines", "two From lines", "empty")


@pytest.mark.parametrize("name", SAMPLE)
def test_executed_as_inetd_does(both: Peers, name: str) -> None:
    """The forked sessions of the comparison are the real thing: the same octets, the same mailbox."""
    mailbox = all_mailboxes()[name]
    names = ("QUIT after DELE of the first", "unknown user", "CAPA")
    for script in (scripts.READ, *(scripts.SCRIPTS[each](2) for each in names)):
        forked, executed = (both.run(server, mailbox, script) for server in ("popad", "popad-exec"))
        assert executed.received == forked.received
        assert executed.mailbox == forked.mailbox
        assert executed.received.startswith(b"+OK")
