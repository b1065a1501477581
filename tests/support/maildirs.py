"""A Maildir with a cache of its own: what tests deliver into it, do to it as other programs, and open."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from popad.maildrop.maildir.store import Maildir
from popad.maildrop.private import SharedDirectory
from popad.protocol.replies import body
from tests.support import forked

MOST = 1000  # messages


class Opened(Maildir):
    """Counts the messages that are read to learn their sizes."""

    learnt = 0

    def learn(self, index: int) -> tuple[int, int, int]:
        self.learnt += 1
        return super().learn(index)


class Mail:
    """The Maildir `maildir` in a directory; `cache` beside it."""

    def __init__(self, place: Path) -> None:
        self.path = place / "maildir"
        for part in ("new", "cur", "tmp"):
            (self.path / part).mkdir(parents=True)
        (place / "cache").mkdir(mode=0o1733)
        (place / "cache").chmod(0o1733)
        self.cache_path = place / "cache"
        self.number = 0

    def deliver(self, content: bytes = b"Subject: x\n\nx\n", name: str = "", *, cur: bool = False) -> str:
        """One message; its name."""
        self.number += 1
        name = name or f"{1_600_000_000 + self.number}.M{self.number}P1.host"
        (self.path / ("cur" if cur else "new") / name).write_bytes(content)
        return name

    @contextmanager
    def opened(
        self, *, cached: bool = False, former: tuple[str, str] | None = None, **more: bool | int
    ) -> Iterator[Opened]:
        cache = SharedDirectory(str(self.cache_path)) if cached else None
        limits = int(more.pop("max_messages", MOST)), int(more.pop("max_octets", 0))
        try:
            given = {name: bool(value) for name, value in more.items()}
            files = cache.files_of(str(self.path)) if cache else None
            store = Opened(str(self.path), *limits, files, former=former, **given)
            try:
                yield store
            finally:
                store.finish(wait=True)
                store.directories.close()
        finally:
            if cache:
                cache.close()

    def there(self) -> dict[str, list[str]]:
        return {part: sorted(os.listdir(self.path / part)) for part in ("new", "cur")}


def text(store: Maildir, index: int) -> bytes:
    """A message as it is sent, without dots stuffed."""
    return b"".join(body(store.content(index))).replace(b"\r\n..", b"\r\n.")


def octets(store: Maildir, index: int) -> bytes:
    return b"".join(store.content(index))


def ids(store: Maildir) -> list[str]:
    """All unique-ids."""
    texts = store.unique_ids()
    return [texts[index] for index in range(len(texts))]


def as_nobody(tmp_path: Path, what: Callable[[], str]) -> str:
    """What a child says that has the rights of nobody, who may search the directories around."""
    for part in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        part.chmod(0o755)
    return forked.as_nobody(what)
