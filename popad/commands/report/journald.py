"""Entries from the journal."""

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from popad.commands.report.entry import Selection

from popad import journal as popads
from popad.commands.report.entry import Entry

IDENTIFIER = "popad"
PREFIX = "POPAD_"
AT_ONCE = 50_000  # entries that are read before files are mapped anew: about 100 MB of them
SENT = "_SOURCE_REALTIME_TIMESTAMP"  # of the kernel, where there is one
UNIT_FIELD = "_SYSTEMD_UNIT"
FIELD = 65_536  # octets of a field that are looked at
PLACES = ("/var/log/journal", "/run/log/journal")
MACHINE_ID = "/etc/machine-id"
# Units in which sessions run, as the user after the login: the package's, inetd's, and what is named like one of them.
# No user of the host comes into a system's unit by himself.
UNIT = re.compile(r"[^@]*(popad|inetd)[^@]*(@.*)?\.service")
# What a session says as the user. All else is of root.
OF_USERS = {
    event.name
    for event in (
        *(popads.PEER_GONE, popads.PEER_SILENT, popads.PROTOCOL, popads.SESSION_CLOSED, popads.SESSION_INTERRUPTED),
        *(popads.MAILDROP_LOADED, popads.MAILDROP_REFUSED, popads.MAILDROP_CHANGED, popads.MAILDROP_UNREADABLE),
        *(popads.MAILDROP_UPDATED, popads.MAILDROP_READ_ONLY, popads.MESSAGE_GONE, popads.SIZE_WRONG),
        *(popads.UPDATE_FAILED, popads.UPDATE_RECOVERED, popads.UPDATE_ORPHANED, popads.IDS_NOT_KEPT),
        popads.ENTRIES_LOST,
    )
}


class Unreadable(Exception):
    """The journal cannot be read; the text says why, and what to do."""


class Journal:
    """The entries of popad in the journal, or in the files of a directory, behind a cursor where one is given.

    `cursor` is that of the last entry that was read. Anybody on this host may write entries under popad's name: only
    those of root and of popad's units are taken (`forged` counts the others), and nothing in one is believed.
    """

    def __init__(self, selection: "Selection", directory: str | None = None, cursor: str = "") -> None:
        self.selection = selection
        self.directory = directory
        self.cursor = cursor
        self.forged = 0

    def __iter__(self) -> "Iterator[Entry]":
        """Raises Unreadable."""
        if self.directory is None and (why := why_not()):
            raise Unreadable(why)
        try:
            while (yield from self.some()):
                pass
        except OSError as error:
            raise Unreadable(f"the journal: {error}") from None

    def some(self) -> "Generator[Entry, None, bool]":
        """The next entries: all, or so many that the parts of files that are mapped then take little memory.

        Returns whether there may be more. Raises OSError.
        """
        from systemd import journal

        # Times as numbers; and what is not looked at is not converted.
        raw = dict.fromkeys(journal.DEFAULT_CONVERTERS, lambda value: value)
        with journal.Reader(path=self.directory, converters=raw) as reader:
            reader.data_threshold = FIELD
            reader.add_match(SYSLOG_IDENTIFIER=IDENTIFIER)
            if self.selection.user is not None:
                reader.add_match(POPAD_USER=self.selection.user)
            if self.cursor:
                reader.seek_cursor(self.cursor)  # or where it was, if it is gone
            elif self.selection.since:
                reader.seek_realtime(self.selection.since)
            behind = self.cursor
            for number, found in enumerate(reader, 1):
                if found["__CURSOR"] == behind:
                    continue
                if self.selection.until and found["__REALTIME_TIMESTAMP"] > self.selection.until:
                    return False
                self.cursor = found["__CURSOR"]
                fields = {name[len(PREFIX) :].lower(): text(value) for name, value in found.items() if is_ours(name)}
                if "event" in fields and not is_of_popad(found, fields["event"]):
                    self.forged += 1
                elif "event" in fields:
                    yield Entry(sent(found), fields)
                if number >= AT_ONCE:
                    return True
        return False


def sent(found: "dict[str, object]") -> int:
    """When popad sent it, which is not when journald took it: one that is busy takes many within microseconds."""
    said = text(found.get(SENT, ""))
    return int(said if re.fullmatch("[0-9]{1,18}", said) else str(found["__REALTIME_TIMESTAMP"]))


def is_of_popad(found: "dict[str, object]", event: str) -> bool:
    """Whether popad can have sent it, by the fields that journald itself gives an entry (systemd.journal-fields(7)).

    The unit is not known where the process had ended when journald looked, as many sessions have.
    """
    if text(found.get("_UID", "0")) == "0":
        return True
    unit = text(found.get(UNIT_FIELD, ""))
    return bool(UNIT.fullmatch(unit)) if unit else event in OF_USERS


def is_ours(name: str) -> bool:
    """Whether popad has given the field."""
    return name.startswith(PREFIX)


def text(value: object) -> str:
    """A field as text. Where an entry has it several times, the first counts."""
    if isinstance(value, list):
        value = value[0]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return str(value)[:FIELD]


def why_not() -> str:
    """Why this user would see no entry, or a few only; "" where all can be read."""
    if not any(map(os.path.isdir, PLACES)):
        return "there is no journal on this host; --logfmt reads lines of what popad has written to standard error"
    if os.geteuid() == 0 or any(os.access(path, os.R_OK) for path in system_files()):
        return ""
    return "only root and members of the group systemd-journal may read the system's journal"


def system_files() -> "Iterator[str]":
    """The files that hold what services write now."""
    try:
        with open(MACHINE_ID, encoding="ascii") as file:
            machine = file.read().strip()
    except (OSError, ValueError):
        return
    for place in PLACES:
        yield os.path.join(place, machine, "system.journal")
