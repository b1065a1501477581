"""Entries as popad writes them, for what reads them: lines of logfmt, the journal's fields, a journal in files."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from popad import journal, sinks
from popad.journal import Event, Value
from popad.sinks import StandardError

REMOTE = "/lib/systemd/systemd-journal-remote"
# A field of each kind for an entry that has all of them.
FIELDS: dict[str, Value] = {
    "rhost": "192.0.2.7",
    "rport": 40000,
    "user": "alice",
    "mechanism": "SCRAM-SHA-256",
    "tls": "TLSv1.3 TLS_AES_256_GCM_SHA384",
    "maildrop": "mbox:/var/mail/alice",
    "messages": 3,
    "octets": 1500,
    "retrieved": 2,
    "topped": 1,
    "deleted": 1,
    "left": 2,
    "left_octets": 900,
    "sent_octets": 4321,
    "duration_usec": 250_000,
    "limit": "limit of 2 sessions",
    "dropped": 7,
    "lost": 5,
    "reason": 'it said "no" \\ and\nleft',
}
Written = tuple[int, Event, dict[str, Value]]  # when (microseconds since 1970), which, fields
START = 1_790_000_000_000_000
# One session; what else happens has another port, as it would be its end.
OF_THE_SESSION = {journal.SESSION_OPENED, journal.LOGIN_PASSED, journal.MAILDROP_LOADED, journal.SESSION_CLOSED}


def history() -> list[Written]:
    """Each event twice, in the order of the table, a quarter of a second apart."""
    return [
        (START + place * 250_000, event, FIELDS if event in OF_THE_SESSION else FIELDS | {"rport": 40001})
        for place, event in enumerate([*journal.EVENTS, *journal.EVENTS])
    ]


def expected(written: Written) -> tuple[int, dict[str, str]]:
    """What is to be read of it: when, and the fields."""
    when, event, fields = written
    return when, {"event": event.name, **{name: journal.printable(value) for name, value in fields.items()}}


def as_lines(entries: list[Written], monkeypatch: pytest.MonkeyPatch, path: Path) -> bytes:
    """What popad itself writes to standard error, behind the times that a container engine puts there."""
    lines = []
    for when, event, fields in entries:
        with path.open("w+b") as file, monkeypatch.context() as patch:
            patch.setattr(sinks.journald, "path", "/nonexistent")
            patch.setattr(sinks, "standard_error", StandardError(file.fileno()))
            journal.send(event, **fields)
            file.seek(0)
            lines.append(f"{stamp(when)} ".encode() + file.read())
    return b"".join(lines)


def stamp(when: int) -> str:
    """As `docker logs --timestamps` shows a time."""
    seconds, rest = divmod(when, 1_000_000)
    date = subprocess.run(["date", "-u", "-d", f"@{seconds}", "+%FT%T"], capture_output=True, text=True, check=True)
    return f"{date.stdout.strip()}.{rest:06d}000Z"


def as_journal(entries: list[Written], directory: Path, more: Mapping[str, str] = MappingProxyType({})) -> None:
    """Files of a journal with these entries, and these fields in each: systemd-journal-remote(8) makes them."""
    text = []
    for when, event, fields in entries:
        known = journal.entry_of(event, fields)
        known |= {"_BOOT_ID": "1" * 32, "__REALTIME_TIMESTAMP": str(when), "__MONOTONIC_TIMESTAMP": str(when - START)}
        known |= more
        text.append("".join(f"{name}={value}\n" for name, value in sorted(known.items())) + "\n")
    directory.mkdir(exist_ok=True)
    command = [REMOTE, "--seal=no", "-o", str(directory / f"{len(os.listdir(directory))}.journal"), "-"]
    subprocess.run(command, input="".join(text).encode(), capture_output=True, check=True)
