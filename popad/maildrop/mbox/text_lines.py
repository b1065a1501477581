"""Lines of an mbox that begin with `From ` and separate nothing, and why: what separators.py has decided, in words."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

from popad.maildrop.mbox.separators import (
    AHEAD,
    BEHIND,
    EXACT,
    FROM,
    LONGEST_LINE,
    begins_header,
    blank_before,
    is_dated,
    words_of,
)

BLOCK = 1 << 18  # octets read at a time
TOO_LONG = f"it is longer than a From_ line may be, {LONGEST_LINE} octets"
AT_THE_END = "nothing follows it"
BEFORE_FROM = "the line behind it begins with `From `, too"
BEHIND_FIRST = "it is the line behind the first From_ line"
NO_DATE = "it has no date"
NO_DATE_NO_HEADER = "it has no date, and no header field follows"
NO_DATE_NO_BLANK = "it has no date, and no blank line stands before it"
NO_BLANK_NO_HEADER = "no blank line stands before it, and no header field follows"


def text_lines(
    read: "Callable[[int, int], bytes]", size: int, froms: "Sequence[int]"
) -> "Iterator[tuple[int, str, bytes]]":
    """Of each such line of the first `size` octets, in their order: where it begins, why it is text, and its octets, a
    From_ line's at most. `read` is pread; `froms`: where the separators begin. Raises OSError.
    """
    taken = iter(froms)
    separator = next(taken, size)
    begin, first_ends = 0, -1
    while begin < size:
        text = read(min(BLOCK, size - begin), begin)
        complete = begin + len(text) >= size
        decided = len(text) if complete else len(text) - AHEAD  # what begins behind it comes with the next block
        if first_ends < 0 and (line_end := text.find(b"\n")) >= 0:
            first_ends = begin + line_end + 1
        search = 0
        while (found := text.find(EXACT, search)) >= 0 and found + 1 < decided:
            search = place = found + 1
            while separator < begin + place:
                separator = next(taken, size)
            if separator == begin + place or (begin and place < BEHIND):  # seen with the block before
                continue
            line = text[place : place + LONGEST_LINE].partition(b"\n")[0]
            yield begin + place, BEHIND_FIRST if begin + place == first_ends else why_text(text, place), line
        if complete or decided <= BEHIND:
            return
        begin += decided - BEHIND


def why_text(text: bytes, place: int) -> str:
    """Why the line at `place` separates nothing, where separators.py says that it does not. AHEAD octets behind it are
    at hand, or it is the end of the file.
    """
    start = text.find(b"\n", place, place + LONGEST_LINE) + 1
    if not start:
        return TOO_LONG if len(text) - place >= LONGEST_LINE else AT_THE_END
    if start == len(text):
        return AT_THE_END
    if text.startswith(FROM, start):
        return BEFORE_FROM
    behind_blank = blank_before(text, place) > 0
    words = words_of(text[place + len(FROM) : start].strip())
    if is_dated(words):
        return NO_BLANK_NO_HEADER
    if not behind_blank:
        return NO_DATE_NO_BLANK
    if len(words) == 1 and begins_header(text, start, complete=True) <= 0:
        return NO_DATE_NO_HEADER
    return NO_DATE
