"""Octets of files: read, written and copied until all is done."""

import os
from itertools import chain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Span = tuple[int, int]

BLOCK = 1 << 17  # octets copied at a time
PAGE = 4096  # octets: the least that a file system gives
# Octets of a logged window, at most. Larger ones save waiting for the disk (two times a window) and cost memory; a
# quarter takes as long where nothing is waited for.
WINDOW = 1 << 22


def pages(octets: int) -> int:
    """Octets up to the end of the page."""
    return -(-octets // PAGE) * PAGE


def copy(source: int, spans: "Sequence[Span]", target: int, place: int) -> None:
    """Copy spans of one file behind one another to `place` in another, or in the same: from the front on."""
    for begin, end in spans:
        for block in blocks(source, begin, end, BLOCK):
            write(target, block, place)
            place += len(block)


def octets_of(fd: int, spans: "Sequence[Span]") -> bytes:
    """What stands there."""
    return b"".join(chain.from_iterable(blocks(fd, begin, end, WINDOW) for begin, end in spans))


def blocks(fd: int, begin: int, end: int, most: int) -> "Iterator[bytes]":
    """Octets of a file, `most` at a time. Raises OSError where it ends before."""
    while begin < end:
        block = os.pread(fd, min(most, end - begin), begin)
        if not block:
            raise OSError(f"end of file at octet {begin}, {end} expected")
        yield block
        begin += len(block)


def write(fd: int, data: bytes, place: int) -> None:
    """pwrite(2) until all is written."""
    while data:
        written = os.pwrite(fd, data, place)
        data = data[written:]
        place += written


def reader(fd: int) -> "Callable[[int, int], bytes]":
    """How a file is read here: count, offset -> octets."""
    return lambda count, offset: os.pread(fd, count, offset)
