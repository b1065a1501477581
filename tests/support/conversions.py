"""A user's maildrops in a directory, one of each format: converted into each other, and served as sessions do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from popad.maildrop.conversion.conversion import convert
from popad.maildrop.conversion.report import Report
from popad.maildrop.maildir.store import Maildir
from popad.maildrop.maildrop import Store
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.open import open_store
from popad.maildrop.private import SharedDirectory
from popad.protocol.replies import body
from popad.settings import Settings


@dataclass(frozen=True)
class Shown:
    """What a client is told of a message, and gets."""

    unique_id: str
    size: int
    wire: bytes


class Mails:
    """`mbox` and `maildir` in a directory, with POPAD_STATE and POPAD_CACHE beside them."""

    def __init__(self, place: Path, **settings: str) -> None:
        self.place = place
        self.mbox, self.maildir = place / "mbox", place / "maildir"
        self.state_path, self.cache_path = place / "state", place / "cache"
        for directory in (self.state_path, self.cache_path):
            directory.mkdir(exist_ok=True)
            directory.chmod(0o1733)
        self.state, self.cache = SharedDirectory(str(self.state_path)), SharedDirectory(str(self.cache_path))
        self.settings = Settings(
            {"POPAD_LOCKS": "fcntl", "POPAD_LOCK_TIMEOUT": "1", "POPAD_MAILDIR_SEEN": "no", **settings}
        )
        self.told: list[tuple[int, int]] = []

    def close(self) -> None:
        self.state.close()
        self.cache.close()

    def make_maildir(self) -> None:
        for part in ("new", "cur", "tmp"):
            (self.maildir / part).mkdir(parents=True)

    def deliver(self, name: str, content: bytes, part: str = "new") -> Path:
        path = self.maildir / part / name
        path.write_bytes(content)
        return path

    def name(self, path: Path) -> str:
        """As POPAD_MAILDROP has it."""
        return f"{'mbox' if path.name.startswith('mbox') else 'maildir'}:{path}"

    def convert(self, source: Path, target: Path, *, renames: bool = False, writes_flags: bool = False) -> Report:
        tell = lambda done, count: self.told.append((done, count))  # noqa: E731 - short
        names = self.name(source), self.name(target)
        return convert(*names, self.settings, self.state, tell, renames=renames, writes_flags=writes_flags)

    def to_maildir(self, **how: bool) -> Report:
        return self.convert(self.mbox, self.maildir, **how)

    def to_mbox(self, **how: bool) -> Report:
        return self.convert(self.maildir, self.mbox, **how)

    @contextmanager
    def opened(self, path: Path) -> Iterator[Store]:
        """A session's store."""
        store = open_store(self.name(path), self.settings, self.state, self.cache)
        try:
            yield store
        finally:
            store.finish(wait=True)
            if isinstance(store, Maildir):
                store.directories.close()
            elif isinstance(store, Mbox) and store.fd >= 0:
                os.close(store.fd)

    def shown(self, path: Path) -> list[Shown]:
        """A session that retrieves all."""
        with self.opened(path) as store:
            texts = store.unique_ids()
            return [Shown(texts[index], store.sizes[index], wire(store, index)) for index in range(len(store.sizes))]

    def left(self) -> set[str]:
        """What is in the directory but for POPAD_STATE and POPAD_CACHE."""
        return {path.name for path in self.place.iterdir()} - {"state", "cache"}


def wire(store: Store, index: int) -> bytes:
    """A message as it is sent, without dots stuffed."""
    sent = b"".join(body(store.content(index)))
    return (sent[1:] if sent.startswith(b"..") else sent).replace(b"\r\n..", b"\r\n.")
