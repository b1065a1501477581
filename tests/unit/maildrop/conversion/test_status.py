"""maildrop/conversion/status.py: letters of both formats."""

import pytest

from popad.maildrop.conversion.status import flags_in, lines_for, with_lines

MESSAGE = b"A: b\nStatus: RO\nX-Status: A\n F\nX-Statuses: c\n\nStatus: text\n"


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        (b"Status: RO\n", "S"),
        (b"STATUS:O\r\n", ""),
        (b"X-Status: AFTD\n", "DFR"),
        (b"X-Status: A\n", "R"),
        (b"X-Statuses: A\n", ""),
        (b"Subject: Status: R\n", ""),
        (b"Status: \xff\n", ""),
        (b" Status: R\n", ""),
        (b"\n", ""),
    ],
)
def test_flags_of_a_line(line: bytes, flags: str) -> None:
    """D (deleted) is none of them: the message would be served no more."""
    assert flags_in(line) == flags


@pytest.mark.parametrize(
    ("flags", "is_new", "lines"),
    [
        ("", True, b""),
        ("", False, b"Status: O\n"),
        ("S", False, b"Status: RO\n"),
        ("DFRS", False, b"Status: RO\nX-Status: AFT\n"),
        ("PTx", True, b""),
    ],
)
def test_lines(flags: str, is_new: bool, lines: bytes) -> None:
    assert lines_for(flags, is_new) == lines


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_lines_take_the_place_of_those_that_there_are(size: int) -> None:
    def octets(place: int) -> list[bytes]:
        return [MESSAGE[begin : begin + size] for begin in range(place, len(MESSAGE), size)]

    assert b"".join(with_lines(b"Status: O\n", octets)) == b"Status: O\nA: b\nX-Statuses: c\n\nStatus: text\n"
    assert b"".join(with_lines(b"", octets)) == b"A: b\nX-Statuses: c\n\nStatus: text\n"
