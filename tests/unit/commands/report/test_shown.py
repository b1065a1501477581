"""commands/report/shown.py: numbers, times and texts as people read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.commands.report import shown


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 octets"),
        (999, "999 octets"),
        (1000, "1 kB"),
        (1_234_567, "1.23 MB"),
        (999_999, "1 MB"),
        (123_456_789, "123 MB"),
        (10**15, "1,000 TB"),
    ],
)
def test_octets(octets: int, text: str) -> None:
    assert shown.octets(octets) == text


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "0 ms"),
        (340, "0.34 ms"),
        (340_000, "340 ms"),
        (1_200_000, "1.2 s"),
        (320_000_000, "5 min 20 s"),
        (600_000_000, "10 min"),
        (7_260_000_000, "2 h 1 min"),
        (6 * 3600 * 10**6, "6 h"),
        (7 * 86400 * 10**6, "7 d"),
        (49 * 3600 * 10**6, "2 d 1 h"),
    ],
)
def test_durations(microseconds: int, text: str) -> None:
    assert shown.duration(microseconds) == text


def test_a_moment_that_no_clock_shows() -> None:
    assert shown.moment(10**18) == "unknown"


@given(st.text())
def test_nothing_moves_a_terminals_cursor(text: str) -> None:
    assert shown.plain(text).isprintable()
    shown.plain(text).encode()
    assert len(shown.cut(text)) <= shown.CUT


def test_a_text_of_any_length_is_cut() -> None:
    assert len(shown.cut("\x1b" * 70_000)) == shown.CUT
