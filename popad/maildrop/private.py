"""Files in directories that all users share: POPAD_STATE, with the redo logs of updates, and POPAD_CACHE. A session
opens the directories as root, and uses them as the user.

Every user may make a file there, and nobody see or remove another's (mode 1733). Names are made with a key that only
root can read, so that nobody can take another user's name first and keep that user's deletions from happening. The
directory is opened before the session gives root up, because making a new name durable takes fsync(2) on the
directory, and the user may not open it.
"""

import _blake2  # hashlib's own, without loading OpenSSL into each session
import errno
import fcntl
import os
import stat
import sys
import time

from popad.errors import MaildropUnavailable

KEY = ".key"
KEY_OCTETS = 32
TRIES = 1000  # at a name that a user keeps changing between a directory and nothing, each time just in time
PATIENCE, PAUSE = 5.0, 0.002  # seconds to wait for others that make the key, and between two looks
RENAME_EXCHANGE = 2  # linux/fs.h
SAME_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Octets that a mailbox's updates have in advance: with them 5 MB move in 90 windows.
SPARE = 1 << 16
# The room that root keeps for users whose mailbox has none yet, when the disk is full: of a few of them. What they then
# delete is room for others.
RESERVE, RESERVE_OCTETS = ".reserve", 4 * SPARE
ENOUGH = 4 * RESERVE_OCTETS  # octets free for users from which on it is made
FS_IOC_GETVERSION = 0x80087601 if sys.maxsize > 1 << 32 else 0x80047601  # linux/fs.h: _IOR('v', 1, long)


class ForeignFile(Exception):
    """The redo log cannot be one of this mailbox and this user: it must not be applied. The text is for the journal."""


