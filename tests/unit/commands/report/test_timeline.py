"""commands/report/timeline.py: what happened when."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.commands.report.timeline import STEPS, Timeline

SECOND = 1_000_000


@given(st.lists(st.integers(1, 4 * 10**17)))
def test_nothing_is_lost_however_long_it_goes_on(moments: list[int]) -> None:
    timeline = Timeline(2)
    for moment in moments:
        timeline.add(moment, 1, 3)
    steps = timeline.all_steps()
    assert len(steps) <= STEPS
    assert sum(amounts[1] for _, amounts in steps) == 3 * len(moments)
    for moment in moments:
        assert any(start <= moment < start + timeline.width and amounts[1] for start, amounts in steps)


def test_steps_between_are_there() -> None:
    timeline = Timeline(1)
    timeline.add(0, 0)
    timeline.add(179 * SECOND, 0)
    assert timeline.all_steps() == [(0, [1]), (60 * SECOND, [0]), (120 * SECOND, [1])]


def test_the_week_goes_by_the_local_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        timeline = Timeline(2)
        timeline.add(1_790_000_000 * SECOND, 0)  # Monday, 14:13:20 UTC
        timeline.add(1_790_000_000 * SECOND, 1)
        assert timeline.week[0][19] == 1
        assert sum(map(sum, timeline.week)) == 1
    finally:
        monkeypatch.undo()
        time.tzset()
