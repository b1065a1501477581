"""The directories of a Maildir: opened once, listed by their descriptors, so that no path is walked twice.

tmp/ is for those who deliver, and names that begin with a dot are no messages; subfolders (Maildir++) begin so, too.
"""

import errno
import os
import time

from popad.errors import MaildropUnavailable
from popad.maildrop.maildir.names import TRASHED, base_of, flags_of, order_for

PERMANENT, TEMPORARY = "SYS/PERM", "SYS/TEMP"
FOR_GOOD = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Look = tuple[int, int, int, int]  # of new/ and cur/: inode, time of change in ns
# Two changes within a tick of the clock that stamps files leave the same time: 1 to 10 ms, or two seconds where a file
# system keeps whole ones.
FINE_TICK, COARSE_TICK = 20_000_000, 2_000_000_000  # ns
TRIES = 5  # at a listing during which nobody renames anything


class Directories:
    """The Maildir at `path`, its new/ and its cur/. `missing_is_empty`: one that is not there, and whose parent is."""

    def __init__(self, path: str, *, missing_is_empty: bool) -> None:
        """Raises MaildropUnavailable."""
        self.path = path
        self.top = self.new = self.cur = -1
        try:
            self.top = os.open(path, DIRECTORY)
        except FileNotFoundError as missing:
            if missing_is_empty and os.path.isdir(os.path.dirname(path.rstrip("/"))):
                return
            raise unavailable(missing) from missing
        except OSError as error:
            raise unavailable(error) from error
        try:
            self.new = os.open("new", DIRECTORY, dir_fd=self.top)
            self.cur = os.open("cur", DIRECTORY, dir_fd=self.top)
        except OSError as error:
            self.close()
            raise MaildropUnavailable(
                code_of(error), f"{path}: no Maildir: {error.filename}: {error.strerror}"
            ) from error

    def close(self) -> None:
        """All of them."""
        for fd in (self.top, self.new, self.cur):
            if fd >= 0:
                os.close(fd)
        self.top = self.new = self.cur = -1

    @property
    def are_there(self) -> bool:
        return self.cur >= 0

    def reliable_look(self) -> Look | None:
        """How they look now, where whatever changes them has them look different from now on; else None.

        Raises OSError.
        """
        if not self.are_there:
            return None
        look = self.look()
        latest = max(look[1], look[3])
        tick = COARSE_TICK if latest % 1_000_000_000 == 0 else FINE_TICK
        return look if latest + tick < time.time_ns() else None

    def listing(self, most: int) -> tuple[list[str], set[str]]:
        """The names of the messages in their order, each base once; and those of them that are in new/. Raises OSError;
        MaildropUnavailable where there are more than `most`.

        Who renames a file while a directory is read may have it listed under neither name: so it is read again.
        """
        if not self.are_there:
            return [], set()
        new: list[str] = []
        cur: list[str] = []
        for _ in range(TRIES):
            before = self.look()
            # First new/: what goes from there to cur/ meanwhile is found twice, and counts once.
            new, cur = messages(self.new, most), messages(self.cur, most)
            if self.look() == before:
                break
        by_base = {base_of(name): name for name in new}
        if by_base:
            for name in cur:
                by_base.pop(base_of(name), None)
        in_new = set(by_base.values())
        names = [name for name in (*in_new, *cur) if TRASHED not in flags_of(name)]
        names.sort(key=order_for(names))
        # One that was found under two names, as it was renamed meanwhile, has them side by side.
        names = [name for place, name in enumerate(names) if not place or base_of(names[place - 1]) != base_of(name)]
        if len(names) > most:
            raise MaildropUnavailable(PERMANENT, f"more than {most} messages")
        return names, in_new

    def look(self) -> Look:
        """What differs when a name has come or gone."""
        new, cur = os.fstat(self.new), os.fstat(self.cur)
        return new.st_ino, new.st_mtime_ns, cur.st_ino, cur.st_mtime_ns

    def why_read_only(self) -> str:
        """Why messages can be read, and not removed; "" where they can."""
        for name, fd in (("new", self.new), ("cur", self.cur)):
            if fd >= 0 and not os.access(".", os.W_OK | os.X_OK, dir_fd=fd):
                return f"{self.path}/{name}: no right to write, or a file system that is read-only"
        return ""

    def sync(self) -> None:
        """Make what was removed gone for good. Raises OSError."""
        for fd in (self.new, self.cur):
            os.fsync(fd)


def messages(fd: int, most: int) -> list[str]:
    """The names of the regular files of a directory. Raises OSError, MaildropUnavailable."""
    found: list[str] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            name = entry.name
            if name[0] != "." and entry.is_file(follow_symlinks=False):
                found.append(name)
                if len(found) > 2 * most:  # what is marked as trashed does not count in the end
                    raise MaildropUnavailable(PERMANENT, f"more than {most} messages")
    return found


def unavailable(error: OSError) -> MaildropUnavailable:
    """What a client and the journal are told of it."""
    return MaildropUnavailable(code_of(error), f"{error.filename}: {error.strerror}" if error.filename else str(error))


def code_of(error: OSError) -> str:
    """Whether it can be expected to be otherwise later. What is missing may be mounted."""
    return PERMANENT if error.errno in FOR_GOOD else TEMPORARY
