"""The command line. Without arguments: serve the connection that systemd or inetd has handed over."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

from popad.errors import NotInvokedRight, SettingWrong
from popad.settings import Settings

USAGE_STATUS, CONFIG_STATUS = 2, 78  # popa3d's; EX_CONFIG of sysexits.h
USAGE = """\
usage: popad                 serve the connection on standard input (inetd) or LISTEN_FDS (systemd)
       popad -D [-4] [-6] [--foreground] [--listen ADDRESS:PORT]... [--config FILE]
                             listen, and serve every connection (standalone daemon)
       popad check           show the settings and check what they name
       popad passwd NAME [ITERATIONS]
                             read a password, print a line for the credentials file
       popad auth-helper     answer sessions on the socket that systemd has passed
       popad -V | --version  print the version
       popad -h | --help     print this

Settings are POPAD_* environment variables: see popad(8) and popad.conf(5).
"""


def main() -> "NoReturn":
    """Run popad as `sys.argv` asks and leave the process."""
    arguments = sys.argv[1:]
    status = command(arguments) if arguments else session()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it was closed when popad was started
        try:
            stream.flush()
        except OSError:
            status = status or 1
    # Everything is said and done: tearing the interpreter down would cost each session 2 ms.
    os._exit(status)


def session() -> int:
    """Serve one connection. Returns the exit status."""
    from popad.net.activation import accept

    try:
        connection = accept(os.environ)
    except NotInvokedRight as wrong:
        complain(f"popad: nothing to serve: {wrong}\n\n{USAGE}")
        return USAGE_STATUS
    from popad.net.arrival import arrive, facts_of, refuse_to_serve

    try:
        settings = Settings(os.environ)
        arrived = arrive(connection, facts_of(settings, with_rules=settings.wrappers == "always"))
    except SettingWrong as wrong:
        report(wrong)
        refuse_to_serve(connection, wrong)
        return CONFIG_STATUS
    if arrived is None:
        return 0
    from popad.session.monitor import SERVED, SUCCESS, serve

    outcome = serve(arrived)
    return SUCCESS if outcome == SERVED else outcome


def command(arguments: list[str]) -> int:
    """Do what the arguments ask for. Returns the exit status."""
    if arguments in (["-V"], ["--version"]):
        from popad import __version__

        print(f"popad version {__version__}")
        return 0
    if arguments in (["-h"], ["--help"]):
        print(USAGE, end="")
        return 0
    try:
        if arguments == ["auth-helper"]:
            return auth_helper()
        if arguments == ["check"]:
            from popad.commands.check import check

            return check(os.environ)
        if arguments[0] == "passwd" and len(arguments) in (2, 3):
            from popad.commands.passwd import passwd

            return passwd(*arguments[1:])
        if arguments[0].startswith("-"):
            from popad.daemon.packing import load_libraries

            load_libraries()
            from popad.daemon.command import main as daemon

            return daemon(arguments)
    except SettingWrong as wrong:
        report(wrong)
        return CONFIG_STATUS
    except NotInvokedRight as wrong:
        complain(f"popad: {wrong}\n\n{USAGE}")
        return USAGE_STATUS
    complain(f"popad: unknown arguments: {' '.join(arguments)}\n\n{USAGE}")
    return USAGE_STATUS


def auth_helper() -> int:
    """Answer sessions until none has asked for a while. Returns the exit status."""
    import socket

    from systemd.daemon import is_socket_unix

    from popad.auth.helper import Helper
    from popad.auth.loaded import Loaded
    from popad.net.activation import open_standard_streams, passed_by_systemd
    from popad.notify import Notifier
    from popad.privsep import pool
    from popad.privsep.identity import leave_no_core_file
    from popad.sinks import guard_standard_error

    os.close(open_standard_streams())
    guard_standard_error()
    settings = Settings(os.environ)
    try:
        fd = passed_by_systemd(os.environ)
    except NotInvokedRight as wrong:
        complain(f"popad auth-helper: {wrong}\n")
        return USAGE_STATUS
    if fd is None or not is_socket_unix(fd, type=socket.SOCK_SEQPACKET, listening=1):
        complain("popad auth-helper: started by popad-auth.socket, not by hand\n")
        return USAGE_STATUS
    leave_no_core_file()
    helper = Helper(settings)
    Notifier().ready("waiting for logins")
    listener = pool.Listener(fd)
    # When it leaves, no answer is under way: each ends within its time limit.
    while pool.serve_requests(listener, helper.serve, settings.auth_idle + settings.auth_timeout, Loaded().is_outdated):
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
        complain(f"popad auth-helper: cannot be started afresh: {error}\n")
        os.set_inheritable(fd, False)


def report(wrong: SettingWrong) -> None:
    """Say on stderr which setting is wrong."""
    complain(f"popad: {wrong}\n")


def complain(text: str) -> None:
    """Say it on standard error; where that cannot be written to, the exit status has to do."""
    from popad.sinks import standard_error

    standard_error.put(text.encode("utf-8", "backslashreplace"))


if __name__ == "__main__":
    main()
