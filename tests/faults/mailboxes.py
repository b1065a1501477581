"""The mailboxes that updates are cut short on, and which of their messages go."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

SIZES = (3, 4, 7, 25, 120, 2000)
PATTERNS = ("first", "middle", "last", "alternate", "all", "all but one")
BODIES = (
    b"plain text\n",
    b">From a quoted line\nFrom a line that is not behind a blank one\n",
    b"\0NUL at the start, \0 within\0\n",
    b"line ends\r\nof two\r\nkinds\n",
    b"",
    b"..\n.\n.dots\n",
    b"\xff\xfe eight bits \x80\n",
    b"\n\n\nblank lines\n\n\n",
)


@dataclass(frozen=True)
class Case:
    """A mailbox, the numbers (from 0) of the messages that go, and how many windows it is at least."""

    name: str
    messages: tuple[bytes, ...]
    gone: frozenset[int]
    windows: int = 1

    @property
    def before(self) -> bytes:
        return b"".join(self.messages)

    @property
    def left(self) -> list[bytes]:
        return [message for number, message in enumerate(self.messages) if number not in self.gone]

    @property
    def going(self) -> list[bytes]:
        return [self.messages[number] for number in sorted(self.gone)]

    @property
    def after(self) -> bytes:
        return b"".join(self.left)

    @property
    def marks(self) -> bytearray:
        return bytearray(number in self.gone for number in range(len(self.messages)))


def token(name: str) -> bytes:
    """What no other message has, and each has only once."""
    return b"Message-ID: <%b@faults.invalid>\n" % name.encode()


def message(name: str, body: bytes) -> bytes:
    """A message as an MTA writes it, with the blank line behind it."""
    head = b"From faults Thu Jan  1 00:00:00 1970\nReceived: from a by b; Thu, 1 Jan 1970 00:00:00 +0000\n"
    return head + token(name) + b"Subject: a message\n\n" + body + b"\n"


def body(chance: random.Random, largest: int) -> bytes:
    """Of one kind, and any size up to a little more than `largest`."""
    kind = chance.choice(BODIES)
    text = b"".join(b"%08x line of text\n" % chance.getrandbits(32) for _ in range(chance.randint(0, largest) // 22))
    return kind + text + (kind if chance.random() < 0.3 else b"")


def mailbox(count: int, chance: random.Random, odd: bool = True) -> tuple[bytes, ...]:
    """`count` messages of many sizes. `odd`: some mailboxes with CRLF, or without LF at the end."""
    largest = chance.choice((60, 600, 4000) if count < 500 else (60, 600))
    messages = [message(f"{number}.{chance.getrandbits(40):x}", body(chance, largest)) for number in range(count)]
    style = chance.randrange(0 if odd else 2, 4)
    if style == 0:
        messages[-1] = messages[-1].rstrip(b"\n")  # no LF at the end
    elif style == 1:
        messages = [text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") for text in messages]
    elif style == 2 and count < 500:
        number = chance.randrange(count)
        messages[number] = message(f"large.{chance.getrandbits(40):x}", b"x" * 70 * 1024 + b"\n")
    return tuple(messages)


def which(pattern: str, count: int, chance: random.Random) -> frozenset[int]:
    """The messages that go."""
    everything = set(range(count))
    return frozenset(
        {
            "first": {0},
            "middle": {count // 2},
            "last": {count - 1},
            "alternate": set(range(chance.randrange(2), count, 2)),
            "all": everything,
            "all but one": everything - {chance.randrange(count)},
            "some": {number for number in everything if chance.random() < 0.3} or {0},
        }[pattern]
    )


def cases(sizes: tuple[int, ...], patterns: tuple[str, ...], seed: int, odd: bool = True) -> Iterator[Case]:
    """Each pattern on a mailbox of each size."""
    for count in sizes:
        for pattern in patterns:
            chance = random.Random(f"{seed} {count} {pattern}")
            messages = mailbox(count, chance, odd)
            gone, windows = which(pattern, count, chance), chance.choice((1, 1, 2, 3, 6))
            yield Case(f"{count} messages, {pattern}, {windows} windows", messages, gone, windows)


def large() -> Case:
    """A few large messages."""
    return Case(
        "large messages", tuple(message(f"large.{n}", (b"x" * 79 + b"\n") * 4000) for n in range(4)), frozenset({0})
    )


APPENDED = [
    message(f"appended.{number}", b"mail from another program, meanwhile\n" * (1 + 40 * number)) for number in range(4)
]
