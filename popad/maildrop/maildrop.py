"""A session's view of a maildrop: the numbered messages, the deletion marks, LAST. And what a store must offer."""

import _blake2  # hashlib's own, without loading OpenSSL into each session
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Protocol

    class Texts(Protocol):
        """What is asked of a list of unique-ids."""

        def __len__(self) -> int: ...
        def __getitem__(self, index: int, /) -> str: ...


LONGEST_ID = 70  # octets of a unique-id, RFC 1939 section 7


def is_id(text: str) -> bool:
    """Whether the protocol has room for it as a unique-id: 1 to 70 octets from "!" to "~" (RFC 1939 section 7)."""
    return 1 <= len(text) <= LONGEST_ID and text.isascii() and text.isprintable() and " " not in text


def hashed(text: str) -> str:
    """A unique-id that says nothing, the same for the same text."""
    return _blake2.blake2b(os.fsencode(text), digest_size=20).hexdigest()


class Recovery:
    """What became of an update that an earlier session left unfinished: it was finished, or what was kept of it was put
    aside as the file `kept`, for `reason`.
    """

    def __init__(self, finished: bool, kept: str = "", reason: str = "") -> None:
        self.finished = finished
        self.kept = kept
        self.reason = reason


class Store:
    """Messages as one session found them, numbered from 0. Sizes: octets on the wire, every line end as CRLF.

    All methods raise MaildropChanged when another program changed those messages, MessageGone when it removed one of
    them and no harm is done to the others, and MaildropUnreadable when they cannot be read now. A store offers the
    first four; the others have defaults.
    """

    sizes: "Sequence[int]"
    recovery: Recovery | None = None  # what opening it has found
    read_only = ""  # why nothing can be removed, for an administrator

    def content(self, index: int) -> "Iterator[bytes]":
        """The stored octets of a message in blocks, the last one only if nothing has changed meanwhile."""
        raise NotImplementedError

    def unique_ids(self) -> "Texts":
        """A unique-id for each message, all different: 1 to 70 octets from "!" to "~" (RFC 1939 section 7, UIDL)."""
        raise NotImplementedError

    def remove(self, marks: bytearray) -> None:
        """Take the messages with a mark that is not 0 out of the store, for good, or raise MaildropUnavailable."""
        raise NotImplementedError

    def prefetch(self, index: int) -> bytes:
        """The octets of a message that is short, read without a look at what others have done; or none."""
        return b""

    def still_valid(self) -> bool:
        """Whether what prefetch() has given last is what the message is."""
        return False

    def finish(self, wait: bool) -> None:
        """Do what need not be done before an answer; unless `wait`, only what takes no time by now."""

    @property
    def trouble(self) -> str:
        """Why unique-ids may change or be given again, for an administrator; empty where all is well."""
        return ""

    @property
    def wrong_sizes(self) -> str:
        """Of which messages a size was told that they do not have, for an administrator; the next session knows."""
        return ""


class Maildrop:
    """The messages of a store with this session's marks. Message numbers begin at 1, as the protocol's do."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.sizes = store.sizes
        self.messages = len(store.sizes)
        self.octets_in_all = sum(store.sizes)
        self.marks = bytearray(self.messages)
        self.deleted = 0
        self.deleted_octets = 0
        self.last = 0  # highest number given to RETR or DELE, as popa3d counts; RSET takes it back to 0
        self.known_ids: Texts | None = None

    @property
    def remaining(self) -> int:
        """Messages without a deletion mark."""
        return self.messages - self.deleted

    @property
    def remaining_octets(self) -> int:
        """Their sizes together."""
        return self.octets_in_all - self.deleted_octets

    def listed(self) -> "Iterator[int]":
        """The numbers of the messages without a deletion mark."""
        return (index + 1 for index, mark in enumerate(self.marks) if not mark)

    def present(self, number: int) -> bool:
        return not self.marks[number - 1]

    def octets(self, number: int) -> int:
        return self.sizes[number - 1]

    def unique_id(self, number: int) -> str:
        if self.known_ids is None:
            self.known_ids = self.store.unique_ids()
        return self.known_ids[number - 1]

    def content(self, number: int) -> "Iterator[bytes]":
        return self.store.content(number - 1)

    def prefetch(self, number: int) -> bytes:
        return self.store.prefetch(number - 1)

    def still_valid(self) -> bool:
        return self.store.still_valid()

    @property
    def trouble(self) -> str:
        """What an administrator should know of the unique-ids, if anything."""
        return self.store.trouble

    @property
    def wrong_sizes(self) -> str:
        """Of which messages a wrong size was told, for an administrator."""
        return self.store.wrong_sizes

    def finish(self, wait: bool) -> None:
        """While the client thinks, and when it has gone (`wait`)."""
        self.store.finish(wait)

    def mark_deleted(self, number: int) -> None:
        self.marks[number - 1] = 1
        self.deleted += 1
        self.deleted_octets += self.sizes[number - 1]

    def unmark_all(self) -> None:
        self.marks = bytearray(self.messages)
        self.deleted = self.deleted_octets = 0

    def update(self) -> None:
        """Remove what is marked (RFC 1939 section 6). A maildrop without marks is not touched, not even looked at."""
        if self.deleted:
            self.store.remove(self.marks)
