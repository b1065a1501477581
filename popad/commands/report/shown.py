"""Numbers, times and texts as people read them. Whatever a text is, it cannot move a terminal's cursor."""

from datetime import datetime

CUT = 60  # characters of a name in a table


def count(value: int) -> str:
    """1234567 as 1,234,567."""
    return f"{value:,}"


def octets(value: int) -> str:
    """With the unit of three digits: 1.23 MB."""
    size = float(value)
    for unit in ("octets", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "octets" or size >= 99.95 else f"{size:.3g} {unit}"


def duration(microseconds: int) -> str:
    """340 ms, 1.2 s, 5 min 20 s, 2 h 1 min, 7 d."""
    seconds = microseconds / 1e6
    if seconds < 0.9995:
        return f"{microseconds / 1000:.3g} ms"
    if seconds < 99.5:
        return f"{seconds:.3g} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {left} s" if left else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24:,} d {hours % 24} h" if hours % 24 else f"{hours // 24:,} d"


def moment(microseconds: int) -> str:
    """A local date and time."""
    try:
        return f"{datetime.fromtimestamp(microseconds / 1e6):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "unknown"


def plain(text: str) -> str:
    """A text in which only printable characters stand for themselves."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def cut(text: str, length: int = CUT) -> str:
    """A text that prints, as far as there is room."""
    text = plain(text[: length + 1])
    return text if len(text) <= length else text[: length - 1] + "…"
