"""What the process that looks at a maildrop says to the one that prints: kinds of messages, and their fields."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from popad.privsep.channel import Channel

import time

NUMBER, NAME, ID, LINE, FILE, TEXT = 20, 40, 100, 200, 260, 2000  # octets of a field
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
        for count, row in enumerate(rows, 1):
            if self.most is None or count <= self.most:
                self.say(name.encode(), *row)
        self.say(b"listed", name, count)

    def step(self, done: int, of: int) -> None:
        """How far it is, from time to time."""
        if time.monotonic() - self.said > EACH_STEP:
            self.said = time.monotonic()
            self.say(b"step", done, of)

    def say(self, kind: bytes, *fields: "str | int | bytes") -> None:
        octets = [encoded(field)[:most] for field, most in zip(fields, SHAPES[kind], strict=True)]
        self.channel.send((kind, *octets))


def encoded(field: "str | int | bytes") -> bytes:
    """A field as octets. What a mailbox has is not UTF-8, or anything."""
    if isinstance(field, int):
        return b"%d" % field
    return field if isinstance(field, bytes) else field.encode("utf-8", "surrogateescape")
