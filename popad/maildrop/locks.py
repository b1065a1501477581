"""The lock of an mbox: fcntl, as Debian's MTAs and MUAs take it first. Waited for, but never for long."""

import fcntl
import time

from popad.errors import MaildropUnavailable

FIRST_PAUSE = 0.001  # seconds; a delivery holds the lock for milliseconds
LONGEST_PAUSE = 0.05


class Lock:
    """`with Lock(fd, ...):` the whole file is locked, shared or exclusive.

    Raises MaildropUnavailable with response code `code` when another program keeps the lock for `timeout` seconds.
    A process holds POSIX locks, not a descriptor: no other descriptor of the file may be closed meanwhile.
    """

    def __init__(self, fd: int, timeout: float, code: str, exclusive: bool = False) -> None:
        self.fd = fd
        self.timeout = timeout
        self.code = code
        self.kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH

    def __enter__(self) -> None:
        deadline = time.monotonic() + self.timeout
        pause = FIRST_PAUSE
        while True:
            try:
                fcntl.lockf(self.fd, self.kind | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # POSIX allows EACCES and EAGAIN
                if time.monotonic() + pause > deadline:
                    raise MaildropUnavailable(
                        self.code, f"another program held the lock for {self.timeout} seconds"
                    ) from None
                # Asking again beats F_SETLKW with an alarm: no signal handler, and no wait when a signal comes early.
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                return

    def __exit__(self, *exception: object) -> None:
        fcntl.lockf(self.fd, fcntl.LOCK_UN)
