"""A credentials file changed in place: one line put in, replaced or taken out, all others as they were.

Readers see the old file or the new one, never a part; so does who comes after a power failure. Two that change it at
once wait for one another. What is no regular file, or one that others may read or write, is not changed.
"""

import contextlib
import errno
import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

from popad.auth import credentials
from popad.auth.saslprep import prepared

ADDED, REPLACED, DELETED = "added", "replaced", "deleted"
NEW_MODE = 0o600


def change(path: str, lines: "Mapping[str, str | None]") -> dict[str, str]:
    """Have a line stand for each name in the file, or nothing (None). Returns what was done for each: ADDED, REPLACED,
    DELETED, or "" where there was nothing to delete.

    All of it is done at once. Raises FileWrong and OSError; then the file is as it was.
    """
    done: dict[str, str] = {}
    with locked(path, make=any(line is not None for line in lines.values())) as fd:
        text, _ = credentials.read(path)
        for name, line in lines.items():
            text, done[name] = with_line(text, name, line)
        if any(done.values()):
            replace(path, text, os.fstat(fd))
    return done


@contextlib.contextmanager
def locked(path: str, *, make: bool) -> "Iterator[int]":
    """The file's descriptor, while nobody else changes it (flock(2)). `make`: it need not be there before.

    Raises OSError.
    """
    while True:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | (os.O_CREAT if make else 0), NEW_MODE)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(fd), os.lstat(path)):
                yield fd
                return
        except FileNotFoundError:
            pass  # gone while the lock was waited for: look again
        finally:
            os.close(fd)


def with_line(text: str, name: str, line: str | None) -> tuple[str, str]:
    """The text with `line` in place of each line of this name, or behind all others; and what was done.

    A maildrop that the name's line has stays.
    """
    kept: list[str] = []
    found = False
    for each in text.split("\n"):
        fields = each.split()
        if not fields or prepared(fields[0].encode()).decode() != name:
            kept.append(each)
            continue
        if line is not None and not found:
            kept.append(" ".join([line, *fields[2:3]]))
        found = True
    if found:
        return "\n".join(kept), REPLACED if line is not None else DELETED
    if line is None:
        return text, ""
    return text + "\n" * (not text.endswith("\n") and bool(text)) + line + "\n", ADDED


def replace(path: str, text: str, like: os.stat_result) -> None:
    """Put a new file in the place of the old one, with its owner and mode. Raises OSError."""
    place, name = os.path.split(os.path.abspath(path))
    new = os.path.join(place, f".{name}.{os.urandom(8).hex()}")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, NEW_MODE)
    try:
        with open(fd, "w", encoding="utf-8", newline="") as file:
            if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, like.st_uid, like.st_gid)
            os.fchmod(fd, like.st_mode & 0o7777)
            file.write(text)
            file.flush()
            os.fsync(fd)
        os.rename(new, path)
    except OSError as error:
        os.unlink(new)
        if error.errno == errno.EBUSY:
            raise OSError(error.errno, "is mounted by itself and cannot be replaced: mount its directory") from error
        raise
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
