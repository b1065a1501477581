"""What an mbox holds, read line by line and as plainly as can be: what popad is compared with."""

import re


class Message:
    """A message: where its From line begins, where its data begins, and the data."""

    def __init__(self, place: int, start: int, data: bytes) -> None:
        self.place = place
        self.start = start
        self.data = data

    @property
    def wire(self) -> bytes:
        """As it is sent, before dots are stuffed: every line with CRLF."""
        if not self.data:
            return b""
        return b"".join(line.removesuffix(b"\n").removesuffix(b"\r") + b"\r\n" for line in whole_lines(self.data))


def whole_lines(text: bytes) -> list[bytes]:
    """The lines, each with its LF; the last one gets the LF that it lacks, and a CR before that LF is none of its."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    last = lines.pop()
    # A CR that ends the file ends no line: it is sent as it stands, and CRLF behind it.
    return lines if last == b"\n" else [*lines, last[:-1] + b"\r\n"]


BLANK = b"\n", b"\r\n"
# A quoted sender counts as this word. Then the dates that programs write behind a sender.
QUOTED = re.compile(rb'(?<=From )\s*".*"')
WORD = rb"[^ ]+"
WEEKDAY, MONTH = rb"(?:mon|tue|wed|thu|fri|sat|sun),?", rb"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
DAY, TIME, YEAR = rb"\d\d?", rb"\d\d?:\d\d?(?::\d\d?)?", rb"(?:\d\d|\d{4})"
ZONES = rb"(?: +[a-z(+-][^ ]*){0,2}"
ASCTIME = rb" +".join((MONTH, DAY, TIME)) + ZONES + rb" +" + YEAR + ZONES
RFC5322 = rb" +".join((DAY, MONTH, YEAR, TIME)) + ZONES
UUCP = rb"(?: +(?:remote +from|forwarded +by) +[^ ]+)?"
SENDER = rb"(?:%b(?: +at +%b)? +)?" % (WORD, WORD)
DATED = re.compile(rb"%b%b +(?:%b|%b)%b" % (SENDER, WEEKDAY, ASCTIME, RFC5322, UUCP), re.IGNORECASE | re.DOTALL)
UNDATED = re.compile(WORD, re.DOTALL)
HEADER_FIELD = re.compile(rb"[!-9;-~]{1,127}:(?!//)")
LONGEST = 1000


def separates(line: bytes, before: bytes, behind: bytes) -> bool:
    """The rule of popad/maildrop/separators.py, for a line, the one before it and the one behind it."""
    if not line.startswith(b"From ") or len(line) > LONGEST or not behind or behind.startswith(b"From "):
        return False
    words = QUOTED.sub(b"quoted", line)[5:].strip()
    dated, header = DATED.fullmatch(words), HEADER_FIELD.match(behind)
    if before in BLANK:
        return bool(dated or (header and UNDATED.fullmatch(words)))
    return bool(dated and (header or behind.startswith(b">From ")))


def messages(text: bytes) -> list[Message] | None:
    """CRLF is a line end as well. None where the file is refused."""
    if not text.startswith(b"From "):
        return None if text else []
    lines = split(text)
    found = [Message(0, len(lines[0]), b"")]
    place = len(lines[0])
    for before, line, behind in zip(lines, lines[1:], [*lines[2:], b""], strict=False):
        if place > len(lines[0]) and separates(line, before, behind):
            found.append(Message(place, place + len(line), b""))
        else:
            found[-1].data += line
        place += len(line)
    for message in found:
        message.data = stripped(message.data)
    return found


def split(text: bytes) -> list[bytes]:
    """`text` behind each LF."""
    lines = [line + b"\n" for line in text.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return [line for line in lines if line]


def stripped(data: bytes) -> bytes:
    """Without the blank line at the end, if that is not the one that ends the header."""
    lines = split(data)
    blank = [number for number, line in enumerate(lines) if line in (b"\n", b"\r\n")]
    if len(blank) > 1 and blank[-1] == len(lines) - 1:
        lines.pop()
    return b"".join(lines)
