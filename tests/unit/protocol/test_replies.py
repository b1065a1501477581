"""protocol/replies.py: what goes over the wire, against models that know no blocks."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.protocol import replies


def on_the_wire(stored: bytes) -> bytes:
    """A stored message as it is sent: RFC 1939 section 3 read line by line."""
    lines = stored.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
        complete = len(lines)
    else:
        complete = len(lines) - 1
    out = []
    for number, line in enumerate(lines):
        text = line.removesuffix(b"\r") if number < complete else line  # a CRLF that is stored stays one CRLF
        out.append((b"." if text.startswith(b".") else b"") + text + b"\r\n")
    return b"".join(out)


def top_of(stored: bytes, count: int) -> bytes:
    """The header, the blank line and `count` lines of the body."""
    *lines, last = stored.split(b"\n")
    lines = [line + b"\n" for line in lines] + [last]
    for number, line in enumerate(lines):
        if line in (b"\n", b"\r\n"):
            return b"".join(lines[: number + 1 + count])
    return stored


def cuts(text: bytes, places: list[int]) -> list[bytes]:
    """`text` in blocks that end at `places`; blocks may be empty."""
    bounds = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[begin:end] for begin, end in pairwise(bounds)]


def unstuffed(wire: bytes) -> bytes:
    """What a client stores of a multi-line reply: RFC 1939 section 3, from the other side."""
    lines = wire.split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)


# Dots, CR and LF in every order, at the edges of blocks: what stuffing and line ends can go wrong with.
stored_messages = st.lists(
    st.sampled_from([b"\n", b"\r", b"\r\n", b".", b"..", b"x", b"Subject: s\n", b"\n\n", b"\0", b"\xe9", b" "]),
    min_size=1,
    max_size=16,
).map(b"".join)
places = st.lists(st.integers(0, 40), max_size=8)

EXAMPLES = [
    b"\n",
    b"a\n",
    b"a",
    b".",
    b".\n",
    b"..\n.\n",
    b"a\n.",
    b"a\n.b\n\n.c",
    b"a\r\n.b\r\n",
    b"a\r",
    b"a\r\r\n.\r\n",
    b"\r\n\r\n",
    b"\r.\n",
    b"a\rb\n",
    b"S: s\n\nbody\n",
    b"S: s\r\n\r\n.body\r\n..\r\n",
    b"\nonly a body\n.\n",
]


@pytest.mark.parametrize("stored", EXAMPLES)
def test_body_at_every_split(stored: bytes) -> None:
    expected = on_the_wire(stored)
    assert b"".join(replies.body([stored])) == expected
    assert b"".join(replies.body(stored[place : place + 1] for place in range(len(stored)))) == expected
    for first in range(len(stored) + 1):
        for second in range(first, len(stored) + 1):
            assert b"".join(replies.body(cuts(stored, [first, second]))) == expected


@given(stored_messages, places)
def test_body_of_any_message_in_any_blocks(stored: bytes, ends: list[int]) -> None:
    assert b"".join(replies.body(cuts(stored, ends))) == on_the_wire(stored)


@given(stored_messages, places)
def test_body_is_a_reply_that_a_client_can_read(stored: bytes, ends: list[int]) -> None:
    """It ends with CRLF, has no line that would end it early, no bare LF; and what it says is what was stored."""
    wire = b"".join(replies.body(cuts(stored, ends)))
    assert wire.endswith(b"\r\n")
    assert b"\n" not in wire.replace(b"\r\n", b"")
    assert not (b"\r\n" + wire).count(b"\r\n.\r\n")
    kept = unstuffed(wire).replace(b"\r\n", b"\n")
    assert kept == stored.replace(b"\r\n", b"\n") + (b"" if stored.endswith(b"\n") else b"\n")


@pytest.mark.parametrize("dots", [0, 1, 2, 3, 7, 8, 9, 200, 1000])
def test_body_with_few_dots_and_with_many(dots: int) -> None:
    """They are looked for in different ways."""
    lines = [b"x" * 69, b"an example.", b".hidden", b"..", b"."]
    stored = b"".join(line + b"\n" for line in (lines * dots)[:dots] + [b"attached" * 8] * 50)
    assert b"".join(replies.body([stored])) == on_the_wire(stored)
    assert b"".join(replies.body([stored + b"." + stored])) == on_the_wire(stored + b"." + stored)


def test_body_of_nothing() -> None:
    assert b"".join(replies.body([])) == b""


@pytest.mark.parametrize("stored", EXAMPLES)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 2147483647])
def test_top_at_every_split(stored: bytes, count: int) -> None:
    expected = top_of(stored, count)
    for first in range(len(stored) + 1):
        for second in range(first, len(stored) + 1):
            assert b"".join(replies.top(cuts(stored, [first, second]), count)) == expected


@given(stored_messages, places, st.integers(0, 6))
def test_top_of_any_message_in_any_blocks(stored: bytes, ends: list[int], count: int) -> None:
    assert b"".join(replies.top(cuts(stored, ends), count)) == top_of(stored, count)


def test_top_reads_no_further_than_it_must() -> None:
    read = []

    def blocks() -> Iterator[bytes]:
        for block in (b"S: s\n\n", b"1\n", b"2\n", b"3\n"):
            read.append(block)
            yield block

    assert b"".join(replies.top(blocks(), 1)) == b"S: s\n\n1\n"
    assert read == [b"S: s\n\n", b"1\n"]


def test_status_lines() -> None:
    assert replies.ok("2 320") == b"+OK 2 320\r\n"
    assert replies.err("no") == b"-ERR no\r\n"
    assert replies.err("no", "SYS/TEMP") == b"-ERR [SYS/TEMP] no\r\n"


@pytest.mark.parametrize("text", ["Grüße", "\u2028"])
def test_status_lines_are_ascii(text: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        replies.ok(text)
    with pytest.raises(UnicodeEncodeError):
        replies.err(text)


@pytest.mark.parametrize("count", [0, 1, 2, replies.LINES_AT_ONCE, replies.LINES_AT_ONCE + 1, 5000])
def test_listing(count: int) -> None:
    blocks = list(replies.listing("messages", (f"{number} 120" for number in range(count))))
    expected = b"".join(b"%d 120\r\n" % number for number in range(count))
    assert b"".join(blocks) == b"+OK messages\r\n" + expected + b".\r\n"
    assert max(block.count(b"\n") for block in blocks) <= replies.LINES_AT_ONCE
