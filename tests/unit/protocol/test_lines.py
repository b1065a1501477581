"""protocol/lines.py: the same lines come out whatever pieces the octets arrive in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.errors import CommandRefused
from popad.protocol.lines import Lines
from popad.values import COMMAND_OCTETS

TOO_LONG, NUL = "line too long", "NUL in a command"


def all_of(lines: Lines) -> list[bytes | str]:
    """What can be taken now: lines as bytes, refusals as their text."""
    taken: list[bytes | str] = []
    while True:
        try:
            line = lines.take()
        except CommandRefused as refused:
            taken.append(refused.text)
            continue
        if line is None:
            return taken
        taken.append(line)


def fed(*pieces: bytes) -> list[bytes | str]:
    """The lines of `pieces`, with a look at what is there after each."""
    lines = Lines()
    taken = []
    for piece in pieces:
        lines.feed(piece)
        taken += all_of(lines)
    return taken


def model(text: bytes) -> list[bytes | str]:
    """The rules, a line at a time."""
    taken: list[bytes | str] = []
    *complete, _ = text.split(b"\n")
    for line in complete:
        if len(line) + 1 > COMMAND_OCTETS:
            taken.append(TOO_LONG)
        elif b"\0" in line:
            taken.append(NUL)
        else:
            taken.append(line[:-1] if line.endswith(b"\r") else line)
    return taken


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (b"NOOP\r\n", [b"NOOP"]),
        (b"NOOP\n", [b"NOOP"]),
        (b"NOOP", []),
        (b"", []),
        (b"\r\n\n", [b"", b""]),
        (b"NOOP\r\r\n", [b"NOOP\r"]),
        (b"NOOP\rNOOP\r\n", [b"NOOP\rNOOP"]),
        (b"\rNOOP\r\n", [b"\rNOOP"]),
        (b"NO\0OP\r\nQUIT\r\n", [NUL, b"QUIT"]),
        (b"\0\n", [NUL]),
        (b"\xff\xfe \x80\r\n", [b"\xff\xfe \x80"]),
        (b"x" * 253 + b"\r\n", [b"x" * 253]),
        (b"x" * 254 + b"\n", [b"x" * 254]),
        (b"x" * 254 + b"\r\n", [TOO_LONG]),
        (b"x" * 255 + b"\n", [TOO_LONG]),
        (b"x" * 100_000 + b"\nNOOP\n", [TOO_LONG, b"NOOP"]),
        (b"x" * 300 + b"\0\nNOOP\n", [TOO_LONG, b"NOOP"]),
        (b"x" * 300, []),
    ],
)
def test_examples_at_every_split(octets: bytes, expected: list[bytes | str]) -> None:
    assert fed(octets) == expected
    if len(octets) < 1000:
        assert fed(*(octets[place : place + 1] for place in range(len(octets)))) == expected
        for place in range(len(octets) + 1):
            assert fed(octets[:place], octets[place:]) == expected


# Few kinds of octets, and lengths around the limit.
fragments = st.lists(
    st.one_of(
        st.sampled_from([b"\r", b"\n", b"\r\n", b"\0", b" ", b"NOOP"]),
        st.integers(COMMAND_OCTETS - 8, COMMAND_OCTETS + 3).map(lambda count: b"x" * count),
        st.binary(max_size=6),
    ),
    max_size=12,
)


@given(fragments, st.lists(st.integers(1, 400), max_size=20))
def test_any_octets_in_any_pieces(parts: list[bytes], sizes: list[int]) -> None:
    text = b"".join(parts)
    pieces = []
    place = 0
    for size in sizes:
        pieces.append(text[place : place + size])
        place += size
    assert fed(*pieces, text[place:]) == model(text)


@given(fragments)
def test_any_octets_one_at_a_time(parts: list[bytes]) -> None:
    text = b"".join(parts)
    assert fed(*(text[place : place + 1] for place in range(len(text)))) == model(text)


@given(fragments, st.integers(0, 12))
def test_rest_travels_on(parts: list[bytes], taken: int) -> None:
    """Whoever reads the next line elsewhere goes on where this one stopped: nothing lost, nothing twice."""
    text = b"".join(parts)
    lines = Lines(text)
    first: list[bytes | str] = []
    for _ in range(taken):
        try:
            line = lines.take()
        except CommandRefused as refused:
            first.append(refused.text)
            continue
        if line is None:
            break
        first.append(line)
    if lines.dropping:
        return  # only after a line was asked for and not there; a hand-over follows a line that was
    assert first + all_of(Lines(lines.rest())) == model(text)


def test_pieces_before_the_first_feed() -> None:
    lines = Lines(b"NOOP\r\nQU")
    lines.feed(b"IT\r\n")
    assert all_of(lines) == [b"NOOP", b"QUIT"]


def test_endless_line_keeps_no_memory() -> None:
    lines = Lines()
    most = 0
    for _ in range(1000):
        lines.feed(b"x" * 16384)
        assert lines.take() is None
        most = max(most, len(lines.buffer))
    assert most <= COMMAND_OCTETS
    lines.feed(b"\nNOOP\n")
    assert all_of(lines) == [TOO_LONG, b"NOOP"]


def test_another_limit() -> None:
    lines = Lines(b"12345678\n123456789\n")
    assert lines.take(9) == b"12345678"
    with pytest.raises(CommandRefused):
        lines.take(9)
    assert Lines(b"123456789\n").take(10) == b"123456789"
