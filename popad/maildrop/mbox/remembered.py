"""Whether a message that is remembered from an earlier session (index.py), and was not read in this one, is there."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.maildrop.mbox.scan import Messages

    Read = Callable[[int, int], bytes]

from popad.maildrop.mbox.file import CONTENT_BLOCK, whole
from popad.maildrop.mbox.separators import FROM, begins


def octets_of(read: "Read", messages: "Messages", index: int) -> bytes | None:
    """Look at the borders of a message. None: they are not where they were.

    Else its octets, where one block has them and the borders, or none. `read` is pread; raises OSError.
    """
    begin, start, last = messages.froms[index], messages.starts[index], index + 1 == len(messages.froms)
    after = messages.end if last else messages.froms[index + 1]
    place = max(begin - 1, 0)
    block = b""
    if after - place < CONTENT_BLOCK:
        block = whole(read, after + (0 if last else len(FROM)) - place, place)
        stands = begins(block, begin - place) and (last or begins(block, after - place))
        stands = stands and (start == after or block[start - 1 - place : start - place] == b"\n")
    else:
        stands = message_begins(read, begin) and (last or message_begins(read, after))
        stands = stands and (start == after or read(1, start - 1) == b"\n")
    return block[start - place : messages.ends[index] - place] if stands else None


def message_begins(read: "Read", place: int) -> bool:
    """Whether a From line begins there, behind a line end or at the start of the file."""
    behind = min(place, 1)
    return begins(whole(read, behind + len(FROM), place - behind), behind)
