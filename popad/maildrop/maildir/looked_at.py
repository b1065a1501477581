"""A Maildir for who only looks: listed as a session lists it, by the session's own code, and nothing is renamed."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from popad.maildrop.looked_at import SeenFiles

from popad.errors import MaildropUnavailable, MessageGone
from popad.maildrop.maildir.directories import PERMANENT, Directories, each_base_once, messages
from popad.maildrop.maildir.names import TRASHED, flags_of
from popad.maildrop.maildir.sizes import FEW
from popad.maildrop.maildir.store import READ, Maildir

# Why a file of new/ or cur/ is no message.
DOT, NO_FILE, MARKED = "its name begins with a dot", "it is not a regular file", "it is marked as trashed"
# What is remembered of sizes is worth to the next session.
NO_CACHE = "none: POPAD_CACHE is empty, or cannot be had"
MISSING = "none: the next session looks at all messages"
SMALL = f"none: a Maildir is worth one from {FEW} messages on"
FITS = "it fits: the next session looks at no message"
OLD = "of the Maildir as it was: the next session looks at what it does not know"


class SeenDirectories(Directories):
    """`becomes`: names that a session would give to messages that have the base of another, and their own."""

    becomes: "dict[str, tuple[int, str]]"

    def listing(self, most: int, *, separates: bool = False) -> tuple[list[str], set[str]]:
        names, in_new = super().listing(most)
        self.becomes = {}
        if separates and self.are_there:
            new, cur = messages(self.new, most), messages(self.cur, most)
            if len(names) < len(new) + len(cur):
                self.becomes = {becomes: (fd, name) for fd, name, becomes in self.hidden(new, cur)}
                shown = {(fd, name): becomes for becomes, (fd, name) in self.becomes.items()}
                names, in_new = each_base_once(
                    [shown.get((self.new, name), name) for name in new],
                    [shown.get((self.cur, name), name) for name in cur],
                )
                if len(names) > most:
                    raise MaildropUnavailable(PERMANENT, f"more than {most} messages")
        return names, in_new


class SeenMaildir(Maildir):
    """The messages as they would be served. Raises MaildropUnavailable."""

    directories_of = SeenDirectories
    directories: SeenDirectories

    def __init__(
        self,
        path: str,
        max_messages: int,
        max_octets: int,
        cache: "SeenFiles | None",
        former: "tuple[str, str] | None",
        *,
        missing_is_empty: bool,
    ) -> None:
        super().__init__(
            path,
            max_messages,
            max_octets,
            cache,
            former=former,
            marks_seen=False,
            missing_is_empty=missing_is_empty,
        )
        self.cache_state = self.state_of_cache(cache)

    def open_file(self, index: int) -> int:
        fd, name = self.directories.becomes.get(self.names[index], (-1, ""))
        if not name:
            return super().open_file(index)
        try:
            return os.open(name, READ, dir_fd=fd)
        except OSError:
            raise MessageGone(f"message {index + 1} is gone") from None

    def state_of_cache(self, cache: "SeenFiles | None") -> str:
        """What is kept in POPAD_CACHE, and what it is worth."""
        if not cache:
            return NO_CACHE
        if not self.has_learnt and self.look:
            return FITS
        try:
            if cache.directory.has(cache.names[0]):
                return OLD
        except OSError:
            return NO_CACHE  # no right to search it
        return SMALL if len(self.names) < FEW else MISSING

    def others(self) -> "Iterator[tuple[str, str]]":
        """What is in new/ and cur/ and is no message: the name, and why; in no order, as there may be any number of
        them. Raises OSError.
        """
        for place, fd in (("new", self.directories.new), ("cur", self.directories.cur)):
            if fd < 0:
                continue
            with os.scandir(fd) as entries:
                for entry in entries:
                    if reason := why_none(entry.name, entry.is_file(follow_symlinks=False)):
                        yield f"{place}/{entry.name}", reason

    def close(self) -> None:
        """Nothing that was learnt is kept."""
        self.directories.close()


def why_none(name: str, is_file: bool) -> str:
    """Why a file is no message; "" where it is one."""
    if name.startswith("."):
        return DOT
    if not is_file:
        return NO_FILE
    return MARKED if TRASHED in flags_of(name) else ""
