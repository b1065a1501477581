"""Entries from lines of logfmt: what popad writes to standard error, where there is no journal."""

import contextlib
import re
import sys
from datetime import datetime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

from popad.commands.report.entry import Entry

LINE = 65_536  # octets of a line: more than an entry of popad's has
# name=value, the value in double quotes where it has to be; or what is none of it.
FIELD = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|([^ "=\\]*))(?: |$)|(.+)', re.ASCII)
ESCAPED = re.compile(r"\\(.)")
OF_THE_LINE = ("priority", "message")  # what a line says besides the fields of its entry


class Lines:
    """The entries of a stream. Before each line may stand when it was written, as `docker logs --timestamps` has it."""

    def __init__(self, stream: "BinaryIO") -> None:
        self.stream = stream
        self.others = 0  # lines that are no entry: a traceback, another program's

    def __iter__(self) -> "Iterator[Entry]":
        """Raises OSError."""
        is_begun = False  # a line that is too long
        while line := self.stream.readline(LINE):
            is_whole = line.endswith(b"\n") or len(line) < LINE
            entry = entry_of(line) if is_whole and not is_begun else None
            if entry:
                yield entry
            elif is_whole:
                self.others += 1
            is_begun = not is_whole


@contextlib.contextmanager
def lines_of(path: str) -> "Iterator[Lines]":
    """Those of a file; "-" is standard input. Raises OSError."""
    with sys.stdin.buffer if path == "-" else open(path, "rb") as stream:
        yield Lines(stream)


def entry_of(line: bytes) -> Entry | None:
    """The entry of a line; None where it has none."""
    text = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
    when = 0
    if not text.startswith("event="):
        stamp, _, text = text.partition(" ")
        if not text.startswith("event="):
            return None
        try:
            when = max(0, int(datetime.fromisoformat(stamp).timestamp() * 1_000_000))
        except (ValueError, OverflowError, OSError):
            return None
    fields = {}
    for name, quoted, plain, rest in FIELD.findall(text):
        if rest:
            return None
        fields[name] = plain or (ESCAPED.sub(r"\1", quoted) if "\\" in quoted else quoted)
    for name in OF_THE_LINE:
        fields.pop(name, None)
    return Entry(when, fields)
