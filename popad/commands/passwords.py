"""Passwords of users of another server: lines of NAME:PASSWORD, from a file of root's or from standard input."""

import sys

from popad.auth import credentials
from popad.privsep.channel import wipe

EVERYBODY = "*"  # who has no line of its own has this one's: a master user's password, say
LARGEST = 1 << 26  # octets


class Passwords:
    """All of them in one piece of memory, so that a child can forget them at once."""

    def __init__(self, text: bytes) -> None:
        """Raises ValueError that names the line."""
        self.text = bytearray(text)
        self.places: dict[str, tuple[int, int]] = {}
        place = 0
        for number, whole in enumerate(text.split(b"\n"), 1):
            begin, place = place, place + len(whole) + 1
            if not (line := whole.removesuffix(b"\r")):
                continue
            name, colon, _ = line.partition(b":")
            try:
                known = name.decode("utf-8")
            except UnicodeDecodeError:
                raise ValueError(f"line {number}: the name is not UTF-8") from None
            if not colon or not name:
                raise ValueError(f"line {number}: expected NAME:PASSWORD")
            if known in self.places:
                raise ValueError(f"line {number}: {known!a} stands here twice")
            self.places[known] = begin + len(name) + 1, begin + len(line)

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
        text = sys.stdin.buffer.read(LARGEST + 1)
    else:
        text = credentials.read(path)[0].encode()
    if len(text) > LARGEST:
        raise ValueError(f"more than {LARGEST} octets of passwords")
    return Passwords(text)
