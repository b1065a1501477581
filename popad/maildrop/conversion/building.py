"""What a target is built in: a file or a directory beside it, under a name that no other program has, until it is
complete and durable. Then it gets the target's name, in one step.

That name says whose it is. Who holds a lock on it (flock(2), which ends with the process) is building; what nobody
holds was left by a conversion that died. It is emptied and used again, if it is this user's and has nothing in it that
a conversion does not make.
"""

import errno
import fcntl
import os
import re
import stat

from popad.maildrop import id_list

SUFFIX = ".popad-convert"
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
TRIES = 100  # at a name that another conversion takes and leaves
PARTS = ("cur", "new", "tmp")
MADE = re.compile(r"[0-9]+\.R[0-9a-f]{16}Q[0-9]+\.")  # how the names begin that to_maildir.py gives
RENAME_NOREPLACE = 1  # linux/fs.h
NOT_THERE = (errno.EINVAL, errno.ENOSYS)  # a file system or a kernel without it


class NotConverted(Exception):
    """Nothing was converted, and nothing is left of the attempt. The text is for the administrator."""


class NothingThere(NotConverted):
    """There is no maildrop to convert."""


class Place:
    """The directory of a target, opened, and the target's name in it."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self.path = path.rstrip("/")
        self.directory, self.name = os.path.split(self.path)
        self.fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.unfinished = f".{self.name}{SUFFIX}"

    @property
    def unfinished_path(self) -> str:
        return os.path.join(self.directory, self.unfinished)

    def is_taken(self) -> bool:
        """Whether anything has the target's name. Raises OSError."""
        try:
            os.lstat(self.name, dir_fd=self.fd)
        except FileNotFoundError:
            return False
        return True

    def claim(self, *, directory: bool) -> int:
        """A descriptor of an empty file or directory, which is this process's until it ends.

        Raises NotConverted where it is another's, OSError.
        """
        for _ in range(TRIES):
            fd = self.open_directory() if directory else os.open(self.unfinished, FILE, 0o600, dir_fd=self.fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_named = self.has(fd)
                if is_named:
                    self.look_at(fd)
            except BlockingIOError:
                os.close(fd)
                raise NotConverted(f"another conversion is building {self.unfinished_path}") from None
            except BaseException:
                os.close(fd)
                raise
            if is_named:
                self.make_empty(fd)
                return fd
            os.close(fd)  # the conversion before has just given it up
        raise NotConverted(f"{self.unfinished_path} comes and goes")

    def open_directory(self) -> int:
        """Made where it is not there. Raises OSError."""
        try:
            os.mkdir(self.unfinished, 0o700, dir_fd=self.fd)
        except FileExistsError:
            pass
        return os.open(self.unfinished, DIRECTORY, dir_fd=self.fd)

    def has(self, fd: int) -> bool:
        """Whether the name is that of this file. Raises OSError."""
        try:
            return os.path.samestat(os.lstat(self.unfinished, dir_fd=self.fd), os.fstat(fd))
        except FileNotFoundError:
            return False

    def look_at(self, fd: int) -> None:
        """Raises NotConverted where it is not what a conversion of this user has made, OSError."""
        status = os.fstat(fd)
        if status.st_uid != os.geteuid():
            raise NotConverted(f"{self.unfinished_path} is another user's")
        if stat.S_ISDIR(status.st_mode):
            self.look_for_others(fd)
        elif not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise NotConverted(f"{self.unfinished_path} was not left by a conversion")

    def make_empty(self, fd: int) -> None:
        """Remove what a conversion has left that died. Raises OSError."""
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                empty_directory(fd)
            else:
                os.ftruncate(fd, 0)
        except OSError:
            self.give_up(fd)
            raise

    def look_for_others(self, fd: int) -> None:
        """Raises NotConverted where there is what no conversion makes, OSError."""
        strange = [name for name in os.listdir(fd) if name not in PARTS and not name.startswith(id_list.NAME)]
        for part in set(os.listdir(fd)) & set(PARTS):
            inner = os.open(part, DIRECTORY, dir_fd=fd)
            try:
                strange += [f"{part}/{name}" for name in os.listdir(inner) if part != "cur" or not MADE.match(name)]
            finally:
                os.close(inner)
        if strange:
            raise NotConverted(f"{self.unfinished_path}/{strange[0]} was not left by a conversion")

    def take_name(self) -> None:
        """What was built gets the target's name, durably. Raises OSError; FileExistsError where that is taken."""
        rename_to_free(self.unfinished, self.name, self.fd)
        os.fsync(self.fd)

    def give_up(self, fd: int) -> None:
        """Remove what was built, as far as that can be done, and close it."""
        try:
            if not self.has(fd):
                pass  # it has the target's name
            elif stat.S_ISDIR(os.fstat(fd).st_mode):
                empty_directory(fd)
                os.rmdir(self.unfinished, dir_fd=self.fd)
            else:
                os.unlink(self.unfinished, dir_fd=self.fd)
        except OSError:
            pass  # the next conversion does it
        finally:
            os.close(fd)

    def close(self) -> None:
        os.close(self.fd)


def empty_directory(fd: int) -> None:
    """Remove what a conversion makes in a directory. Raises OSError."""
    for name in os.listdir(fd):
        if name in PARTS:
            inner = os.open(name, DIRECTORY, dir_fd=fd)
            try:
                for file in os.listdir(inner):
                    os.unlink(file, dir_fd=inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=fd)
        else:
            os.unlink(name, dir_fd=fd)


def rename_to_free(name: str, becomes: str, directory: int) -> None:
    """Rename in a directory, where nothing has that name. Raises OSError, FileExistsError."""
    import ctypes

    names = os.fsencode(name), os.fsencode(becomes)
    if not ctypes.CDLL(None, use_errno=True).renameat2(directory, names[0], directory, names[1], RENAME_NOREPLACE):
        return
    number = ctypes.get_errno()
    if number not in NOT_THERE:
        raise OSError(number, os.strerror(number), becomes)
    try:
        os.link(name, becomes, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except PermissionError:  # a directory, which replaces none but an empty one
        os.rename(name, becomes, src_dir_fd=directory, dst_dir_fd=directory)
    else:
        os.unlink(name, dir_fd=directory)


def write_whole(fd: int, octets: bytes) -> None:
    """Raises OSError."""
    rest = memoryview(octets)
    while rest:
        rest = rest[os.write(fd, rest) :]
