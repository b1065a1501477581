"""Whatever a client sends and however it is cut, each complete line of a session has exactly one answer, the one that a
plain model of RFC 1939 gives; multi-line answers end with the dot; and no message goes without a complete QUIT, or if
another program has changed the mailbox.

Plays the tables over a real mbox file in memory, as session.py does, with another program that appends and rewrites.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from popad.errors import MaildropUnavailable, PeerGone
from popad.maildrop.maildrop import Maildrop
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.private import SharedDirectory
from popad.protocol import authorization, replies, transaction
from popad.protocol.dialogue import converse
from popad.protocol.lines import Lines
from popad.session import monitor
from tests.fuzz.cutting import Octets
from tests.fuzz.lines import expected as lines_of
from tests.fuzz.message import on_the_wire, top_of
from tests.support import clock
from tests.support.mboxes import Message, messages

PLACE = Path(tempfile.mkdtemp(prefix="popad-fuzz-"))
MAILBOX = PLACE / "alice"
NEW = b"From d\nDate: 4\n\nbody 4\n\n"
MAILBOXES = (
    b"",
    b"From a\nDate: 1\nSubject: one\n\nbody 1\n\nFrom b\nDate: 2\n\n.dot\n..\n\nFrom c\nDate: 3\r\n\r\n\r\nlast",
    b"From a\nDate: 1\n\n\nFrom a\nDate: 1\n\n\nFrom b\nSubject: header only\n\n",
)
# What a fuzzer finds slowly, an octet each.
COMMANDS = (b"STAT", b"LIST", b"UIDL", b"RSET", b"NOOP", b"LAST", b"CAPA", b"QUIT", b"USER alice", b"PASS secret")
PARTS = (b"LIST ", b"UIDL ", b"RETR ", b"DELE ", b"TOP ", b"USER ", b"PASS ", b"x" * 250, b"4294967297")
WORDS = {
    **{0x80 + number: command + b"\r\n" for number, command in enumerate(COMMANDS)},
    **dict(enumerate((*PARTS, b"1\r\n", b"2\r\n", b"3 1\r\n"), 0x90)),
}
APPEND, REWRITE = 0xFE, 0xFF  # what another program does

atexit.register(shutil.rmtree, PLACE, ignore_errors=True)
STATE = SharedDirectory(str(PLACE))
MAX_ARGUMENT = 40


REFUSED = b"-ERR [SYS/TEMP] "  # another program has changed the mailbox


class Model:
    """A session as RFC 1939 tells it, with popa3d's LAST."""

    def __init__(self, mails: list[Message] | None) -> None:
        """`mails` is None where the file is no mbox."""
        self.served = mails is not None
        self.mails = mails or []
        self.sizes = [len(mail.wire) for mail in self.mails]
        self.marked: set[int] = set()
        self.last = 0
        self.name = b""
        self.commands = self.errors = 0  # before the login
        self.known = self.over = self.removes = False

    def left(self) -> list[int]:
        return [number for number in range(1, len(self.mails) + 1) if number not in self.marked]

    def answer(self, line: bytes | str) -> tuple[bytes, list[bytes] | None]:
        """How the first line of the answer begins and, for a multi-line answer, the others without the dot.

        No others: a listing of which only the shape is known. None: no multi-line answer.
        """
        self.before = set(self.marked), self.last
        said: tuple[bytes, list[bytes] | None] = b"-ERR", None
        if not isinstance(line, str):
            verb, _, rest = line.partition(b" ")
            words = line.removesuffix(b" ").split(b" ")[1:]
            if self.known:
                return self.user(verb.upper(), words)
            said = self.unauthenticated(verb.upper(), rest, words)
        if not self.known and said[0] == b"-ERR":
            self.errors += 1
            is_header = isinstance(line, bytes) and line.partition(b" ")[0].upper() == authorization.PROXY
            self.over = self.errors == authorization.MAX_ERRORS or is_header
        return said

    def refuse(self) -> None:
        """Take back what answer() has noted of a command that was refused."""
        self.marked, self.last, self.removes = *self.before, False

    def unauthenticated(self, verb: bytes, rest: bytes, words: list[bytes]) -> tuple[bytes, list[bytes] | None]:
        name = rest.removesuffix(b" ")
        if verb == b"USER" and 0 < len(name) <= MAX_ARGUMENT and not name.startswith(b" "):
            self.commands += 1
            if self.commands > authorization.MAX_COMMANDS:
                return b"-ERR", None
            self.name = name
        elif verb == b"PASS" and self.name and rest:
            passed = (self.name, rest) == (b"alice", b"secret")
            self.known = passed and self.served
            self.over = not self.known
            return (b"+OK" if self.known else b"-ERR [SYS/PERM]" if passed else b"-ERR [AUTH]"), None
        elif verb == b"CAPA" and not words:
            self.commands += 1
            return (b"+OK", []) if self.commands <= authorization.MAX_COMMANDS else (b"-ERR", None)
        elif verb == b"QUIT" and not words:
            self.over = True
        else:
            return b"-ERR", None
        return b"+OK", None

    def user(self, verb: bytes, words: list[bytes]) -> tuple[bytes, list[bytes] | None]:
        numbers = [int(word) for word in words if word.isdigit() and len(word) <= 40]
        of_messages = numbers[:1] if verb == b"TOP" else numbers
        plain = len(numbers) == len(words) and all(number < 1 << 31 for number in of_messages)
        count = len(numbers) if plain else -1
        there = count > 0 and numbers[0] in self.left()
        total = sum(self.sizes[number - 1] for number in self.left())
        if count == 0 and verb in (b"STAT", b"LIST", b"UIDL", b"LAST", b"RSET", b"NOOP", b"CAPA", b"QUIT"):
            if verb == b"STAT":
                return b"+OK %d %d" % (len(self.left()), total), None
            if verb == b"LIST":
                return b"+OK", [b"%d %d\r\n" % (number, self.sizes[number - 1]) for number in self.left()]
            if verb == b"LAST":
                return b"+OK %d" % self.last, None
            if verb == b"RSET":
                self.marked, self.last = set(), 0
            if verb == b"QUIT":
                self.over = self.removes = True
            return b"+OK", [] if verb in (b"UIDL", b"CAPA") else None
        if there and count == 1 and verb in (b"LIST", b"UIDL", b"RETR", b"DELE"):
            number = numbers[0]
            if verb == b"LIST":
                return b"+OK %d %d" % (number, self.sizes[number - 1]), None
            if verb == b"UIDL":
                return b"+OK %d" % number, None
            self.last = max(self.last, number)
            if verb == b"DELE":
                self.marked.add(number)
                return b"+OK", None
            return b"+OK %d octets" % self.sizes[number - 1], [on_the_wire(self.mails[number - 1].data)]
        if there and count == 2 and verb == b"TOP":
            return b"+OK", [on_the_wire(top_of(self.mails[numbers[0] - 1].data, numbers[1]))]
        return b"-ERR", None


