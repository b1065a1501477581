"""hosts.allow and hosts.deny (hosts_access(5)) through libwrap, for the daemon name `popad`.

Rules are applied or popad does not start; they are never silently not there.
"""

import ctypes
import os
import syslog
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.net.connection import Connection

    Look = tuple[tuple[int, ...] | None, ...]

from popad import journal
from popad.errors import SettingWrong

TABLES = ("/etc/hosts.allow", "/etc/hosts.deny")
LIBRARY = "libwrap.so.0"
DAEMON = b"popad"
RQ_FILE, RQ_DAEMON = 1, 2  # keys of request_init(3), tcpd.h
UNKNOWN = b"unknown"  # STRING_UNKNOWN
OLD_ENOUGH = 2.0  # seconds after a change in which another one could leave the same times, on the coarsest file systems
REQUEST_OCTETS = 8192  # struct request_info has about 900, and the library alone looks inside


class Rules:
    """The rules, read anew for each connection: an edit needs no restart.

    Tables that had no rule, and have not been touched since, are not read again: libwrap would, and through ctypes that
    takes a session of the daemon half a millisecond, and has it copy some 120 pages.
    """

    def __init__(self) -> None:
        """Load libwrap. Raises SettingWrong where there are rules and no libwrap."""
        look = look_at_tables()  # before they are read
        self.without_rules = look if is_old_enough(look) and not any(map(has_rules, TABLES)) else None
        self.library: ctypes.CDLL | None = None
        self.missing = ""
        try:
            self.library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            self.missing = str(error)
            self.check_that_there_are_none()
        syslog.openlog("popad", 0, syslog.LOG_MAIL)  # the library complains of rules that it does not understand

    def check_that_there_are_none(self) -> None:
        """Without libwrap: raises SettingWrong where there are rules."""
        if tables := [table for table in TABLES if has_rules(table)]:
            raise SettingWrong("POPAD_WRAPPERS", f"{' and '.join(tables)} cannot be applied: {self.missing}")

    def refuse(self, connection: "Connection") -> bool:
        """Whether the rules refuse this client a session; a connection that they refuse is closed without a word.

        Asks the resolver only where a rule is about names, and runs what a rule tells it to (spawn, twist). Raises
        SettingWrong where there is no libwrap and rules have been written since the start.
        """
        if self.without_rules is not None and self.without_rules == look_at_tables():
            return False
        if self.library is None:
            self.check_that_there_are_none()
            return False
        if self.lets_in(self.library, connection):
            return False
        journal.send(journal.ACCESS_DENIED, rhost=connection.rhost or "unknown", rport=connection.rport)
        connection.hang_up()
        return True

    def lets_in(self, library: ctypes.CDLL, connection: "Connection") -> bool:
        """What libwrap says of a connection, or of the address that a proxy has named (whose name it does not ask)."""
        if connection.proxy:
            address = connection.rhost.encode("ascii")
            return bool(library.hosts_ctl(DAEMON, UNKNOWN, address, UNKNOWN))
        request = ctypes.create_string_buffer(REQUEST_OCTETS)
        library.request_init(request, RQ_DAEMON, DAEMON, RQ_FILE, connection.fileno(), 0)
        library.sock_host(request)
        return bool(library.hosts_access(request))


def look_at_tables() -> "Look":
    """What differs when a table has been changed; None for one that is not there, or cannot be looked at."""
    return tuple(map(look_at, TABLES))


def look_at(table: str) -> tuple[int, ...] | None:
    """Device, inode, size, mtime and ctime in ns."""
    try:
        status = os.stat(table)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_old_enough(look: "Look") -> bool:
    """Whether whoever changes a table from now on leaves other times. What is said to be of the future is not."""
    return all(table is None or max(table[3:]) < time.time_ns() - OLD_ENOUGH * 1e9 for table in look)


def has_rules(table: str) -> bool:
    """Whether a table says anything. One that cannot be read may, so it does; and to libwrap, only a line that begins
    with the mark is a comment.
    """
    try:
        with open(table, "rb") as lines:
            return any(line.strip() and not line.startswith(b"#") for line in lines)
    except FileNotFoundError:
        return False
    except OSError:
        return True
