"""Which message of an old server is which message of the maildrop: by the whole header and the size, and by the content
where those do not tell.

Left out of account is what mail readers and servers write into headers (uidl.OF_READERS), as one shows it and the
other does not. A pair that is wrong would hide mail from a client, one that is missing has it fetched again: so what is
not certain is no pair. Exact copies are paired in their order.
"""

import _blake2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

from popad.maildrop.uidl import CONTINUES, LF, LONGEST_OF_READERS, OF_READERS

MESSAGE_ID = b"message-id:"


class Message:
    """What is compared of one message: the `key` of its header, which `names_itself` where it has a Message-ID, its
    `octets` on the wire, and a number of its content once it was asked for.
    """

    def __init__(self, key: bytes, octets: int, names_itself: bool) -> None:
        self.key = key
        self.octets = octets
        self.names_itself = names_itself
        self.content: int | None = None


def message_of(pieces: "Iterable[bytes]", octets: int) -> Message:
    """Of the header's lines, as uidl.header_pieces() has them, and the message's octets on the wire."""
    hashed = _blake2.blake2b(digest_size=20)
    take = begins_line = True
    names_itself = False
    for piece in pieces:
        if begins_line and piece[0] not in CONTINUES:
            name = piece[:LONGEST_OF_READERS].lower()
            take = not name.startswith(OF_READERS)
            names_itself = names_itself or name.startswith(MESSAGE_ID)
        if take:
            hashed.update(piece.rstrip(b"\r\n") + b"\n" if piece[-1] == LF else piece)
        else:
            octets -= len(piece) + (piece[-1] == LF and piece[-2:-1] != b"\r")
        begins_line = piece[-1] == LF
    return Message(hashed.digest(), octets, names_itself)


def pairs(old: "Sequence[Message]", here: "Sequence[Message]") -> "Iterator[tuple[int, int]]":
    """Places in `old` and in `here` of what is the same message."""
    for ours, theirs in groups(old, here):
        if is_clear(old, here, ours, theirs):
            yield ours[0], theirs[0]
            continue
        by_content: dict[int, list[int]] = {}
        for place in theirs:
            if (content := here[place].content) is not None:
                by_content.setdefault(content, []).append(place)
        for place in ours:
            content = old[place].content
            if content is not None and (same := by_content.get(content)):
                yield place, same.pop(0)


def unclear(old: "Sequence[Message]", here: "Sequence[Message]") -> tuple[set[int], set[int]]:
    """Those whose content has to be known, by their places in `old` and in `here`."""
    of_old: set[int] = set()
    of_here: set[int] = set()
    for ours, theirs in groups(old, here):
        if not is_clear(old, here, ours, theirs):
            of_old.update(ours)
            of_here.update(theirs)
    return of_old, of_here


def groups(old: "Sequence[Message]", here: "Sequence[Message]") -> "Iterator[tuple[list[int], list[int]]]":
    """The places of those with the same header, where there are some on both sides."""
    places: dict[bytes, tuple[list[int], list[int]]] = {}
    for side, messages in enumerate((old, here)):
        for place, message in enumerate(messages):
            places.setdefault(message.key, ([], []))[side].append(place)
    return (group for group in places.values() if all(group))


def is_clear(old: "Sequence[Message]", here: "Sequence[Message]", ours: list[int], theirs: list[int]) -> bool:
    """Whether two messages are the same without a look at the content."""
    if len(ours) > 1 or len(theirs) > 1:
        return False
    one, other = old[ours[0]], here[theirs[0]]
    return one.octets == other.octets and one.names_itself