class World:
    """A client that sends what it was given and then is gone, and another program at the mailbox meanwhile."""

    def __init__(self, octets: Octets) -> None:
        self.content = MAILBOXES[octets.number() % len(MAILBOXES)]  # what the file would be without the session
        self.opened: bytes | None = None  # what it was when the session opened it
        self.changed = False  # not only appended to, since then
        self.sizes = octets.numbers() or [1 << 20]
        self.steps = iter(octets.rest())
        self.said = self.heard = b""
        MAILBOX.write_bytes(self.content)

    def read(self) -> bytes:
        """The next piece, after what another program does before it."""
        piece = bytearray()
        size = self.sizes[len(self.said) % len(self.sizes)]
        for octet in self.steps:
            if octet in (APPEND, REWRITE):
                self.act(octet)
            piece += WORDS.get(octet, bytes([octet]))
            if len(piece) >= size:
                break
        if not piece:
            raise PeerGone
        self.said += piece
        return bytes(piece)

    def act(self, what: int) -> None:
        if what == APPEND:
            self.content += NEW
        elif self.content:  # another octet in the first From line: the size stays
            self.content = self.content[:5] + bytes([self.content[5] ^ 1]) + self.content[6:]
            self.changed = self.changed or bool(self.opened)
        with MAILBOX.open("ab" if what == APPEND else "r+b") as file:
            file.write(NEW if what == APPEND else self.content[:6])

    def write(self, data: bytes | bytearray, /) -> None:
        self.heard += data


