"""Where entries go: journald, standard error, syslog. None of them raises, none is waited for longer than a moment.

A log may hang, restart, or have a full disk; a session must not end for that, nor wait. sd_journal_sendv(3) and
syslog(3) wait as long as it takes, and the first says that all is well where there is no socket: so what the two would
send is sent here. (A test holds it against what systemd-python sends.)
"""

import _socket
import errno
import fcntl
import os
import select
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Place = tuple[int, int] | None

JOURNAL_SOCKET = "/run/systemd/journal/socket"
SYSLOG_SOCKET = "/dev/log"
FACILITY_MAIL, ERROR = 2, 3  # syslog(3)
STDERR = 2
NULL = os.makedev(1, 3)  # /dev/null
MOMENT = 0.25  # seconds that a full log gets to take an entry: journald, when it works, has emptied its queue by then
ATOMIC = 4096  # PIPE_BUF: so many octets go into a pipe together, or none of them
NO_DELAY = _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Sink:
    """A place for entries."""

    def __init__(self) -> None:
        self.patience = MOMENT
        self.failure = ""  # why the last entry was not taken
        self.way: _socket.socket | None = None  # to it, where it is a socket
        self.place: Place = None  # of what is written to: a process that has closed all may have it no longer

    def put(self, entry: bytes) -> bool:
        """Whether it has taken `entry`. Where it was waited for in vain, it is not again until it has taken one."""
        try:
            self.write(entry, time.monotonic() + self.patience)
        except OSError as error:
            if isinstance(error, TimeoutError):
                self.patience = 0.0
            self.failure = str(error)
            return False
        self.patience = MOMENT
        return True

    def write(self, entry: bytes, deadline: float) -> None:
        """Raises OSError; TimeoutError where it can take nothing until `deadline`."""
        raise NotImplementedError

    def send(self, entry: bytes) -> int:
        return self.way.send(entry, NO_DELAY) if self.way else 0


class Datagrams(Sink):
    """A socket with a name, connected once: where descriptors have run out, the journal has to hear of it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def open(self) -> None:
        """Raises OSError."""
        way = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            way.connect(self.path)
        except OSError:
            way.close()
            raise
        self.way, self.place = way, place_of(way.fileno())

    def write(self, entry: bytes, deadline: float) -> None:
        if self.way and self.place != place_of(self.way.fileno()):
            self.way.detach()  # its number may be another one's
            self.way = None
        if self.way:
            try:
                in_time(self.send, entry, self.way.fileno(), deadline)
                return
            except TimeoutError:
                raise
            except OSError:  # the log was started again, with a new socket
                self.way.close()
                self.way = None
        self.open()
        if self.way:
            in_time(self.send, entry, self.way.fileno(), deadline)


class Journal(Datagrams):
    """journald. An entry that is too large for a datagram goes there in a file in memory that nobody can change any
    more (systemd.io/JOURNAL_NATIVE_PROTOCOL): with what Linux gives a socket by default that is one of 200 kB.
    """

    def send(self, entry: bytes) -> int:
        try:
            return super().send(entry)
        except OSError as error:
            if error.errno != errno.EMSGSIZE or not self.way:
                raise
        file = os.memfd_create("popad-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            left = memoryview(entry)
            while left:
                left = left[os.write(file, left) :]
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, SEALS)
            passed = _socket.SOL_SOCKET, _socket.SCM_RIGHTS, file.to_bytes(4, sys.byteorder)
            self.way.sendmsg([], [passed], NO_DELAY)
        finally:
            os.close(file)
        return len(entry)


class StandardError(Sink):
    """The descriptor that popad was started with, whatever it is. Others share it: its O_NONBLOCK flag is not ours."""

    def __init__(self, shared: int = STDERR) -> None:
        super().__init__()
        self.shared = shared
        self.fd = shared  # what is written to
        self.some: Callable[[bytes], int] = self.write_some
        self.torn = False  # a line was cut short: the next one begins on a line of its own

    def is_there(self) -> bool:
        """Whether anybody could read it: it is open, and not /dev/null."""
        try:
            status = os.fstat(self.shared)
        except OSError:
            return False
        return not (stat.S_ISCHR(status.st_mode) and status.st_rdev == NULL)

    def open(self) -> None:
        """Find a way to write to it that does not wait, if there is none yet. Raises OSError."""
        if self.place and self.place == place_of(self.shared) == place_of(self.fd):
            return
        self.place = None
        if self.way:
            self.way.detach()  # its number may be another one's
        status = os.fstat(self.shared)
        self.fd, self.some = self.shared, self.write_some
        if stat.S_ISSOCK(status.st_mode):
            self.way = _socket.socket(fileno=fcntl.fcntl(self.shared, fcntl.F_DUPFD_CLOEXEC, STDERR + 1))
            self.fd, self.some = self.way.fileno(), self.send
        elif stat.S_ISFIFO(status.st_mode) or stat.S_ISCHR(status.st_mode):
            # Opened once more it has flags of its own. (A file would have a position of its own, too; and never waits.)
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            try:
                self.fd = os.open(f"/proc/self/fd/{self.shared}", flags)
            except (PermissionError, FileNotFoundError):  # it belongs to somebody else; there is no /proc
                self.some = self.write_if_ready
        self.place = status.st_dev, status.st_ino

    def write(self, entry: bytes, deadline: float) -> None:
        self.open()
        left = b"\n" + entry if self.torn else entry
        begun = False
        try:
            while left:
                left = left[in_time(self.some, left, self.fd, deadline) :]
                begun = True
        finally:
            self.torn = bool(left) and (begun or self.torn)

    def write_some(self, entry: bytes) -> int:
        return os.write(self.fd, entry)

    def write_if_ready(self, entry: bytes) -> int:
        """Where the flags are shared. Somebody else may fill it between the look and the write: then this waits."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(self.fd, entry[:ATOMIC])


