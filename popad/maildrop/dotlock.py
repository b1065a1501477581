"""The dotlock of an mbox: the file MAILBOX.lock, made, judged and removed as lockfile_create(3) of liblockfile says.

- Made: a file of a unique name in the same directory, with our PID in it, gets the lock's name by link(2), which is
  atomic on NFS too; the file's count of links, not the answer (NFS may lose it), says whether that worked.
- Valid: one with the PID of a process that lives; one without a PID, or with anything else in it (Dovecot writes its
  host's name), while it is younger than 5 minutes. Ours is touched each minute, for those who look at the age alone.
- Stale otherwise. Whoever removes one must not remove another that has taken its place: see remove_stale().

Nothing here follows a symbolic link. What is not a small plain file is no lock that anybody made: never removed.
"""

import _thread  # the C part, which is there anyway
import errno
import os
import stat
import time

SUFFIX = ".lock"
TEMPORARY_PREFIX = ".popad-"  # of 16 random digits; a kill between open and unlink leaves a file of such a name
MODE = 0o644  # whatever the umask: the PID in it is for others to read
YOUNG = 300  # seconds that a lock without a PID is valid, as liblockfile has it
TOUCH_EVERY = 60  # seconds; lockfile_create(3): "every minute or so"
LARGEST = 512  # octets of what may be a lock: a PID, perhaps with a host's name
HIGHEST_PID = 2**31 - 1
SAME_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
# The process may not, or nobody can, have a lock file there.
IMPOSSIBLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
FULL = (errno.ENOSPC, errno.EDQUOT)


