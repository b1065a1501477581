"""What the process that looks at a maildrop says to the one that prints: kinds of messages, and their fields."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from popad.privsep.channel import Channel

import time

from popad.errors import ContractBroken

NUMBER, NAME, ID, LINE, FILE, TEXT = 20, 40, 100, 200, 260, 2000  # octets of a field
WORDS = 1000  # facts, counts, notes and what is wrong: a maildrop has some 20
EACH_STEP = 0.5  # seconds between two words about how far it is
# Rows of a list, by the list's name: what each column is called. Those of NUMBERS are numbers.
LISTS = {
    "locks": ("kind", "pid", "bars", "says"),
    "messages": ("number", "octets", "id", "offset", "line"),
    "text_lines": ("offset", "why", "line"),
    "twins": ("number", "id", "digest", "first"),
    "renamed": ("number", "id", "name"),
    "others": ("name", "why"),
}
NUMBERS = {"number", "octets", "offset", "pid", "first", "bars"}
SHAPES = {
    b"fact": (NAME, TEXT),
    b"count": (NAME, NUMBER),
    b"wrong": (TEXT,),
    b"note": (TEXT,),
    b"locks": (NAME, NUMBER, NUMBER, TEXT),
    b"messages": (NUMBER, NUMBER, ID, NUMBER, LINE),
    b"text_lines": (NUMBER, LINE, LINE),
    b"twins": (NUMBER, ID, ID, NUMBER),
    b"renamed": (NUMBER, ID, FILE),
    b"others": (FILE, LINE),
    b"listed": (NAME, NUMBER),  # how many rows a list has, those that were not said with them
    b"step": (NUMBER, NUMBER),
    b"refused": (NAME, TEXT),
    b"served": (),
}


class Telling:
    """The end of the process that looks. `most`: rows of a list that are said; None for all."""

    def __init__(self, channel: "Channel", most: int | None) -> None:
        self.channel = channel
        self.most = most
        self.said = time.monotonic()

    def fact(self, name: str, text: str) -> None:
        self.say(b"fact", name, text)

    def count(self, name: str, number: int) -> None:
        self.say(b"count", name, number)

    def wrong(self, text: str) -> None:
        self.say(b"wrong", text)

    def note(self, text: str) -> None:
        self.say(b"note", text)

    def rows(self, name: str, rows: "Iterable[tuple[str | int | bytes, ...]]") -> None:
        """A list, as far as it is wanted, and how long it is."""
        count = 0
        try:
            for count, row in enumerate(rows, 1):
                if self.most is None or count <= self.most:
                    self.say(name.encode(), *row)
        finally:
            self.say(b"listed", name, count)  # also where the rest could not be read

    def step(self, done: int, of: int) -> None:
        """How far it is, from time to time."""
        if time.monotonic() - self.said > EACH_STEP:
            self.said = time.monotonic()
            self.say(b"step", done, of)

    def say(self, kind: bytes, *fields: "str | int | bytes") -> None:
        octets = [encoded(field)[:most] for field, most in zip(fields, SHAPES[kind], strict=True)]
        self.channel.send((kind, *octets))


class Hearing:
    """What the process that prints keeps of what it has heard, as long as that is in order: each list once and of one
    piece, its rows no more than are wanted, and of all else no more than a maildrop has.
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.list = ""  # that has begun
        self.rows = 0
        self.lists: set[str] = set()  # that have begun, or ended
        self.words = 0

    def word(self) -> None:
        """Something that is no row. Raises ContractBroken."""
        self.words += 1
        if self.words > WORDS:
            raise ContractBroken("more than there is to say")

    def row(self, name: str) -> None:
        """Raises ContractBroken."""
        if name != self.list:
            self.begin(name)
        self.rows += 1
        if self.most is not None and self.rows > self.most:
            raise ContractBroken("more rows than are wanted")

    def listed(self, name: str) -> None:
        """The end of a list. Raises ContractBroken."""
        if name != self.list:
            self.begin(name)
        self.list = ""

    def begin(self, name: str) -> None:
        """Raises ContractBroken."""
        if self.list or name in self.lists or name not in LISTS:
            raise ContractBroken("a list that it may not begin")
        self.list, self.rows = name, 0
        self.lists.add(name)

    def end(self) -> None:
        """The verdict. Raises ContractBroken."""
        if self.list:
            raise ContractBroken("a list without an end")


def encoded(field: "str | int | bytes") -> bytes:
    """A field as octets. What a mailbox has is not UTF-8, or anything."""
    if isinstance(field, int):
        return b"%d" % field
    return field if isinstance(field, bytes) else field.encode("utf-8", "surrogateescape")
