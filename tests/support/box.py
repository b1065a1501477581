"""A mailbox with a state and a cache directory of its own: what tests of the mbox store open, change and look at."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from popad.errors import MaildropUnavailable
from popad.maildrop.maildrop import Recovery
from popad.maildrop.mbox import ids, recovery, update
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.private import KEY, PrivateFiles, SharedDirectory

ONE = b"From a\nDate: 1\n\nbody 1\n\n"
TWO = b"From b\nDate: 2\n\nbody 2\n\n"
THREE = b"From c\nDate: 3\n\nbody 3\n\n"
ALL = ONE + TWO + THREE
MOST = 1000  # messages


class Watched(Mbox):
    """Counts the octets of the mailbox that are read."""

    octets = 0

    def read(self, count: int, offset: int) -> bytes:
        block = super().read(count, offset)
        self.octets += len(block)
        return block


class Box:
    """`content` is None where there is no file yet; with `cached` sessions leave an index and use it."""

    def __init__(self, path: Path, content: bytes | None = ALL, *, name: str = "mailbox", cached: bool = False) -> None:
        self.path = path / name
        if content is not None:
            self.path.write_bytes(content)
        self.state_path, self.cache_path = path / "state", path / "cache"
        for directory in (self.state_path, self.cache_path):
            directory.mkdir(exist_ok=True)
        self.state, self.cache = SharedDirectory(str(self.state_path)), SharedDirectory(str(self.cache_path))
        self.files = self.state.files_of(str(self.path))
        self.cached = cached

    def close(self) -> None:
        os.close(self.state.fd)
        os.close(self.cache.fd)

    # -- what is kept of it

    @property
    def index_files(self) -> PrivateFiles:
        return self.cache.files_of(str(self.path))

    @property
    def index(self) -> Path:
        return self.cache_path / self.index_files.names[0]

    @property
    def indexes(self) -> list[str]:
        """All that is in the cache directory besides its key."""
        return sorted(path.name for path in self.cache_path.iterdir() if path.name != KEY)

    @property
    def redo_log(self) -> Path:
        return self.state_path / self.files.names[0]

    @property
    def redo_logs(self) -> list[str]:
        """All that is in the state directory besides its key, the room for a redo log and the unique-ids."""
        names = (path.name for path in self.state_path.iterdir())
        return sorted(name for name in names if name != KEY and not name.endswith((".spare", ids.SUFFIX)))

    @property
    def spare(self) -> Path:
        return self.state_path / self.files.spare

    @property
    def ids(self) -> Path:
        return self.state_path / f"{self.files.names[0]}{ids.SUFFIX}"

    # -- what others do to it

    @property
    def content(self) -> bytes:
        return self.path.read_bytes()

    def fill(self, content: bytes) -> None:
        """A new mailbox, of which nothing is kept."""
        self.path.write_bytes(content)
        for left in self.state_path.iterdir():
            if left.name != KEY:
                left.unlink()

    def append(self, *messages: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(messages))

    def write(self, octets: bytes, place: int) -> None:
        """Change octets where they are."""
        with self.path.open("r+b") as file:
            file.seek(place)
            file.write(octets)

    def replace(self, octets: bytes) -> None:
        fresh = self.path.with_name("fresh")
        fresh.write_bytes(octets)
        fresh.rename(self.path)

    # -- sessions

    def open(
        self,
        cached: bool | None = None,
        *,
        lock_timeout: float = 1,
        max_messages: int = MOST,
        max_octets: int = 0,
        former: tuple[str, str] | None = None,
    ) -> Watched:
        cache = self.index_files if (self.cached if cached is None else cached) else None
        return Watched(str(self.path), self.files, lock_timeout, max_messages, max_octets, cache=cache, former=former)

    def refusal(self, **limits: Any) -> MaildropUnavailable:
        with pytest.raises(MaildropUnavailable) as unavailable:
            self.open(**limits)
        return unavailable.value

    def unique_ids(self) -> list[int]:
        return [*self.open().id_numbers()]

    def learn(self, unique_ids: bool = True) -> Watched:
        """A session that leaves an index."""
        store = self.open()
        if unique_ids:
            store.id_numbers()
        assert self.index.exists()
        return store

    def delete(self, *numbers: int) -> Watched:
        """A session that deletes these messages, counted from 1."""
        store = self.open()
        store.remove(marks(store, *numbers))
        return store

    # -- updates without a session

    @contextmanager
    def opened(self) -> Iterator[int]:
        fd = os.open(self.path, os.O_RDWR)
        try:
            yield fd
        finally:
            os.close(fd)

    def remove(self, spans: list[tuple[int, int]]) -> None:
        with self.opened() as fd:
            update.remove(fd, spans, self.files)

    def recover(self) -> Recovery:
        with self.opened() as fd:
            return recovery.recover(fd, self.files)

    @property
    def unfinished(self) -> bool:
        """Whether there is a redo log, under whatever name."""
        with self.opened() as fd:
            return self.files.exists(fd)


def texts(store: Mbox) -> list[bytes]:
    return [b"".join(store.content(number)) for number in range(len(store.sizes))]


def marks(store: Mbox, *numbers: int) -> bytearray:
    """What remove() takes for these messages, counted from 1."""
    return bytearray(number + 1 in numbers for number in range(len(store.sizes)))
