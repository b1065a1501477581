"""maildrop/conversion/from_line.py: senders and dates, there and back, and what they are not."""

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.maildrop.conversion.from_line import LATEST, NOBODY, delivered_at, from_line, sender_of
from popad.maildrop.mbox.separators import next_separator

MOMENT = 1420106400  # Thu Jan  1 10:00:00 2015 UTC


@pytest.fixture(params=["UTC", "Asia/Kolkata", "America/New_York"])
def zone(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where this machine is."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield request.param
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.parametrize("when", [0, 999999999, MOMENT, 4102444800])
def test_there_and_back(zone: str, when: int) -> None:
    assert delivered_at(from_line(NOBODY, when)) == when


@given(st.integers(-(1 << 63), 1 << 63))
def test_any_time_separates(when: int) -> None:
    text = b"x\n\n" + from_line(NOBODY, when) + b"A: b\n"
    assert next_separator(text, 1, True)[0] == 3


@pytest.mark.parametrize(
    "line",
    [
        b"From a@b Thu Jan  1 10:00:00 2015",
        b"From Thu Jan 1 10:00:00 2015\n",
        b'From "a b"@c Thu Jan 1 10:00 2015\n',
        b"From a at b Thu Jan 1 10:00:00 15\n",
        b"From a Thu Jan 1 10:00:00 UTC 2015\n",
        b"From a Thu Jan 1 12:00:00 2015 +0200\n",
        b"From a Thu Jan 1 06:30:00 -0330 2015\n",
        b"From a Thu, 1 Jan 2015 10:00:00 GMT\r\n",
        b"From a Thu Jan 1 10:00:00 2015 remote from h\n",
    ],
)
def test_dates(line: bytes) -> None:
    os.environ["TZ"] = "UTC"
    time.tzset()
    try:
        assert delivered_at(line) == MOMENT
    finally:
        del os.environ["TZ"]
        time.tzset()


@pytest.mark.parametrize(
    "line",
    [
        b"From a\n",
        b"From \n",
        b"From a Thu Jan 1 10:00:00 x\n",
        b"From a Thu Jan 1 99:99:99 0000\n",
        b"From " + b"x " * 99,
    ],
)
def test_no_date(line: bytes) -> None:
    found = delivered_at(line)
    assert found is None or 0 <= found <= LATEST


@given(st.lists(st.sampled_from(b"From thu jan 1 12 2015 99 10:00 99:99:99 +9999 utc x at may".split())))
def test_any_words(words: list[bytes]) -> None:
    found = delivered_at(b"From " + b" ".join(words))
    assert found is None or 0 <= found <= LATEST


@pytest.mark.parametrize(
    ("line", "sender"),
    [
        (b"Return-Path: <a@b>\r\n", b"a@b"),
        (b"RETURN-PATH:a@b\n", b"a@b"),
        (b"Return-Path: <>\n", b""),
        (b"Return-Path: <a b@c>\n", b""),
        (b'Return-Path: <"a"@b>\n', b""),
        (b"Return-Path: <a\xff@b>\n", b""),
        (b"Return-Path: <%b>\n" % (b"a" * 257), b""),
        (b"Subject: <a@b>\n", b""),
    ],
)
def test_senders(line: bytes, sender: bytes) -> None:
    assert sender_of(line) == sender
