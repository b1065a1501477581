"""The locks of an mbox, as Debian's policy (11.6) orders them: fcntl first, then the dotlock. Waited for, not for long.

Who takes the dotlock. An access that writes: wherever the process may make the file (POPAD_LOCKS=auto). All programs of
Debian take fcntl; the dotlock is for those that know nothing else. An access that reads makes none, as in Dovecot
(mbox_read_locks = fcntl; popa3d makes none at all) and for the same reason: each look at a mailbox would change its
directory twice. But it waits for the dotlocks of others, which costs one lstat(2) and is possible in directories where
the process may make no file. Without that, a program that appends under a dotlock alone, in several writes, could show
us half of its message as the last one, and the check behind each access, which compares what was seen, would never
notice. As it may begin while we look, the size counts that the mailbox had between two looks at the dotlock, if it
still has it: that is what `with` gives.
"""

import fcntl
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the C part: the enumerations around it cost 3.6 ms

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox.dotlock import FULL, IMPOSSIBLE, Dotlock

FIRST_PAUSE = 0.001  # seconds; a delivery holds the lock for milliseconds
LONGEST_PAUSE = 0.05
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
TEMPORARY, PERMANENT = "SYS/TEMP", "SYS/PERM"


def dotlock_of(path: str, locks: str) -> Dotlock | None:
    """The dotlock of the mailbox at `path` as POPAD_LOCKS says: fcntl (none), auto, or fcntl,dotlock."""
    return None if locks == "fcntl" else Dotlock(path, required=locks != "auto")


class Lock:
    """`with Lock(fd, ...) as seen:` the whole file is locked, shared or exclusive, its dotlock taken or waited for.

    `seen` is the file's status at a moment when nobody was writing, not even under a dotlock alone.
    Raises MaildropUnavailable with response code `code` when another program keeps a lock for `timeout` seconds, and
    with SYS/PERM or SYS/TEMP where a dotlock that is required cannot be made; OSError.
    A process holds POSIX locks, not a descriptor: no other descriptor of the file may be closed meanwhile.
    """

    def __init__(
        self, fd: int, timeout: float, code: str, dotlock: Dotlock | None = None, exclusive: bool = False
    ) -> None:
        self.fd = fd
        self.timeout = timeout
        self.code = code
        self.dotlock = dotlock
        self.kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        self.makes_dotlock = dotlock is not None and (exclusive or dotlock.required)
        self.unblocked: set[int] | None = None
        self.pause = FIRST_PAUSE
        self.seen: os.stat_result

    def __enter__(self) -> os.stat_result:
        deadline = time.monotonic() + self.timeout
        self.pause = FIRST_PAUSE
        try:
            while obstacle := self.attempt():
                if time.monotonic() + self.pause > deadline:
                    raise MaildropUnavailable(self.code, f"another program held {obstacle} for {self.timeout} seconds")
                # Asking again beats F_SETLKW with an alarm: no signal handler, and no wait when a signal comes early.
                time.sleep(self.pause)
                self.pause = min(2 * self.pause, LONGEST_PAUSE)
        finally:
            if self.dotlock:
                self.dotlock.forget_void()
        return self.seen

    def __exit__(self, *exception: object) -> None:
        self.let_go()

    def let_go(self) -> None:
        """Of what we have, also where a look at the mailbox has failed behind it."""
        try:
            if self.dotlock and self.dotlock.ours >= 0:
                self.dotlock.release()
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN)
            self.unblock()

    def attempt(self) -> str:
        """Try to get what is wanted. Returns what is in the way, "" for nothing."""
        try:
            fcntl.lockf(self.fd, self.kind | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows EACCES and EAGAIN
            return "the lock"
        if self.dotlock is None:
            self.seen = os.fstat(self.fd)
            return ""
        free = False
        try:
            free = self.second(self.dotlock)
        finally:
            if not free:
                # Some programs take the dotlock first (procmail and mutt can be told to). One that has it may be
                # waiting for what we hold: it must get that, or both would wait for ever.
                self.let_go()
        return "" if free else self.dotlock.judge(self.fd)

    def second(self, dotlock: Dotlock) -> bool:
        """With the first lock: take the dotlock, or see that nobody has it. Raises MaildropUnavailable, OSError."""
        if dotlock.in_the_way():
            return False
        if not self.makes_dotlock:
            return self.nobody_writes(dotlock)
        if dotlock.remove_stale():
            # Another program may be about to remove it as well, without looking (liblockfile does): not ours, then.
            self.pause = LONGEST_PAUSE
            return False
        # A lock file outlives its maker: until it is removed, no signal but SIGKILL ends us.
        self.unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            if dotlock.take():
                self.seen = os.fstat(self.fd)
                return True
        except OSError as error:
            if error.errno not in (*IMPOSSIBLE, *FULL):
                raise
            if dotlock.required:
                code = TEMPORARY if error.errno in FULL else PERMANENT
                raise MaildropUnavailable(
                    code, f"POPAD_LOCKS wants {dotlock.path}, which cannot be made: {error.strerror}"
                ) from error
        finally:
            if dotlock.ours < 0:
                self.unblock()
        if dotlock.required and dotlock.name_is_taken():
            raise MaildropUnavailable(
                PERMANENT, f"POPAD_LOCKS wants {dotlock.path}, which cannot be made: something else has this name"
            )
        # None can be made, or a stale one cannot be removed. The POSIX lock will do, unless somebody else has this one.
        return not dotlock.required and not dotlock.in_the_way() and self.nobody_writes(dotlock)

    def nobody_writes(self, dotlock: Dotlock) -> bool:
        """After a look at the dotlock: whether nobody has it now, and nobody had it while we looked at the file."""
        self.seen = os.fstat(self.fd)
        return not dotlock.in_the_way() and os.fstat(self.fd).st_size == self.seen.st_size

    def unblock(self) -> None:
        """Let the signals in again."""
        if self.unblocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.unblocked)
            self.unblocked = None