class SharedDirectory:
    """POPAD_STATE or POPAD_CACHE, opened, and the key of the names in it."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        flags = os.O_DIRECTORY | os.O_CLOEXEC
        try:
            self.fd = os.open(path, os.O_RDONLY | flags)
        except PermissionError:
            if os.geteuid() == 0:
                raise
            self.fd = os.open(path, os.O_PATH | flags)  # one uid, and another's directory
        try:
            self.key = self.read_key()
        except BaseException:
            os.close(self.fd)
            raise

    def read_key(self) -> bytes:
        """The key, made if it is not there. Raises OSError where it cannot be believed.

        As root: before there is a key, any user may put something in its place. That must not keep everybody out.
        """
        try:
            if os.geteuid() == 0 and os.lstat(KEY, dir_fd=self.fd).st_uid != 0:
                self.make_key()
            fd = os.open(KEY, os.O_RDONLY | SAME_FILE, dir_fd=self.fd)
        except FileNotFoundError:
            self.make_key()
            fd = os.open(KEY, os.O_RDONLY | SAME_FILE, dir_fd=self.fd)
        except PermissionError:
            if os.geteuid() == 0:
                raise
            return bytes(KEY_OCTETS)  # one uid: there are no other users' names to guard
        try:
            status = os.fstat(fd)
            key = os.read(fd, KEY_OCTETS + 1)
        finally:
            os.close(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "not a file of this user alone", KEY)
        if len(key) != KEY_OCTETS:
            raise OSError(errno.EIO, f"not of {KEY_OCTETS} octets", KEY)
        return key

    def make_key(self) -> None:
        """A new key, complete and durable before it has its name. Where several sessions make one, the first counts."""
        new = f"{KEY}.{os.urandom(8).hex()}"  # a name that nobody can have taken
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAME_FILE, 0o600, dir_fd=self.fd)
        try:
            os.write(fd, os.urandom(KEY_OCTETS))
            os.fsync(fd)
            if os.geteuid() == 0:
                self.put_in_place(new)
            else:
                os.link(new, KEY, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)
        except FileExistsError:
            pass
        finally:
            os.close(fd)
            try:
                os.unlink(new, dir_fd=self.fd)
            except (FileNotFoundError, IsADirectoryError):
                pass  # it has its name; a directory of somebody else has this one
        self.sync()

    def put_in_place(self, new: str) -> None:
        """As root: give the new key its name, whatever users do to that name meanwhile. Raises OSError.

        A name that is taken is never free in between, or the next user would be there first: rename(2) replaces a file,
        renameat2(2) changes places with a directory. One root at a time does so: the lock is on the directory, which
        no user may open. On a file system of several hosts it may be a lock of this one alone, so a name that is free
        is taken by link(2), which replaces nothing: all hosts must have one key.
        """
        lock(self.fd)
        try:
            for _ in range(TRIES):
                try:
                    return os.link(new, KEY, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)
                except OSError:
                    pass  # it is taken; or this file system has no links
                try:
                    if os.lstat(KEY, dir_fd=self.fd).st_uid == 0:
                        raise FileExistsError(errno.EEXIST, "another session has made it", KEY)
                except FileNotFoundError:
                    pass
                try:
                    return os.rename(new, KEY, src_dir_fd=self.fd, dst_dir_fd=self.fd)
                except IsADirectoryError:
                    pass
                try:
                    return exchange(new, KEY, self.fd)
                except FileNotFoundError:
                    pass
            raise OSError(errno.EBUSY, "somebody puts things in its place", KEY)
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)

    def sync(self) -> None:
        """Make names that came or went durable.

        Not without root in another's directory: there a redo log's name is as durable as fsync of the file makes it (on
        ext4, XFS and btrfs it does). sync(2) would wait for all that the machine writes.
        """
        try:
            os.fsync(self.fd)
        except OSError as error:
            if error.errno != errno.EBADF:  # O_PATH
                raise

    def tend_reserve(self) -> None:
        """As root: have the reserve while the disk has room, and give it up when users have less than a spare takes.

        A name that a user has taken is freed the same way. What fails leaves less room, and nothing else.
        """
        if os.geteuid() != 0:
            return
        try:
            disk = os.fstatvfs(self.fd)
            free = disk.f_bavail * disk.f_frsize
            if free < SPARE:
                os.unlink(RESERVE, dir_fd=self.fd)
            elif free >= ENOUGH and not self.has(RESERVE):
                fd = os.open(RESERVE, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAME_FILE, 0o600, dir_fd=self.fd)
                try:
                    os.posix_fallocate(fd, 0, RESERVE_OCTETS)
                finally:
                    os.close(fd)
        except OSError:
            pass

    def has(self, name: str) -> bool:
        """Whether anything has this name. Raises OSError where that cannot be told."""
        try:
            os.lstat(name, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def close(self) -> None:
        """For a process that need not know it any more."""
        os.close(self.fd)
        self.key = b""

    def files_of(self, mailbox: str) -> "PrivateFiles":
        """Where this process's user keeps the redo log of an update of the mailbox at this path."""
        directory, name = os.path.split(mailbox)
        path = os.fsencode(os.path.join(os.path.realpath(directory), name))
        return PrivateFiles(self, self.name_of(path), mailbox)

    def name_of(self, what: bytes) -> str:
        """A name that is this user's, and that nobody can know without the key."""
        return f"{os.geteuid()}-{_blake2.blake2b(what, digest_size=16, key=self.key).hexdigest()}"


def generation(fd: int) -> int:
    """What tells a file from others that have, or had, the same inode number; 0 where the file system has no such."""
    try:
        return int.from_bytes(fcntl.ioctl(fd, FS_IOC_GETVERSION, bytes(8))[:4], sys.byteorder)
    except OSError:
        return 0


