"""A small file of popad's own beside an update's redo log, or in POPAD_CACHE: believed only as it was written.

It is a plain file of the user alone, and begins with a digest made with the directory's key, over its name and what
kind of file it is, too. What is damaged, cut, copied from another mailbox or made up has another digest. Where the last
octets are not sealed, they may be written later.
"""

import _blake2  # hashlib's own, without loading OpenSSL into each session
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.maildrop.private import PrivateFiles

DIGEST = 32  # octets
NEW = ".new"  # what the name ends with until the file is complete


def load(file: "PrivateFiles", name: str, kind: bytes, most: int, unsealed: int = 0) -> memoryview | None:
    """What store() has put into the file; None where it is not that, or has more than `most` octets.

    Raises ForeignFile for what is not a plain file of the user, OSError, FileNotFoundError where there is none.
    """
    fd = file.open(name)
    try:
        size = os.fstat(fd).st_size
        octets = os.read(fd, size) if size <= DIGEST + most else b""
    finally:
        os.close(fd)
    content = memoryview(octets)[DIGEST:]
    return content if octets[:DIGEST] == digest(file, name, kind, content, unsealed) else None


def store(file: "PrivateFiles", name: str, kind: bytes, content: bytes, durable: bool, unsealed: int = 0) -> None:
    """Write the file anew; whoever opens it has the old one or the new one, as a whole. Raises OSError.

    Two sessions may write the same new file, or one find what another left that died: then a name may be gone, or
    given to a file that is not complete yet, which nobody believes. Who holds the mailbox's lock is alone.
    """
    directory, new = file.directory.fd, f"{name}{NEW}"
    try:
        fd = create(file, new)
        try:
            if os.writev(fd, (digest(file, name, kind, content, unsealed), content)) != DIGEST + len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), new)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(new, name, src_dir_fd=directory, dst_dir_fd=directory)
        if durable:
            file.directory.sync()
    except OSError:
        remove(file, new)
        raise


def create(file: "PrivateFiles", name: str) -> int:
    """A new, empty file, in place of what may be there. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, 0o600, dir_fd=file.directory.fd)
    except FileExistsError:
        remove(file, name)
        return os.open(name, flags, 0o600, dir_fd=file.directory.fd)


def remove(file: "PrivateFiles", name: str) -> None:
    """A file of the directory, if it is there and the user's."""
    try:
        os.unlink(name, dir_fd=file.directory.fd)
    except OSError:
        pass


def digest(file: "PrivateFiles", name: str, kind: bytes, content: bytes | memoryview, unsealed: int) -> bytes:
    """Of what stands behind it in the file, but the last octets, and of whose it is. `kind`: 16 octets at most."""
    hashed = _blake2.blake2b(name.encode(), digest_size=DIGEST, key=file.directory.key, person=kind)
    hashed.update(memoryview(content)[: len(content) - unsealed])
    return hashed.digest()
