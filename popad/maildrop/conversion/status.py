"""Flags: the lines Status and X-Status in the header of an mbox's message, and the letters in a name of a Maildir.

R (read) is S; of X-Status A (answered) is R, F (flagged) is F and T (draft) is D. Not D (deleted), which would be T: a
message that is marked so is still served from an mbox, and is none in a Maildir. O (seen in a listing) is cur/.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

from popad.maildrop.uidl import CONTINUES, LF, header_pieces

STATUS, X_STATUS = b"status:", b"x-status:"
LONGEST_NAME = len(X_STATUS)
# Letters of an mbox, and those of a Maildir in their order there.
OF_STATUS = {"R": "S"}
OF_X_STATUS = {"T": "D", "F": "F", "A": "R"}


def flags_in(header_line: bytes) -> str:
    """The letters of a Maildir that a line of a header gives its message."""
    name, _, value = header_line[:80].partition(b":")
    meaning = {b"status": OF_STATUS, b"x-status": OF_X_STATUS}.get(name.lower(), {})
    letters = value.decode("ascii", "replace").strip()
    return "".join(flag for letter, flag in meaning.items() if letter in letters.upper())


def lines_for(flags: str, is_new: bool) -> bytes:
    """The lines of a header for letters of a Maildir; none for a message that nobody has seen."""
    status = "".join(letter for letter, flag in OF_STATUS.items() if flag in flags) + ("" if is_new else "O")
    other = "".join(letter for letter, flag in reversed(OF_X_STATUS.items()) if flag in flags)
    lines = (f"Status: {status}\n" if status else "") + (f"X-Status: {other}\n" if other else "")
    return lines.encode("ascii")


def with_lines(lines: bytes, octets: "Callable[[int], Iterable[bytes]]") -> "Iterator[bytes]":
    """A message with these lines in place of its own. `octets` gives those from a place in it on, in blocks."""
    if lines:
        yield lines
    size = 0
    take, continues = True, False
    for piece in header_pieces(octets(0)):
        size += len(piece)
        if not continues and piece[0] not in CONTINUES:
            take = not piece[:LONGEST_NAME].lower().startswith((STATUS, X_STATUS))
        if take:
            yield piece
        continues = piece[-1] != LF
    yield from octets(size)