class Dotlock:
    """The lock file of the mailbox at `mailbox`.

    `required`: each access to the mailbox takes it, and there is none without. Else an access that writes takes it
    where that is possible; an access that reads waits for others' locks and makes none (Lock says why).
    """

    def __init__(self, mailbox: str, required: bool) -> None:
        self.path = mailbox + SUFFIX
        self.required = required
        self.ours = -1  # the lock file while we have the lock: to touch it, and to know it from another
        self.stale = -1  # a lock that was judged stale: kept open, so that no other file can get its inode number
        self.keeper: Keeper | None = None

    def take(self) -> bool:
        """Make the lock file. False where somebody has the lock, OSError where there can be none (IMPOSSIBLE, FULL)."""
        new = self.temporary()
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAME_FILE, MODE)
        taken = False
        try:
            os.fchmod(fd, MODE)
            try:
                os.write(fd, b"%d\n" % os.getpid())
            except OSError as error:
                if error.errno not in FULL:
                    raise
                # A user deletes mail because there is no room: an empty lock is one as well, valid while it is young.
            taken = self.link(new, fd)
        finally:
            os.unlink(new)
            if not taken:
                os.close(fd)
        if taken:
            self.ours = fd
            self.keeper = Keeper(fd)
        return taken

    def link(self, new: str, fd: int) -> bool:
        """Give the new file the lock's name. False where another file has it. Raises OSError."""
        try:
            os.link(new, self.path, follow_symlinks=False)
        except OSError as error:
            if os.fstat(fd).st_nlink != 2:
                if error.errno == errno.EEXIST:
                    return False
                raise
        return os.fstat(fd).st_nlink == 2

    def release(self) -> None:
        """Remove the lock file, unless somebody broke our lock and another file has its name."""
        if self.keeper:
            self.keeper.end()
        try:
            if same(os.lstat(self.path), os.fstat(self.ours)):
                os.unlink(self.path)
        except OSError:
            pass  # what the lock was for is done. If the file is still there: our PID is in it, and will not live on
        finally:
            os.close(self.ours)
            self.ours = -1

    def judge(self, mailbox: int) -> str:
        """What a lock file of somebody else is, for a journal entry; a stale one is remembered (self.stale).

        Never to be called with the POSIX lock of the descriptor `mailbox` held: if the lock's name is a link to the
        mailbox, closing it would let go of that lock. Raises OSError.
        """
        self.forget_stale()
        try:
            if not stat.S_ISREG(os.lstat(self.path).st_mode):  # before the open: opening a device can do something
                return f"{self.path}, which is not a plain file"
            try:
                fd = os.open(self.path, os.O_RDONLY | SAME_FILE)
            except PermissionError:
                fd = os.open(self.path, os.O_PATH | SAME_FILE)  # its age counts
        except FileNotFoundError:
            return self.path  # a moment ago
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST and not same(found, os.fstat(mailbox)):
            if not valid(pid_in(fd), found):
                self.stale = fd
                return f"{self.path}, which is stale"
            os.close(fd)
            return self.path
        os.close(fd)
        return f"{self.path}, which is no lock file"  # a mailbox, perhaps: a user's whose name ends in .lock

    def in_the_way(self) -> bool:
        """Whether there is a lock file other than the one that was judged stale. Raises OSError."""
        try:
            found = os.lstat(self.path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
                return False
            raise
        return self.stale < 0 or not same(found, os.fstat(self.stale))

    def remove_stale(self) -> bool:
        """Remove the lock that was judged stale, and no other. False where there is none, or where it has to stay.

        The caller holds the mailbox's POSIX lock: nobody who takes that first, as Debian's programs do, can remove the
        same one and make a new one in between. For others, what the name was of is looked at once it has a name that
        only we know, and is put back if it is a new lock.
        """
        if self.stale < 0 or self.in_the_way():
            return False
        aside = self.temporary()
        try:
            os.rename(self.path, aside)
            if not same(os.lstat(aside), os.fstat(self.stale)):
                os.link(aside, self.path, follow_symlinks=False)
            os.unlink(aside)
        except OSError:
            return False
        self.forget_stale()
        return True

    def forget_stale(self) -> None:
        """Close the file of a lock that was judged stale."""
        if self.stale >= 0:
            os.close(self.stale)
            self.stale = -1

    def temporary(self) -> str:
        """A name in the mailbox's directory that nobody else has."""
        return f"{os.path.dirname(self.path)}/{TEMPORARY_PREFIX}{os.urandom(8).hex()}"


class Keeper:
    """Touches the lock file as long as we have it.

    In a thread, as neither a timer's handler nor the code that moves the mail comes to its turn while fsync(2) waits
    for a slow disk. Nobody waits for its end (half a millisecond): what it touches then is its own descriptor of a file
    that has no name.
    """

    def __init__(self, lock: int) -> None:
        """`lock`: a descriptor of the file."""
        self.fd = os.dup(lock)
        self.told = _thread.allocate_lock()  # to end
        self.told.acquire()
        try:
            _thread.start_new_thread(self.run, ())
        except RuntimeError:  # no more tasks to be had; few updates take 5 minutes
            os.close(self.fd)

    def run(self) -> None:
        try:
            while not self.told.acquire(timeout=TOUCH_EVERY):
                os.utime(self.fd)
        except OSError:
            pass  # as good as no thread
        finally:
            os.close(self.fd)

    def end(self) -> None:
        """Touch it no more."""
        self.told.release()


def valid(pid: int, lock: os.stat_result) -> bool:
    """Whether a lock with this PID in it (0: with none) is one."""
    if pid == 0 or pid == os.getpid():
        # Ours, and we have no lock: the number of a process before us, or of one in another PID namespace.
        return time.time() - lock.st_mtime < YOUNG
    try:
        # Not kill(2), which the unit's sandbox answers with EPERM, nor /proc, where it hides other users' processes.
        os.close(os.pidfd_open(pid))
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def pid_in(lock: int) -> int:
    """The PID that is written in a lock file, and nothing else; 0 for none. The descriptor may be an O_PATH one."""
    try:
        words = os.pread(lock, LARGEST, 0).strip(b"\0 \t\r\n")
    except OSError:
        return 0
    if not words.isdigit() or len(words) > len(str(HIGHEST_PID)):
        return 0
    pid = int(words)
    return pid if pid <= HIGHEST_PID else 0


def same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both are of one file."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
