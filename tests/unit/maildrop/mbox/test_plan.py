"""maildrop/mbox/plan.py: spans that go, what stays between them, and a plan there and back."""

import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.maildrop.mbox import plan
from popad.maildrop.mbox.record import SLOTS, Record
from popad.maildrop.private import ForeignFile

lengths = st.lists(st.integers(1, 1000), min_size=2, max_size=20)


def spans_of(numbers: list[int]) -> tuple[list[tuple[int, int]], int]:
    """Each second length goes; the spans, and the size of all."""
    places = [0]
    for number in numbers:
        places.append(places[-1] + number)
    return list(zip(places[1::2], places[2::2], strict=False)), places[-1]


@given(lengths)
def test_what_goes_and_what_stays_is_all(numbers: list[int]) -> None:
    spans, size = spans_of(numbers)
    stays = plan.gaps(spans, size)
    assert sorted([(0, spans[0][0]), *spans, *stays]) == sorted([(0, spans[0][0]), *spans, *stays])
    assert sum(end - begin for begin, end in (*spans, *stays)) == size - spans[0][0]
    assert all(begin < end for begin, end in stays)


def test_spans_that_touch_are_one() -> None:
    assert plan.joined([(0, 3), (3, 5), (7, 9)]) == [(0, 5), (7, 9)]


def test_take_takes_from_the_front_of_what_stays() -> None:
    stays = [(20, 30), (5, 10)]
    assert plan.take(stays, 7) == [(5, 10), (20, 22)]
    assert stays == [(22, 30)]
    assert plan.take(stays, 0) == []


def written(path: Path, spans: list[tuple[int, int]], size: int) -> tuple[int, Record]:
    octets = plan.packed(spans)
    path.write_bytes(bytes(SLOTS) + octets)
    gone = sum(end - begin for begin, end in spans)
    record = Record(b"", "", inode=1, first=spans[0][0], size=size, gone=gone)
    record.plan, record.crc_plan = len(octets), zlib.crc32(octets)
    return os.open(path, os.O_RDWR), record


def test_a_plan_there_and_back(tmp_path: Path) -> None:
    spans, size = spans_of([5, 3, 4, 100, 1, 2])
    fd, record = written(tmp_path / "log", spans, size)
    assert plan.plan_of(fd, record) == spans
    record.plan = 0  # one span needs none
    assert plan.plan_of(fd, record) == [(record.first, record.first + record.gone)]
    os.close(fd)


@pytest.mark.parametrize("field", ["crc_plan", "first", "gone", "size"])
def test_a_plan_that_the_record_does_not_know(tmp_path: Path, field: str) -> None:
    spans, size = spans_of([5, 3, 4, 100])
    fd, record = written(tmp_path / "log", spans, size)
    setattr(record, field, getattr(record, field) - 1 if field == "size" else getattr(record, field) + 1)
    with pytest.raises(ForeignFile):
        plan.plan_of(fd, record)
    os.close(fd)