def serve(world: World) -> None:
    """What session.py does, without processes."""
    login, lines = authorization.Authorization(), Lines()
    try:
        converse(world, lines, authorization.TABLE, login, MAX_ARGUMENT)
        if login.login is None:
            return
        if login.login != (b"USER", b"alice", b"secret"):
            world.write(monitor.WRONG)
            return
        world.opened = world.content
        store = Mbox(str(MAILBOX), STATE.files_of(str(MAILBOX)), 1, 1000, 0)
    except PeerGone:
        return
    except MaildropUnavailable as refused:
        world.write(replies.err("the mailbox is not available", refused.code))
        return
    try:
        world.write(replies.ok("welcome"))
        converse(world, Lines(lines.rest()), transaction.TABLE, transaction.Transaction(Maildrop(store)), MAX_ARGUMENT)
    except PeerGone:
        pass
    finally:
        os.close(store.fd)


def needs_the_mailbox(line: bytes | str, status: bytes, marked: bool) -> bool:
    """Whether a command that is answered well in a mailbox that nobody changes may be refused in another one."""
    verb = line.split(b" ")[0].upper() if isinstance(line, bytes) else b""
    return status.startswith(b"+OK") and (verb in (b"RETR", b"TOP", b"UIDL", b"DELE") or (verb == b"QUIT" and marked))


def check_answers(model: Model, world: World) -> None:
    """Each line that was sent has its answer and nothing else was heard. When the mailbox has changed, what needs it
    may be refused (a session looks at it only then), and from the first such answer on all that needs it is.

    Never a part of an answer: none here is so long that it is written before it is complete.
    """
    refused = False
    heard, place = world.heard, 0
    for line in lines_of(world.said):
        if model.over:
            break
        end = heard.find(b"\r\n", place) + 2
        first = heard[place:end]
        marked = bool(model.marked)
        status, body = model.answer(line)
        if needs_the_mailbox(line, status, marked) and model.known and (refused or first.startswith(REFUSED)):
            assert world.changed, (line, first)
            assert first.startswith(REFUSED), (line, first)
            model.refuse()
            refused, place = True, end
            continue
        assert first[: len(status) + 1] in (status + b" ", status + b"\r"), (line, first, status)
        place = end
        if body is None:
            continue
        if body:
            sent = b"".join(body) + b".\r\n"
            assert sent.startswith(heard[place : place + len(sent)]), (line, heard[place:], sent)
            end = place + len(sent)
        else:
            end = heard.find(b"\r\n.\r\n", place - 2) + 5
        assert place < end <= len(heard), (line, heard[place:])
        place = end
    assert place == len(heard), heard[place:]


def try_one(data: bytes) -> None:
    world = World(Octets(data))
    with clock.not_waited_for():  # whoever writes to the mailbox here is this process
        serve(world)
    model = Model(messages(world.opened or b""))
    check_answers(model, world)
    opened, after = world.opened or b"", MAILBOX.read_bytes()
    froms = [mail.place for mail in model.mails] + [len(opened)]
    kept = b"".join(opened[froms[number - 1] : froms[number]] for number in model.left())
    allowed = [world.content]
    if model.removes and world.content.startswith(opened):
        removed = kept + world.content[len(opened) :]
        allowed = [removed, world.content] if world.changed else [removed]
    assert after in allowed, (after, allowed)
