"""POPAD_STATE: the directory where updates keep their journals. Opened by the session as root, used by the user.

Every user may make a file there, and nobody see or remove another's (mode 1733). Names are made with a key that only
root can read, so that nobody can take another user's name first and keep that user's deletions from happening. The
directory is opened before the session gives root up, because making a new name durable takes fsync(2) on the
directory, and the user may not open it.
"""

import _blake2  # hashlib's own, without loading OpenSSL into each session
import errno
import os
import stat

KEY = ".key"
KEY_OCTETS = 32
SAME_FILE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class JournalForeign(Exception):
    """The journal cannot be one of this mailbox and this user: it must not be applied. The text is for the journal."""


class State:
    """The open directory and the key of its names."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        try:
            self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            if os.geteuid() == 0:
                raise
            self.fd = os.open(
                path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            )  # one uid: no fsync of another's directory
        self.key = self.read_key()

    def read_key(self) -> bytes:
        """The key, made if it is not there. Raises OSError where it cannot be believed."""
        try:
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
            key = os.read(fd, KEY_OCTETS)
        finally:
            os.close(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "not a file of this user alone", KEY)
        if len(key) != KEY_OCTETS:
            raise OSError(errno.EIO, "too short", KEY)
        return key

    def make_key(self) -> None:
        """A new key, complete and durable before it has its name; where two sessions make one, the first counts."""
        new = f"{KEY}.{os.getpid()}"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAME_FILE, 0o600, dir_fd=self.fd)
        try:
            os.write(fd, os.urandom(KEY_OCTETS))
            os.fsync(fd)
            try:
                os.link(new, KEY, src_dir_fd=self.fd, dst_dir_fd=self.fd, follow_symlinks=False)
            except FileExistsError:
                pass
        finally:
            os.close(fd)
            os.unlink(new, dir_fd=self.fd)
        self.sync()

    def sync(self) -> None:
        """Make names that came or went durable."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            if error.errno != errno.EBADF:  # O_PATH
                raise

    def journal_of(self, mailbox: str) -> "Journal":
        """Where this process's user keeps the journal of an update of the mailbox at this path."""
        directory, name = os.path.split(mailbox)
        path = os.fsencode(os.path.join(os.path.realpath(directory), name))
        return Journal(
            self, f"{os.geteuid()}-{_blake2.blake2b(path, digest_size=16, key=self.key).hexdigest()}", mailbox
        )


class Journal:
    """The journal file of one mailbox's updates: `name` in the state directory."""

    def __init__(self, state: State, name: str, mailbox: str) -> None:
        self.state = state
        self.name = name
        self.mailbox = mailbox

    def exists(self) -> bool:
        """Whether an update has begun and not ended. Raises OSError where that cannot be told."""
        try:
            os.lstat(self.name, dir_fd=self.state.fd)
        except FileNotFoundError:
            return False
        return True

    def create(self) -> int:
        """A new, empty file. Raises OSError, FileExistsError if there is one."""
        return os.open(self.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | SAME_FILE, 0o600, dir_fd=self.state.fd)

    def open(self) -> int:
        """The file that is there, if it is a plain one of this user that nobody else could write.

        Raises JournalForeign for any other, FileNotFoundError where there is none, OSError.
        """
        try:
            fd = os.open(self.name, os.O_RDWR | SAME_FILE, dir_fd=self.state.fd)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.ELOOP, errno.ENXIO, errno.EISDIR):
                raise JournalForeign(f"{self.name} is not a file of this user") from error
            raise
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
            os.close(fd)
            raise JournalForeign(f"{self.name} is not a plain file of this user")
        if status.st_mode & 0o077:
            os.close(fd)
            raise JournalForeign(f"others may read or write {self.name}")
        return fd

    def remove(self) -> None:
        """The file is not needed any more."""
        os.unlink(self.name, dir_fd=self.state.fd)

    def keep(self) -> str:
        """Take a file that must not be applied out of the way. Returns its name, the same where that is not allowed."""
        number = 1
        while True:
            kept = f"{self.name}.kept{number}"
            try:
                os.link(self.name, kept, src_dir_fd=self.state.fd, dst_dir_fd=self.state.fd, follow_symlinks=False)
                self.remove()
            except FileExistsError:
                number += 1
            except OSError:
                return self.name
            else:
                return kept
