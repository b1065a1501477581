"""`popad auth-helper`: the process that systemd starts to check passwords for the sessions."""

import os
import socket
import sys

from systemd.daemon import is_socket_unix

from popad.auth.helper import Helper
from popad.auth.loaded import Loaded
from popad.errors import NotInvokedRight
from popad.net.activation import open_standard_streams, passed_by_systemd
from popad.notify import Notifier
from popad.privsep import pool
from popad.privsep.identity import leave_no_core_file
from popad.settings import Settings
from popad.sinks import guard_standard_error, standard_error

USAGE_STATUS = 2


def auth_helper() -> int:
    """Answer sessions until none has asked for a while. Returns the exit status. Raises SettingWrong."""
    os.close(open_standard_streams())
    guard_standard_error()
    settings = Settings(os.environ)
    try:
        fd = passed_by_systemd(os.environ)
    except NotInvokedRight as wrong:
        complain(str(wrong))
        return USAGE_STATUS
    if fd is None or not is_socket_unix(fd, type=socket.SOCK_SEQPACKET, listening=1):
        complain("started by popad-auth.socket, not by hand")
        return USAGE_STATUS
    leave_no_core_file()
    helper = Helper(settings)
    ending = pool.Ending()
    Notifier().ready("waiting for logins")
    listener = pool.Listener(fd)
    # When it leaves, no answer is under way: each ends within its time limit.
    idle = settings.auth_idle + settings.auth_timeout
    while pool.serve_requests(listener, helper.serve, idle, Loaded().is_outdated, ending):
        start_afresh(fd)
    return 0


def start_afresh(fd: int) -> None:
    """Become a new helper on the listening socket `fd`: the same process to systemd, which would end the workers of one
    that leaves. Returns where Python cannot be started, as in the middle of an update of it.
    """
    os.set_inheritable(fd, True)
    try:
        passed = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **passed})  # noqa: S606 - as it was started
    except OSError as error:
        complain(f"cannot be started afresh: {error}")
        os.set_inheritable(fd, False)


def complain(text: str) -> None:
    """Say it on standard error, which may be closed."""
    standard_error.put(f"popad auth-helper: {text}\n".encode("utf-8", "backslashreplace"))
