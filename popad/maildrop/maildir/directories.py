"""The directories of a Maildir: opened once, listed by their descriptors, so that no path is walked twice.

tmp/ is for those who deliver, and names that begin with a dot are no messages; subfolders (Maildir++) begin so, too.
"""

import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

from popad.errors import MaildropUnavailable
from popad.maildrop.maildir.names import TRASHED, base_of, flags_of, order_for

PERMANENT, TEMPORARY = "SYS/PERM", "SYS/TEMP"
FOR_GOOD = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG)
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
Look = tuple[int, int, int, int]  # of new/ and cur/: inode, time of change in ns
# Two changes within a tick of the clock that stamps files leave the same time: 1 to 10 ms, or two seconds where a file
# system keeps whole ones. It may be a file server's clock, and ours ahead of it, by up to a second.
SKEW = 1_000_000_000  # ns
FINE_TICK, COARSE_TICK = SKEW + 20_000_000, SKEW + 2_000_000_000  # ns
TRIES = 5  # at a listing during which nobody renames anything


class Directories:
    """The Maildir at `path`, its new/ and its cur/. `missing_is_empty`: one that is not there, and whose parent is."""

    def __init__(self, path: str, *, missing_is_empty: bool) -> None:
        """Raises MaildropUnavailable."""
        self.path = path = path.rstrip("/") or "/"  # with a slash behind it a symbolic link would be followed
        self.top = self.new = self.cur = -1
        try:
            self.top = os.open(path, DIRECTORY)
        except FileNotFoundError as missing:
            if missing_is_empty and os.path.isdir(os.path.dirname(path)):
                return
            raise unavailable(missing) from missing
        except OSError as error:
            raise unavailable(error) from error
        try:
            self.new = os.open("new", DIRECTORY, dir_fd=self.top)
            self.cur = os.open("cur", DIRECTORY, dir_fd=self.top)
            for name, fd in (("new", self.new), ("cur", self.cur)):
                if not os.access(".", os.X_OK, dir_fd=fd):
                    raise PermissionError(errno.EACCES, "no right to search it", name)
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

    def listing(self, most: int, *, separates: bool = False) -> tuple[list[str], set[str]]:
        """The names of the messages in their order, each base once; and those of them that are in new/. Raises OSError;
        MaildropUnavailable where there are more than `most`. `separates`: two messages with one base get two.

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
        else:
            separates = False
        names, in_new = each_base_once(new, cur)
        if separates and len(names) < len(new) + len(cur) and self.separate(new, cur):
            return self.listing(most)
        if len(names) > most:
            raise MaildropUnavailable(PERMANENT, f"more than {most} messages")
        return names, in_new

    def separate(self, new: list[str], cur: list[str]) -> bool:
        """Give a base of its own to each message whose base another, older one has, as after files were copied by hand:
        it would be hidden, and later be taken for the older one. Whether any was renamed.
        """
        renamed = False
        for fd, name, becomes in self.hidden(new, cur):
            renamed |= rename_to_free(name, fd, becomes, fd)
        return renamed

    def hidden(self, new: list[str], cur: list[str]) -> "Iterator[tuple[int, str, str]]":
        """Of each message whose base another, older one has: the directory, the name, the one that it is to get."""
        places: dict[str, list[tuple[int, str]]] = {}
        for fd, names in ((self.new, new), (self.cur, cur)):
            for name in names:
                places.setdefault(base_of(name), []).append((fd, name))
        for base, found in places.items():
            files: dict[int, tuple[int, int, str]] = {}
            for fd, name in found if len(found) > 1 else ():
                try:
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except OSError:
                    continue
                files[status.st_ino] = status.st_mtime_ns, fd, name
            for inode in sorted(files, key=lambda inode: (files[inode][0], inode))[1:]:
                _, fd, name = files[inode]
                yield fd, name, f"{base},twin={inode}{name[len(base) :]}"

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


def each_base_once(new: list[str], cur: list[str]) -> tuple[list[str], set[str]]:
    """The names in their order, and those of them that are in new/: of two with one base the one in cur/."""
    by_base = {base_of(name): name for name in new}
    if by_base:
        for name in cur:
            by_base.pop(base_of(name), None)
    in_new = set(by_base.values())
    names = [*in_new, *cur]
    names.sort(key=order_for(names))
    # One that was found under two names, as it was renamed meanwhile, has them side by side.
    return [name for place, name in enumerate(names) if not place or base_of(names[place - 1]) != base_of(name)], in_new


def rename_to_free(name: str, fd: int, becomes: str, new_fd: int) -> bool:
    """Rename a file, where no other has that name: whether that was done. What cannot be done does not matter.

    renameat2() has this in one call, and Python has no renameat2(). Between the two calls somebody would have to make
    a message with the base of another.
    """
    try:
        os.stat(becomes, dir_fd=new_fd, follow_symlinks=False)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    else:
        return False
    try:
        os.rename(name, becomes, src_dir_fd=fd, dst_dir_fd=new_fd)
    except OSError:
        return False
    return True


def messages(fd: int, most: int) -> list[str]:
    """The names of the regular files of a directory that are not marked as trashed. Raises OSError,
    MaildropUnavailable.
    """
    found: list[str] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            name = entry.name
            if name[0] != "." and entry.is_file(follow_symlinks=False) and TRASHED not in flags_of(name):
                found.append(name)
                if len(found) > 2 * most:  # one in new/ and cur/ counts once
                    raise MaildropUnavailable(PERMANENT, f"more than {most} messages")
    return found


def unavailable(error: OSError) -> MaildropUnavailable:
    """What a client and the journal are told of it."""
    return MaildropUnavailable(code_of(error), f"{error.filename}: {error.strerror}" if error.filename else str(error))


def code_of(error: OSError) -> str:
    """Whether it can be expected to be otherwise later. What is missing may be mounted."""
    return PERMANENT if error.errno in FOR_GOOD else TEMPORARY
