"""Moments as journalctl's --since= and --until= take them: systemd.time(7)."""

import re
import time
from datetime import datetime, timedelta

SPANS = {
    "us usec µs": 1e-6,
    "ms msec": 1e-3,
    "s sec second seconds": 1.0,
    "m min minute minutes": 60.0,
    "h hr hour hours": 3600.0,
    "d day days": 86400.0,
    "w week weeks": 7 * 86400.0,
    "M month months": 30.44 * 86400.0,
    "y year years": 365.25 * 86400.0,
}
SECONDS = {name: seconds for names, seconds in SPANS.items() for name in names.split()}
DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
PART = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) *([a-zA-Zµ]*) *", re.ASCII)
ZONE = re.compile(r" (?=(?:[+-]\d\d(?::?\d\d)?)$)")


def moment(text: str, now: float | None = None) -> int:
    """Microseconds since 1970 of a moment: a date, a time, both (ISO 8601), a day's name, a span from now, @SECONDS.

    What says no zone is local. Raises ValueError.
    """
    now = time.time() if now is None else now
    text = text.strip()
    here = datetime.fromtimestamp(now)
    if text == "now":
        return int(now * 1e6)
    if text in DAYS:
        return microseconds(here.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(DAYS[text]))
    if text.startswith("@"):
        return int(float(text[1:]) * 1e6) if re.fullmatch(r"@\d{1,11}(\.\d+)?", text, re.ASCII) else none(text)
    if text[:1] in ("-", "+"):
        return int((now + span(text[1:]) * (1 if text[0] == "+" else -1)) * 1e6)
    if text.endswith(" ago"):
        return int((now - span(text.removesuffix(" ago"))) * 1e6)
    if re.match(r"\d\d:\d\d", text, re.ASCII):
        text = f"{here:%Y-%m-%d} {text}"
    return microseconds(datetime.fromisoformat(ZONE.sub("", re.sub(" (UTC|Z)$", "+00:00", text))))


def span(text: str) -> float:
    """Seconds of "1h30min" or "2 days"; a number without a unit is seconds. Raises ValueError."""
    text = text.strip()
    seconds, place = 0.0, 0
    while place < len(text):
        part = PART.match(text, place)
        if part is None or (part[2] or "s") not in SECONDS:
            raise ValueError("not a span of time")
        seconds += float(part[1]) * SECONDS[part[2] or "s"]
        place = part.end()
    return seconds if text else none(text)


def none(text: str) -> int:
    """Raises ValueError."""
    raise ValueError(f"{text!a} is no moment")


def microseconds(when: datetime) -> int:
    """Of a date with a zone, or a local one. Raises ValueError where no clock shows it."""
    try:
        return int(when.timestamp() * 1e6)
    except (OverflowError, OSError) as error:
        raise ValueError(str(error)) from None
