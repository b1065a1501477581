"""What an update takes out of an mbox: the marked messages, and line ends around them that would harm the others."""

from itertools import compress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.maildrop.mbox.scan import Messages

    Read = Callable[[int, int], bytes]
    Span = tuple[int, int]

from popad.maildrop.mbox.separators import AHEAD, BEHIND, FROM, blank_before, data_behind

MOST_LINE_ENDS = 4  # octets between a message without a blank line at its end and the next


def spans(read: "Read", messages: "Messages", marks: bytearray) -> "tuple[list[Span], bool]":
    """Where the marked messages are (begin, end), one span for those that stand together; and whether blank lines of
    them stay, as what is behind needs one to be a message. Under the exclusive lock; `read` is pread. Raises OSError.

    Line ends that a delivery has put behind the last one, which had no blank line at its end, go with it: they must
    not become the beginning of the mailbox, nor of another message's end.
    """
    ends = messages.froms[1:]
    end = messages.end
    behind = read(MOST_LINE_ENDS, end)
    ends.append(end + len(behind) - len(behind.lstrip(b"\r\n")))
    together: list[Span] = []
    for begin, end in compress(zip(messages.froms, ends, strict=True), marks):
        goes_on = bool(together) and together[-1][1] == begin
        together.append((together.pop()[0] if goes_on else begin, end))
    needed = [blank_line_needed(read, begin, end) for begin, end in together]
    return [(begin, end - blank) for (begin, end), blank in zip(together, needed, strict=True)], any(needed)


def blank_line_needed(read: "Read", begin: int, end: int) -> int:
    """The octets of the blank line at the end of a span, if what is behind would without it be text of the message
    before the span, which has none at its end. The most that changes is that such a message gets one that ends its
    header, or that a From line at its very end becomes a message of a blank line.
    """
    if not begin or blank_line(read, begin):
        return 0
    behind = read(AHEAD, end)
    line = b"--\n"
    if not behind.startswith(FROM) or data_behind(line + behind, len(line), complete=len(behind) < AHEAD):
        return 0
    return blank_line(read, end)


def blank_line(read: "Read", place: int) -> int:
    """The octets of the blank line before a place."""
    return blank_before(read(BEHIND, place - BEHIND), BEHIND)
