"""What each server makes of a Maildir, where it differs from the plain rule: each regular file in new/ and cur/ without
a dot in front is a message, sent with CRLF at the end of each line and of the whole, and its size is what is sent.

A row says which messages it applies to and what becomes of them, so that it is checked against the server itself.
Whole Maildirs that a server does not cope with are in WHOLE, with the reason.
"""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

POPAD, DOVECOT, COURIER = "popad", "Dovecot", "Courier"
Answer = tuple[int, bytes]  # of LIST and RETR


@dataclass(frozen=True)
class Message:
    """A name in new/ or cur/ without a dot in front, and what it leads to. `octets`: None where that is nothing."""

    part: str
    name: str
    mode: int
    octets: bytes | None

    @property
    def base(self) -> str:
        return self.name.partition(":")[0]

    @property
    def info(self) -> str:
        return self.name.partition(":")[2]

    @property
    def content(self) -> bytes:
        return self.octets or b""

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)

    @property
    def is_unreadable(self) -> bool:
        return not stat.S_IMODE(self.mode)

    @property
    def is_unfinished(self) -> bool:
        return not self.content.endswith(b"\n")

    def says(self, which: str) -> str | None:
        """A size that its name has, as text."""
        found = re.search(f",{which}=([^,:]*)", self.name)
        return found[1] if found else None


def messages(place: Path) -> list[Message]:
    """Of a Maildir, with links and without directories."""
    found = []
    for part in ("new", "cur"):
        for path in sorted((place / part).iterdir()) if (place / part).is_dir() else ():
            mode = path.lstat().st_mode
            if not path.name.startswith(".") and (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
                found.append(Message(part, path.name, mode, path.read_bytes() if path.is_file() else None))
    return found


def plain(message: Message) -> Answer:
    sent = message.content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    sent += b"" if sent.endswith(b"\r\n") else b"\r\n"
    return len(sent), sent


@dataclass(frozen=True)
class Difference:
    """What these servers do with messages of some kind. `becomes` None: nothing of the Maildir is served."""

    servers: tuple[str, ...]
    name: str
    applies: Callable[[Message], bool]
    becomes: Callable[[Message, Answer], list[Answer]] | None


def not_served(_: Message, __: Answer) -> list[Answer]:
    return []


def says_size(message: Message) -> bool:
    return bool(re.search(r",W=\d+(?=[,:]|$)", message.name))


def said_size(message: Message, answer: Answer) -> list[Answer]:
    return [(int(message.says("W") or 0), answer[1])]


def as_lines(message: Message, _: Answer) -> list[Answer]:
    sent = message.content.replace(b"\n", b"\r\n")
    # A CR that is the last octet is not counted.
    return [(len(sent) - sent.endswith(b"\r"), sent + (b"\r\n" if message.is_unfinished else b""))]


def without_line_end(_: Message, answer: Answer) -> list[Answer]:
    return [(answer[0] - 2, answer[1])]


def has_other_size(message: Message) -> bool:
    said = message.says("S")
    return bool(said and said.isdigit() and int(said) != len(message.content))


DIFFERENCES = (
    Difference(
        (POPAD,), "a message that a mail reader has trashed (flag T) is none", lambda m: "T" in m.info, not_served
    ),
    Difference(
        (POPAD,), "a symbolic link is no message: what it leads to may be anybody's", lambda m: m.is_link, not_served
    ),
    Difference(
        (POPAD,),
        "of a message that cannot be read the others are served, and it is an error of its own",
        lambda m: m.is_unreadable,
        lambda _, __: [(0, b"")],
    ),
    Difference((POPAD,), "of an empty file nothing is sent", lambda m: not m.content, lambda _, __: [(0, b"")]),
    Difference((POPAD, DOVECOT), "a size on the wire in the name counts (W=)", says_size, said_size),
    Difference(
        (DOVECOT, COURIER),
        "the line end that is added to a last line without one is not counted",
        lambda m: m.octets is not None and m.is_unfinished,
        without_line_end,
    ),
    Difference((COURIER,), "each LF is sent as CRLF, behind a CR too", lambda m: b"\r" in m.content, as_lines),
    Difference((DOVECOT,), "a size that the name has and that is not the file's (S=)", has_other_size, None),
    Difference(
        (DOVECOT,),
        "a name without a base, or with a line end",
        lambda m: bool(re.search(r"^:|[\r\n]", m.name)),
        not_served,
    ),
    Difference((DOVECOT, COURIER), "a message that cannot be read", lambda m: m.is_unreadable, None),
    Difference((DOVECOT, COURIER), "a link to nothing", lambda m: m.octets is None, None),
)
# By server and name of a layout.
WHOLE = {
    (POPAD, "cur is a link"): "new and cur are directories of the Maildir itself: a link may lead to anybody's mail",
    (POPAD, "the Maildir is a link"): "the Maildir itself may be no link, which may lead to anybody's mail",
    (POPAD, "no new"): "nothing is made in a Maildir, and without new it is none",
    (DOVECOT, "as long as a name can be"): "a name in new that has no room for its flags: Dovecot has to move it",
    (COURIER, "as long as a name can be"): "a name in new that has no room for its flags: Courier has to move it",
    (DOVECOT, "one base in new and cur"): "Dovecot serves one of them, until it has renamed the other",
    (DOVECOT, "one base twice in cur"): "Dovecot serves one of them, until it has renamed the others",
    (COURIER, "one base in new and cur"): "Courier serves the content of one of them twice",
    (COURIER, "one base twice in cur"): "Courier serves the content of one of them twice",
    (COURIER, "directories within"): "Courier lists them, and ends the session at a RETR",
    (COURIER, "no tmp"): "Courier finds no more than what it has moved from new",
    (DOVECOT, "a FIFO and a socket"): "Dovecot opens it, and waits for who writes",
    (COURIER, "a FIFO and a socket"): "Courier opens it, and waits for who writes",
}
# By server and name of a layout: where the other server itself does not keep an id.
NOT_KEPT = {
    (COURIER, "line ends"): "its list has a line for each message, and a name with a line end is not found again"
}


def expected(server: str, found: Iterable[Message], met: Counter[tuple[str, str]]) -> Counter[Answer] | None:
    """What this server answers of these messages; None where it serves nothing. `met` counts the rows that apply."""
    answers: Counter[Answer] = Counter()
    for message in found:
        here = [plain(message)]
        for row in DIFFERENCES:
            if server not in row.servers or not row.applies(message):
                continue
            met[server, row.name] += 1
            if row.becomes is None:
                return None
            here = [after for answer in here for after in row.becomes(message, answer)]
        answers.update(here)
    return answers
