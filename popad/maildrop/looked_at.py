"""POPAD_STATE and POPAD_CACHE for who only looks: nothing is made there, opened for writing, or taken away."""

import errno
import os

from popad.maildrop.private import KEY, KEY_OCTETS, PrivateFiles, SharedDirectory


class SeenDirectory(SharedDirectory):
    """The directory. Where no session has begun yet it has no key: then with one for this look alone, nothing is in it.

    Raises OSError.
    """

    def read_key(self) -> bytes:
        try:
            return super().read_key()
        except FileNotFoundError:
            return os.urandom(KEY_OCTETS)

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
    """One whose names cannot be known, or that is not there: nothing is in it."""

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
