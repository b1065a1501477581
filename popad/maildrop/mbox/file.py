"""The file of a mailbox: opened safely, and told from what it was by how it looks.

Two looks are the same only where nothing has happened in between, as long as a change leaves other times: so whoever
has the lock keeps it until the clock that stamps the file has gone on.
"""

import errno
import fcntl
import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox.locks import PERMANENT, TEMPORARY

# Two writes within one tick of the clock that stamps files leave the same times: 1 to 10 ms on Linux, a second or two
# on file systems that keep whole seconds.
FINE_TICK, COARSE_TICK = 20_000_000, 2_000_000_000  # ns
FSTAB = "/etc/fstab"
CONTENT_BLOCK = 1 << 17  # octets of a message that are read at a time: fits the cache with what becomes of it
BLOCK = 512  # octets, of st_blocks (inode(7))
MAX_HOLES = 1 << 26  # octets: mail has none but what a crash may leave; terabytes of them cost their maker nothing

FOR_GOOD = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EBADF)
Signature = tuple[int, int, int, int, int]


def signature(status: os.stat_result) -> Signature:
    """What differs when a file has been changed: device, inode, size, mtime and ctime in ns."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def take_signature(status: os.stat_result) -> tuple[Signature, bool]:
    """Under a lock, before what it stands for is read: how a file looks, and whether a change must look different."""
    seen = signature(status)
    wait_for_tick(seen)
    return seen, waiting_time(seen) <= 0


def is_sparse(fd: int, status: os.stat_result) -> bool:
    """Whether it has more than MAX_HOLES. What takes as much room as it has octets is believed: a tmpfs would be
    searched page by page, which takes 3 ms for 170 MB.
    """
    size = status.st_size
    return size - status.st_blocks * BLOCK > MAX_HOLES and holes(fd, size) > MAX_HOLES


def holes(fd: int, size: int) -> int:
    """Octets that were never written, as far as the file system tells; not counted much beyond MAX_HOLES."""
    found = place = 0
    try:
        while found <= MAX_HOLES and (begin := os.lseek(fd, place, os.SEEK_HOLE)) < size:
            try:
                place = os.lseek(fd, begin, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                place = size  # a hole up to the end
            found += place - begin
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.EINVAL):  # nothing at `place`; not supported here
            raise
    return found


def wait_for_tick(seen: Signature) -> None:
    """Keep the lock until a change by the next holder must leave other times than `seen`."""
    wait = waiting_time(seen)
    if 0 < wait <= tick_of(seen):  # a time in the future is not waited for
        time.sleep(wait / 1e9)


def waiting_time(seen: Signature) -> int:
    """ns from now until a change must leave other times than `seen`."""
    return max(seen[3], seen[4]) + tick_of(seen) - time.time_ns()


def tick_of(seen: Signature) -> int:
    """ns of the clock that stamped the file, at most."""
    return COARSE_TICK if max(seen[3], seen[4]) % 1_000_000_000 == 0 else FINE_TICK


def open_mailbox(path: str, access: int = os.O_RDWR) -> int:
    """A descriptor of the mailbox, or -1 where there is none. Raises MaildropUnavailable for all but a regular file."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):  # before the open: opening a device can do something
            raise MaildropUnavailable(PERMANENT, "not a regular file")
        try:
            fd = os.open(path, access | flags)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            fd = os.open(path, os.O_RDONLY | flags)  # to be read, if not updated
    except FileNotFoundError as error:
        if not os.path.isdir(os.path.dirname(path)):
            # No spool is not an empty mailbox: clients would forget what they have seen, and fetch it all again.
            raise MaildropUnavailable(TEMPORARY, f"there is no directory {os.path.dirname(path)}") from error
        if point := unmounted(path):
            raise MaildropUnavailable(TEMPORARY, f"{point} is not mounted") from error
        return -1
    except OSError as error:
        raise unavailable(error) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise MaildropUnavailable(PERMANENT, "not a regular file")
    return fd


def unmounted(path: str) -> str:
    """The mount point of fstab(5) that `path` is below and that is not mounted: this is not the spool. Else "".

    Told by the devices, so nothing is said of directories that are bound from elsewhere.
    """
    try:
        with open(FSTAB, encoding="utf-8", errors="surrogateescape") as lines:
            for row in map(str.split, lines):
                if len(row) < 4 or row[0].startswith("#") or "bind" in row[3]:
                    continue
                point = row[1].rstrip("/")
                if point and path.startswith(f"{point}/") and os.stat(point).st_dev == os.stat(f"{point}/..").st_dev:
                    return point
    except OSError:
        pass  # systems without the file mount in other ways
    return ""


def whole(read: "Callable[[int, int], bytes]", count: int, place: int) -> bytes:
    """So many octets, if the file has them. `read` is pread: it ends before octets that cannot be read, and
    raises OSError where it begins with them.
    """
    block = read(count, place)
    while len(block) < count and (more := read(count - len(block), place + len(block))):
        block += more
    return block


def why_read_only(fd: int, path: str) -> str:
    """Why open_mailbox() could open the file for reading only; "" where it is for writing, too."""
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        return ""
    return (
        f"{os.strerror(errno.EROFS)}; ReadWritePaths={os.path.dirname(path)} lets the unit write there, if others may"
    )


def make_sure_it_is_writable(fd: int, path: str) -> None:
    """Raises OSError where open_mailbox() could open the file for reading only."""
    if reason := why_read_only(fd, path):
        raise OSError(errno.EROFS, reason, path)


def unavailable(error: OSError) -> MaildropUnavailable:
    """An error of the operating system as the client may know it: to be tried again later, or not."""
    return MaildropUnavailable(PERMANENT if error.errno in FOR_GOOD else TEMPORARY, str(error))
