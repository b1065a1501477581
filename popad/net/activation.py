"""The connection that systemd, inetd or tcpd hands over, and who is at its other end."""

import _socket
import errno
import fcntl
import os

from popad.errors import NotInvokedRight
from popad.net.connection import Connection, without_mapping

FIRST_PASSED_FD = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


def accept(environ: "os._Environ[str]") -> Connection:
    """The connection this process was started for: LISTEN_FDS=1 from systemd (Accept=yes), or fd 0 from inetd.

    Raises NotInvokedRight where there is none.
    """
    fd = passed_by_systemd(environ)
    if fd is not None:
        os.close(open_standard_streams())
    return connection(stdin_to_itself() if fd is None else fd, environ)


def passed_by_systemd(environ: "os._Environ[str]") -> int | None:
    """The one descriptor that systemd has passed, None where it has passed none. Raises NotInvokedRight."""
    passed = all_passed_by_systemd(environ)
    if len(passed) > 1:
        raise NotInvokedRight("LISTEN_FDS names more than one socket")
    return passed[0] if passed else None


def all_passed_by_systemd(environ: "os._Environ[str]") -> list[int]:
    """The descriptors that systemd has passed (sd_listen_fds(3)). Raises NotInvokedRight.

    Takes what says so out of `environ`, so that no child believes it.
    """
    passed, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not passed:
        return []
    if not (passed.isascii() and passed.isdigit() and len(passed) < 4) or pid != str(os.getpid()):
        raise NotInvokedRight("LISTEN_FDS is not about this process")
    fds = list(range(FIRST_PASSED_FD, FIRST_PASSED_FD + int(passed)))
    try:
        for fd in fds:
            os.set_inheritable(fd, False)
    except OSError as error:
        raise NotInvokedRight("LISTEN_FDS names a descriptor that is closed") from error
    return fds


def stdin_to_itself() -> int:
    """Move inetd's socket off the standard descriptors: a traceback on stderr must never reach the client."""
    try:
        fd = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, FIRST_PASSED_FD)  # never a standard descriptor that was closed
    except OSError as error:
        raise NotInvokedRight("standard input is closed") from error
    if not is_stream_socket(fd):
        os.close(fd)
        raise NotInvokedRight("standard input is not a socket")
    connected = os.fstat(0).st_ino
    null = open_standard_streams()
    for standard in (0, 1, 2):
        if os.fstat(standard).st_ino == connected:
            os.dup2(null, standard)
    os.close(null)
    return fd


def open_standard_streams() -> int:
    """Open those that were closed when popad was started, so that nothing else takes their numbers. Returns one more
    descriptor of /dev/null. Raises OSError.
    """
    while (null := os.open(os.devnull, os.O_RDWR)) < FIRST_PASSED_FD:
        pass
    return null


def is_stream_socket(fd: int) -> bool:
    """Whether `fd` is a connected stream socket."""
    try:
        probe = _socket.socket(fileno=fd)
    except OSError:
        return False
    try:
        return probe.type == _socket.SOCK_STREAM and not probe.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
    finally:
        probe.detach()


def connection(fd: int, environ: "os._Environ[str]") -> Connection:
    """Who is at the other end of `fd`: what the kernel says, or if the client has left what systemd saw."""
    if not is_stream_socket(fd):
        raise NotInvokedRight("the descriptor passed is not a connected stream socket")
    port = environ.get("REMOTE_PORT", "")
    rhost, rport = environ.get("REMOTE_ADDR", ""), int(port) if port.isascii() and port.isdigit() else None
    probe = _socket.socket(fileno=fd)
    try:
        name = probe.getpeername()
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
    else:
        rhost, rport = (str(name[0]), int(name[1])) if isinstance(name, tuple) else ("", None)
    finally:
        probe.detach()
    return Connection(fd, without_mapping(rhost), rport)