def place_of(fd: int) -> "Place":
    """Device and inode behind a descriptor; None where it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def in_time(some: "Callable[[bytes], int]", entry: bytes, fd: int, deadline: float) -> int:
    """Have `some` write to `fd` as soon as that takes something; how much. Raises OSError, TimeoutError."""
    while True:
        try:
            return some(entry)
        except BlockingIOError:
            pass
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        if (left := deadline - time.monotonic()) <= 0 or not poll.poll(left * 1000):
            raise TimeoutError("it takes nothing") from None


journald = Journal(JOURNAL_SOCKET)
syslog = Datagrams(SYSLOG_SOCKET)
standard_error = StandardError()


def to_syslog(priority: int, text: str) -> bool:
    """One line to syslog, as syslog(3) sends it (RFC 3164, local form); whether it was taken."""
    stamp = time.strftime("%b %e %H:%M:%S")
    return syslog.put(f"<{FACILITY_MAIL << 3 | priority}>{stamp} popad[{os.getpid()}]: {text}".encode())


def say(words: str) -> None:
    """Whole lines that are no event, a traceback, say: to standard error, or where nobody could read that to syslog."""
    words = words.encode("utf-8", "backslashreplace").decode()
    if standard_error.is_there():
        standard_error.put(words.encode())
    else:
        for line in words.splitlines():
            to_syslog(ERROR, line)


class Words:
    """In place of sys.stderr: what is written to it goes on line by line."""

    def __init__(self, say: "Callable[[str], object]") -> None:
        self.say = say
        self.held = ""  # a line without its end

    def write(self, text: str) -> int:
        whole, end, self.held = (self.held + text).rpartition("\n")
        if end:
            self.say(whole + end)
        return len(text)

    def flush(self) -> None:
        if self.held:
            self.write("\n")


def guard_standard_error() -> None:
    """From now on no print and no traceback of this process can end it, or make it wait."""
    sys.stderr = Words(say)
