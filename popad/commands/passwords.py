"""Passwords of users of another server: lines of NAME:PASSWORD, from a file of root's or from standard input."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

from popad.auth import credentials
from popad.privsep.channel import wipe

EVERYBODY = "*"  # who has no line of its own has this one's: a master user's password, say
LARGEST = 1 << 26  # octets


class Passwords:
    """All of them in one piece of memory and nowhere else, so that a child can forget them at once."""

    def __init__(self, text: bytearray) -> None:
        """Raises ValueError that names the line."""
        self.text = text
        self.places: dict[str, tuple[int, int]] = {}
        number = end = 0
        while (begin := end) < len(text):
            number += 1
            end = text.find(b"\n", begin) + 1 or len(text)
            stop = end - text.endswith(b"\n", begin, end)
            stop -= text.endswith(b"\r", begin, stop)
            if begin == stop:
                continue
            colon = text.find(b":", begin, stop)
            if colon <= begin:
                raise ValueError(f"line {number}: expected NAME:PASSWORD")
            try:
                known = text[begin:colon].decode("utf-8")
            except UnicodeDecodeError:
                raise ValueError(f"line {number}: the name is not UTF-8") from None
            if known in self.places:
                raise ValueError(f"line {number}: {known!a} stands here twice")
            self.places[known] = colon + 1, stop

    def of(self, name: str) -> bytes | None:
        """The password of a user; None where there is none."""
        if found := self.places.get(name, self.places.get(EVERYBODY)):
            return bytes(self.text[slice(*found)])
        return None

    def forget(self) -> None:
        """Overwrite all of them, in this process."""
        wipe(self.text)


def read(path: str | None) -> Passwords:
    """From the file, which nobody but its owner may read; None: from standard input. Raises FileWrong, OSError,
    ValueError.
    """
    if path is None:
        return Passwords(whole(sys.stdin.buffer))
    with credentials.opened(path) as file:
        return Passwords(whole(file))


def whole(file: "IO[bytes]") -> bytearray:
    """What it has. It is read to where it stays, as what a copy leaves in memory nobody could overwrite. ValueError."""
    text = bytearray(LARGEST + 1)
    count = file.readinto(text)  # type: ignore[attr-defined]  # all buffered files have it
    if count > LARGEST:
        raise ValueError(f"more than {LARGEST} octets of passwords")
    del text[count:]
    return text
