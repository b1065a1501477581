"""What an update takes out of a mailbox: spans of it, how the redo log keeps them, and what stays between them."""

import os
import zlib
from itertools import accumulate, chain

from popad.arrays import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Span = tuple[int, int]

from popad.maildrop.mbox.record import SLOTS, Record
from popad.maildrop.private import ForeignFile


def joined(spans: "Sequence[Span]") -> "list[Span]":
    """Spans that touch are one."""
    found: list[Span] = []
    for begin, end in spans:
        goes_on = found and found[-1][1] == begin
        found.append((found.pop()[0] if goes_on else begin, end))
    return found


def packed(spans: "Sequence[Span]") -> bytes:
    """A plan: the lengths of what stays and what goes, in turn."""
    places = list(chain.from_iterable(spans))
    lengths = array("Q", (end - begin for begin, end in zip([0, *places], places, strict=False)))
    return zlib.compress(lengths, 1)


def plan_of(log: int, record: Record) -> "list[Span]":
    """What goes. Raises ForeignFile where the plan is damaged."""
    if not record.plan:
        return [(record.first, record.first + record.gone)]
    octets = os.pread(log, record.plan, SLOTS)
    if zlib.crc32(octets) != record.crc_plan:
        raise ForeignFile("its plan is damaged")
    try:
        lengths = array("Q", zlib.decompress(octets))
    except (ValueError, zlib.error):
        raise ForeignFile("it has a plan that popad does not write") from None
    places = list(accumulate(lengths))
    spans = list(zip(places[::2], places[1::2], strict=False))
    if not spans or spans[0][0] != record.first or sum(lengths[1::2]) != record.gone or places[-1] > record.size:
        raise ForeignFile("it has a plan that popad does not write")
    return spans


def gaps(spans: "Sequence[Span]", size: int) -> "list[Span]":
    """What stays between and behind `spans` up to `size`; never an empty span."""
    ends = [end for _, end in spans]
    begins = [begin for begin, _ in spans[1:]] + [size]
    return [(end, begin) for end, begin in zip(ends, begins, strict=True) if end < begin]


def take(stays: "list[Span]", length: int) -> "list[Span]":
    """The first `length` octets of `stays`, a list with the first span at its end, which loses them."""
    taken = []
    while length:
        begin, end = stays.pop()
        cut = min(end, begin + length)
        taken.append((begin, cut))
        if cut < end:
            stays.append((cut, end))
        length -= cut - begin
    return taken
