"""POPAD_STATE and POPAD_CACHE for who only looks: nothing is made there, opened for writing, or taken away."""

import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

from popad.maildrop.private import KEY, KEY_OCTETS, PrivateFiles, SharedDirectory


class SeenDirectory(SharedDirectory):
    """The directory, which must have its key. Raises OSError; FileNotFoundError where no session has begun yet."""

    def make_key(self) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), KEY)

    @property
    def is_of_others(self) -> bool:
        """Whether its names cannot be known, as only root may read the key."""
        return self.key == bytes(KEY_OCTETS)

    def files_of(self, mailbox: str) -> "SeenFiles":
        files = super().files_of(mailbox)
        return SeenFiles(self, files.names[0], mailbox)


class SeenFiles(PrivateFiles):
    """The files of one mailbox there."""

    access = os.O_RDONLY

    def kept_name(self, name: str) -> str:
        """What keep() would call it."""
        number = 1
        while self.directory.has(kept := f"{name}.kept{number}"):
            number += 1
        return kept


class Empty(SeenDirectory):
    """One that no session has used yet, or whose names cannot be known: nothing is in it."""

    def __init__(self) -> None:
        self.fd = -1
        self.key = b"none"

    def has(self, name: str) -> bool:
        return False

    def files_of(self, mailbox: str) -> SeenFiles:
        return Nothing(self, "", mailbox)


class Nothing(SeenFiles):
    """No file."""

    def open(self, name: str) -> int:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def seen_or_empty(path: str) -> SeenDirectory:
    """The directory at `path`. Raises OSError where sessions cannot use it, either."""
    try:
        return SeenDirectory(path)
    except FileNotFoundError as missing:
        if missing.filename == KEY:
            return Empty()
        raise