def lock(fd: int) -> None:
    """Lock a directory, within PATIENCE. Raises OSError."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(PAUSE)


def exchange(one: str, other: str, directory: int) -> None:
    """Two names in a directory change places. Raises OSError; FileNotFoundError, if one of them is not there."""
    import ctypes  # seldom: once in the life of a directory at most

    names = os.fsencode(one), os.fsencode(other)
    if ctypes.CDLL(None, use_errno=True).renameat2(directory, names[0], directory, names[1], RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), other)


def of_updates(path: str) -> SharedDirectory | MaildropUnavailable:
    """The directory of redo logs, or why it cannot be had: for the user to hear, not root to act on."""
    try:
        return SharedDirectory(path)
    except OSError as error:
        return MaildropUnavailable("SYS/TEMP", f"POPAD_STATE: {error}")


def of_indexes(path: str) -> SharedDirectory | None:
    """The directory of what is learnt of mailboxes (POPAD_CACHE), guarded like the other; None without one."""
    try:
        return SharedDirectory(path) if path else None
    except OSError:
        return None  # `popad check` says so; sessions are only slower


class PrivateFiles:
    """The files of one mailbox in a shared directory: the redo log of its updates, and what is kept beside it.

    It has two names to choose from: where another user's file stands under the first (put there by root; nobody else
    can guess it), that file can be neither believed nor removed, and must not keep the user from deleting mail.

    They are of the mailbox's path. A mailbox that has several names has two of the file itself instead, for a session
    that comes by another name. Not each mailbox: its path is what stays when a program replaces the file, and is the
    same on all file systems and after each restart.
    """

    access = os.O_RDWR

    def __init__(self, directory: SharedDirectory, name: str, mailbox: str) -> None:
        self.directory = directory
        self.names = [name, f"{name}+"]
        self.names_of_file: list[str] = []
        self.spare = f"{name}.spare"
        self.list = f"{name}.list"  # id_list.py
        self.mailbox = mailbox

    def names_of(self, mailbox: int) -> list[str]:
        """All names that the redo log of this file, which is open, may have. Raises OSError."""
        if not self.names_of_file:
            name = self.directory.name_of(b"file %d %d" % (os.fstat(mailbox).st_ino, generation(mailbox)))
            self.names_of_file = [name, f"{name}+"]
        return [*self.names, *self.names_of_file]

    def exists(self, mailbox: int) -> bool:
        """Whether an update of this file has begun and not ended. Raises OSError where that cannot be told."""
        return any(map(self.directory.has, self.names_of(mailbox)))

    def create(self, several: bool = False) -> tuple[str, int]:
        """The spare, which gets the name of a redo log, or a new file. `several`: the mailbox has several names.

        Raises OSError, FileExistsError if there is a redo log.
        """
        name = (self.names_of_file if several else self.names)[0]
        if self.directory.has(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        try:
            fd = self.open(self.spare)
        except (FileNotFoundError, ForeignFile):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | SAME_FILE
            return name, os.open(name, flags, 0o600, dir_fd=self.directory.fd)
        try:
            os.rename(self.spare, name, src_dir_fd=self.directory.fd, dst_dir_fd=self.directory.fd)
        except BaseException:
            os.close(fd)
            raise
        return name, fd

    def put_away(self, name: str) -> None:
        """A redo log that is not needed any more is the next one's room. Raises OSError."""
        try:
            os.rename(name, self.spare, src_dir_fd=self.directory.fd, dst_dir_fd=self.directory.fd)
        except OSError:
            os.unlink(name, dir_fd=self.directory.fd)

    def keep_room(self) -> None:
        """Have a spare, if there is room for it now: there may be none when an update needs it."""
        try:
            if os.lstat(self.spare, dir_fd=self.directory.fd).st_size >= SPARE:
                return
        except FileNotFoundError:
            pass
        try:
            fd = os.open(self.spare, os.O_RDWR | os.O_CREAT | SAME_FILE, 0o600, dir_fd=self.directory.fd)
            try:
                os.posix_fallocate(fd, 0, SPARE)
            finally:
                os.close(fd)
        except OSError:
            pass  # an update takes what room there is

    def open(self, name: str) -> int:
        """The file that is there, if it is a plain one of this user that nobody else could write.

        Raises ForeignFile for any other, FileNotFoundError where there is none, OSError.
        """
        try:
            fd = os.open(name, self.access | SAME_FILE, dir_fd=self.directory.fd)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise ForeignFile(f"{name} is not a file of this user") from error
            raise
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
            os.close(fd)
            raise ForeignFile(f"{name} is not a plain file of this user")
        if status.st_mode & 0o077:
            os.close(fd)
            raise ForeignFile(f"others may read or write {name}")
        return fd

    def keep(self, name: str) -> str:
        """Take a file that must not be applied out of the way, for good. Returns its name.

        One that cannot be renamed stays, and counts no more in this session.
        """
        number = 1
        while self.directory.has(kept := f"{name}.kept{number}"):
            number += 1
        try:
            os.rename(name, kept, src_dir_fd=self.directory.fd, dst_dir_fd=self.directory.fd)
        except OSError:
            for names in (self.names, self.names_of_file):
                if name in names and len(names) > 1:
                    names.remove(name)
            return name
        self.directory.sync()  # what comes back with the power would be judged again, by a mailbox that has changed
        return kept
