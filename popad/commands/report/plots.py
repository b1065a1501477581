"""Plots as SVG without words: they stretch to any width, and what is written beside them stays legible."""

import math
from datetime import datetime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from popad.commands.report.timeline import Timeline

from popad.commands.report.distribution import Distribution
from popad.commands.report.markup import element, text
from popad.commands.report.shown import count, duration, moment
from popad.commands.report.tables import PERCENTS

HEIGHT = 100.0
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
SHORTEST, LONGEST, A_DECADE = 2, 10, 5  # powers of ten of microseconds: 0.1 ms to almost 3 hours; bars in each
TICKS = {2: "0.1 ms", 4: "10 ms", 6: "1 s", 8: "100 s"}


def svg(content: str, width: float, height: float, label: str) -> str:
    """A plot that is as wide as there is room, and as high as the page's style says."""
    box = f"0 0 {width:g} {height:g}"
    return element("svg", content, viewBox=box, preserveAspectRatio="none", role="img", aria_label=label)


def bar(x: float, y: float, width: float, height: float, title: str, **attributes: str | float) -> str:
    """A rectangle that says what it is."""
    place = {"x": f"{x:.6g}", "y": f"{y:.6g}", "width": f"{width:.6g}", "height": f"{height:.6g}"}
    return element("rect", element("title", text(title)), **place, **attributes)


def timeline(figures: "Timeline", column: int, label: str) -> str:
    """One column over time, a bar a step."""
    steps = figures.all_steps()
    most = max(amounts[column] for _, amounts in steps)
    bars = []
    for place, (when, amounts) in enumerate(steps):
        if amount := amounts[column]:
            high = max(2.0, HEIGHT * amount / most)  # what is there can be seen
            bars.append(bar(place, HEIGHT - high, 0.8, high, f"{moment(when)[:16]}: {count(amount)} {label}"))
    return svg("".join(bars), len(steps), HEIGHT, f"{label} over time")


def times(found: Distribution, label: str) -> str:
    """How often something took how long: the time on a scale of powers, and lines at the percentiles."""
    bars = [0] * ((LONGEST - SHORTEST) * A_DECADE)
    for value, number in found.counts.items():
        bars[min(len(bars) - 1, int(on_scale(value)))] += number
    most = max(bars)
    shapes = []
    for place, number in enumerate(bars):
        if number:
            high = max(2.0, HEIGHT * number / most)
            from_, to = (duration(round(10 ** (SHORTEST + (place + add) / A_DECADE))) for add in (0, 1))
            said = f"{from_} to {to}" if place else f"up to {to}"
            shapes.append(bar(place, HEIGHT - high, 0.9, high, f"{said}: {count(number)}"))
    for percent in PERCENTS:
        x = f"{on_scale(found.percentile(percent)):.6g}"
        shapes.append(element("line", "", x1=x, x2=x, y1=0, y2=HEIGHT, vector_effect="non-scaling-stroke"))
    return svg("".join(shapes), len(bars), HEIGHT, label)


def on_scale(microseconds: int) -> float:
    """Where a time is in the plot, in bars."""
    end = (LONGEST - SHORTEST) * A_DECADE
    return min(max(0.0, (math.log10(max(1, microseconds)) - SHORTEST) * A_DECADE), float(end))


def week(hours: "Sequence[Sequence[int]]", label: str) -> str:
    """Hours of the week, each as strong as much happens in it."""
    most = max(1, *map(max, hours))
    cells = []
    for day, row in enumerate(hours):
        for hour, amount in enumerate(row):
            title = f"{DAYS[day]} {hour:02d}:00: {count(amount)} {label}"
            strength = 0.06 + 0.94 * math.sqrt(amount / most) if amount else 0.03
            cells.append(bar(hour, day, 0.92, 0.88, title, fill_opacity=f"{strength:.2f}"))
    return svg("".join(cells), 24, 7, f"{label} by day and hour")


def ends(figures: "Timeline") -> tuple[str, str, str]:
    """The first step, the one in the middle and the last, as they are written below a plot."""
    steps = figures.all_steps()
    places = (0, len(steps) // 2, -1)
    form = "%Y-%m-%d" if figures.width * len(steps) > 3 * 86400 * 1_000_000 else "%a %H:%M"
    first, middle, last = (written(steps[place][0], form) for place in places)
    return first, middle, last


def written(when: int, form: str) -> str:
    """A moment in this form."""
    try:
        return datetime.fromtimestamp(when / 1e6).strftime(form)
    except (ValueError, OverflowError, OSError):
        return "unknown"
