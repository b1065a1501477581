"""What happened when: in steps whose number is bounded however long it goes on, and by hours of the week."""

import time

STEPS = 240  # bars that a plot has at most
MICROSECONDS = 1_000_000
# Seconds of a step, from a minute to four weeks; then it doubles.
WIDTHS = (60, 300, 900, 3600, 2 * 3600, 6 * 3600, 86400, 2 * 86400, 7 * 86400, 28 * 86400)
QUARTER = 900 * MICROSECONDS  # no zone changes its clock at another moment


class Timeline:
    """Amounts by time, `columns` of them, and the first of these by weekday and hour as well (of the local clock)."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.width = WIDTHS[0] * MICROSECONDS
        self.steps: dict[int, list[int]] = {}
        self.week = [[0] * 24 for _ in range(7)]
        self.quarter = -1  # the last that was looked up
        self.hour = self.week[0], 0

    def add(self, when: int, column: int, amount: int = 1) -> None:
        """`when` in microseconds since 1970."""
        step = self.steps.get(when // self.width)
        if step is None:
            step = self.new_step(when)
        step[column] += amount
        if column == 0:
            if when // QUARTER != self.quarter:
                self.quarter = when // QUARTER
                local = time.localtime(when // MICROSECONDS)
                self.hour = self.week[local.tm_wday], local.tm_hour
            row, hour = self.hour
            row[hour] += amount

    def new_step(self, when: int) -> list[int]:
        """Make room for one, in wider steps where they would be too many."""
        while True:
            place = when // self.width
            if max((place, *self.steps)) - min((place, *self.steps)) < STEPS:
                return self.steps.setdefault(place, [0] * self.columns)
            wider = next((width for width in WIDTHS if width * MICROSECONDS > self.width), 0) * MICROSECONDS
            wider = wider or 2 * self.width
            merged: dict[int, list[int]] = {}
            for old, amounts in self.steps.items():
                step = merged.setdefault(old * self.width // wider, [0] * self.columns)
                step[:] = [have + more for have, more in zip(step, amounts, strict=True)]
            self.steps, self.width = merged, wider

    def all_steps(self) -> list[tuple[int, list[int]]]:
        """Each from the first to the last, with the moment of its start, also where nothing happened."""
        if not self.steps:
            return []
        nothing = [0] * self.columns
        return [
            (place * self.width, self.steps.get(place, nothing))
            for place in range(min(self.steps), max(self.steps) + 1)
        ]
