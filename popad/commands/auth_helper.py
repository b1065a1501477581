"""`popad auth-helper`: the process that systemd starts to check passwords for the sessions."""

import socket

from systemd.daemon import is_socket_unix

from popad.auth.helper import Helper
from popad.auth.loaded import Loaded
from popad.commands.helper_service import begin, start_afresh
from popad.errors import NotInvokedRight
from popad.notify import Notifier
from popad.privsep import pool
from popad.privsep.identity import leave_no_core_file
from popad.sinks import standard_error

USAGE_STATUS = 2
UNIT = "popad-auth.service"


def auth_helper() -> int:
    """Answer sessions until none has asked for a while. Returns the exit status. Raises SettingWrong."""
    try:
        sources, settings, fd = begin(UNIT)
    except NotInvokedRight as wrong:
        return complain(str(wrong))
    if fd is None or not is_socket_unix(fd, type=socket.SOCK_SEQPACKET, listening=1):
        return complain("started by popad-auth.socket, not by hand")
    leave_no_core_file()
    helper = Helper(settings)
    ending = pool.Ending(sources.are_changed)
    Notifier().ready("waiting for logins")
    listener = pool.Listener(fd)
    # When it leaves, no answer is under way: each ends within its time limit.
    idle = settings.auth_idle + settings.auth_timeout
    while pool.serve_requests(listener, helper.serve, idle, Loaded().is_outdated, ending):
        start_afresh(fd)
    return 0


def complain(text: str) -> int:
    """Say it on standard error, which may be closed. Returns the exit status."""
    standard_error.put(f"popad auth-helper: {text}\n".encode("utf-8", "backslashreplace"))
    return USAGE_STATUS
