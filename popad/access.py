"""hosts.allow and hosts.deny (hosts_access(5)) through libwrap, for the daemon name `popad`.

Rules are applied or popad does not start; they are never silently not there.
"""

import ctypes
import syslog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.inherited import Connection

from popad import journal
from popad.errors import SettingWrong

TABLES = ("/etc/hosts.allow", "/etc/hosts.deny")
LIBRARY = "libwrap.so.0"
DAEMON = b"popad"
RQ_FILE, RQ_DAEMON = 1, 2  # keys of request_init(3), tcpd.h
REQUEST_OCTETS = 8192  # struct request_info has about 900, and the library alone looks inside


class Rules:
    """The rules, read anew for each connection: an edit needs no restart."""

    def __init__(self) -> None:
        """Load libwrap. Raises SettingWrong where there are rules and no libwrap."""
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
        if self.library is None:
            self.check_that_there_are_none()
            return False
        request = ctypes.create_string_buffer(REQUEST_OCTETS)
        self.library.request_init(request, RQ_DAEMON, DAEMON, RQ_FILE, connection.fileno(), 0)
        self.library.sock_host(request)
        if self.library.hosts_access(request):
            return False
        journal.send(journal.ACCESS_DENIED, rhost=connection.rhost or "unknown", rport=connection.rport)
        connection.hang_up()
        return True


def has_rules(table: str) -> bool:
    """Whether a table says anything. One that cannot be read may, so it does."""
    try:
        with open(table, "rb") as lines:
            return any(line.strip() and not line.lstrip().startswith(b"#") for line in lines)
    except FileNotFoundError:
        return False
    except OSError:
        return True
