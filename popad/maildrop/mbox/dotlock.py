"""The lock file MAILBOX.lock beside an mbox: how popad makes it, judges one that is there, and removes it.

Delivery programs of Debian lock a mailbox with it, besides fcntl(2). The rules are those of lockfile_create(3) of
liblockfile, with one addition: no lock file keeps a mailbox locked for ever.

- Making one: popad writes its PID to a file with a unique name in the same directory and gives it the lock's name by
  link(2), which is atomic on NFS, too. Whether that worked is read from the file's number of links, since NFS may lose
  the answer. While popad holds the lock it touches the file each minute, for programs that look only at its age.
- A lock file is valid while it is younger than 5 minutes, unless the PID in it is that of a process that has ended.
- It is valid up to 30 minutes if the PID in it belongs to a living process that started before the file was made. A
  younger process, or any process after a restart of the machine, has got that number by chance. After 30 minutes
  without a touch Debian's delivery programs themselves take a lock file for stale (postfix after 500 seconds, procmail
  after 1024, exim after 30 minutes).
- The PID is used only where all programs that deliver see the same processes (processes_are_known). Elsewhere, in a
  container say, only the age is.
- Any other lock file is stale and is removed; remove_stale() makes sure that it does not remove a newer one that has
  taken its place.
- Two kinds of file are no lock and are never removed. One begins with `From ` or is larger than a lock file can be: it
  is the mailbox of a user whose name ends in .lock. The other was made by another user in a directory where every user
  may make files: if it counted, any user could lock the mailboxes of all. Then the fcntl lock alone is taken; with
  POPAD_LOCKS=fcntl,dotlock the mailbox is refused.

No symbolic link is followed. If the lock's name belongs to something that is not a plain file, or to a link to the
mailbox, somebody locks the mailbox in a way of their own: popad waits for that, and never removes it.
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
OLD = 1800  # seconds without a touch after which no lock is valid: exim's, the most patient of Debian's programs
FUTURE = 86400  # seconds that the clocks of two machines differ at most: of a later one the age is not known
CLOCK_SET = 10  # seconds that a clock may be set right by between a lock and a look at it
TOUCH_EVERY = 60  # seconds; lockfile_create(3): "every minute or so"
LARGEST = 512  # octets of what may be a lock: a PID, perhaps with a host's name
MAILBOX = b"From "
HIGHEST_PID = 2**31 - 1
FIRST_NAMESPACE = 0xEFFFFFFC  # PROC_PID_INIT_INO of the kernel: the inode of the machine's own PID namespace
NO_PROCESS = (errno.ESRCH, errno.EINVAL, errno.ENOENT)  # pidfd_open(2); the two for the number of a thread
# What has the lock's name, as the journal says it.
VALID, STALE = "", "which is stale"
NOT_PLAIN, LINK = "which is not a plain file", "which is a link to the mailbox"
NO_LOCK, FOREIGN = "which is no lock file", "which somebody else has made"
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
        self.void = -1  # what has the lock's name and does not count: open, so that no other file can get its inode
        self.stale = False  # whether that is a lock, which may be removed
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
        """What a lock file of somebody else is, for a journal entry; one that does not count is remembered (self.void).

        Never to be called with the POSIX lock of the descriptor `mailbox` held: if the lock's name is a link to the
        mailbox, closing it would let go of that lock. Raises OSError.
        """
        self.forget_void()
        try:
            fd = os.open(self.path, os.O_PATH | SAME_FILE)  # of any kind: another open of a device can do something
        except FileNotFoundError:
            return self.path  # a moment ago
        kind = self.kind_of(os.fstat(fd), os.fstat(mailbox))
        if kind in (STALE, NO_LOCK, FOREIGN):
            self.void, self.stale = fd, kind == STALE
        else:
            os.close(fd)
        return f"{self.path}, {kind}" if kind else self.path

    def kind_of(self, lock: os.stat_result, mailbox: os.stat_result) -> str:
        """What the file with the lock's name is, by how it looks and what is in it. Raises OSError."""
        if self.is_foreign(lock, mailbox):
            return FOREIGN
        if not stat.S_ISREG(lock.st_mode):
            return NOT_PLAIN
        if same(lock, mailbox):
            return LINK
        if lock.st_size > LARGEST:
            return NO_LOCK
        try:
            fd = os.open(self.path, os.O_RDONLY | SAME_FILE)
        except FileNotFoundError:
            return VALID  # a moment ago
        except PermissionError:
            return VALID if is_young(lock) else NO_LOCK  # or a mailbox: it is never removed
        try:
            text = os.pread(fd, LARGEST, 0)
            if not same(os.fstat(fd), lock):
                return VALID  # another one by now
        finally:
            os.close(fd)
        if text.startswith(MAILBOX):
            return NO_LOCK
        return VALID if is_valid(pid_in(text), lock) else STALE

    def is_foreign(self, lock: os.stat_result, mailbox: os.stat_result) -> bool:
        """Whether it is one that anybody could have made."""
        directory = os.stat(os.path.dirname(self.path))
        trusted = (0, os.geteuid(), mailbox.st_uid, directory.st_uid)
        return bool(directory.st_mode & stat.S_IWOTH) and lock.st_uid not in trusted

    def in_the_way(self) -> bool:
        """Whether there is a lock file other than the one that was judged not to count. Raises OSError."""
        try:
            found = os.lstat(self.path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
                return False
            raise
        return self.void < 0 or not same(found, os.fstat(self.void))

    def name_is_taken(self) -> bool:
        """Whether there is what does not count and has to stay."""
        return self.void >= 0 and not self.stale and os.path.lexists(self.path) and not self.in_the_way()

    def remove_stale(self) -> bool:
        """Remove the lock that was judged stale, and no other. False where there is none, or where it has to stay.

        The caller holds the mailbox's POSIX lock: nobody who takes that first, as Debian's programs do, can remove the
        same one and make a new one in between. For others, what the name was of is looked at once it has a name that
        only we know, and is put back if it is a new lock.
        """
        if not self.stale or self.in_the_way():
            return False
        aside = self.temporary()
        try:
            os.rename(self.path, aside)
            if not same(os.lstat(aside), os.fstat(self.void)):
                os.link(aside, self.path, follow_symlinks=False)
            os.unlink(aside)
        except OSError:
            return False
        self.forget_void()
        return True

    def forget_void(self) -> None:
        """Close the file that was judged not to count."""
        if self.void >= 0:
            os.close(self.void)
            self.void, self.stale = -1, False

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


def is_valid(pid: int, lock: os.stat_result) -> bool:
    """Whether a lock with this PID in it (0: with none) is one."""
    if pid in (0, os.getpid()) or not processes_are_known():
        # With our own we have no lock: it is the number of a process before us.
        return is_young(lock)
    if not lives(pid):
        return False
    return is_young(lock) or (age(lock) < OLD and started(pid) < lock.st_mtime + CLOCK_SET)


def is_young(lock: os.stat_result) -> bool:
    """Whether it counts whatever the process that has made it does."""
    return -FUTURE < age(lock) < YOUNG


def age(lock: os.stat_result) -> float:
    """Seconds since it was made or touched."""
    return time.time() - lock.st_mtime


def lives(pid: int) -> bool:
    """Whether there is a process with this number. Not by kill(2), which the unit's sandbox answers with EPERM, nor by
    /proc, where it hides other users' processes.
    """
    try:
        os.close(os.pidfd_open(pid))
    except OSError as error:
        return error.errno not in NO_PROCESS
    return True


def started(pid: int) -> float:
    """When a process was started; where /proc hides it, when the machine was, which is earlier. Seconds, as time(2)."""
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return booted + int(fields[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5), where 3 is the first here
    except (OSError, IndexError, ValueError):
        return booted


def processes_are_known() -> bool:
    """Whether the PIDs in lock files are of processes here: popad is in the machine's own PID namespace, or in the one
    of a whole system (systemd has started it). The container of one application may share its mail with others.
    """
    try:
        if os.stat("/proc/self/ns/pid").st_ino == FIRST_NAMESPACE:
            return True
    except OSError:
        pass  # no /proc here
    return "INVOCATION_ID" in os.environ


def pid_in(text: bytes) -> int:
    """The PID that is all that a lock file says; 0 for none."""
    words = text.strip(b"\0 \t\r\n")
    if not words.isdigit() or len(words) > len(str(HIGHEST_PID)):
        return 0
    pid = int(words)
    return pid if pid <= HIGHEST_PID else 0


def same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both are of one file."""
    return (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
