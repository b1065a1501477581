"""commands/report/moments.py: what --since and --until take, as journalctl does."""

import subprocess
from datetime import datetime

import pytest

from popad.commands.report.moments import moment

NOW = 1_790_000_000.25


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23 18:17:16",
        "2026-11-23 18:17",
        "2026-11-23",
        "2026-11-23 18:17:16.5",
        "2026-11-23 18:17:16 UTC",
        "@1395716396",
    ],
)
def test_the_same_as_systemd(text: str) -> None:
    shown = subprocess.run(
        ["systemd-analyze", "timestamp", "--", text], capture_output=True, text=True, check=True
    ).stdout
    (seconds,) = [line.partition("@")[2] for line in shown.splitlines() if "UNIX" in line]
    assert moment(text) == int(float(seconds) * 1_000_000)


def test_iso_8601() -> None:
    assert moment("2026-11-23T18:17:16") == moment("2026-11-23 18:17:16")
    assert moment("2026-11-23T18:17:16Z") == moment("2026-11-23 18:17:16 UTC")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("now", 0),
        ("-1h", -3600),
        ("+1h30min", 5400),
        ("-1.5 h", -5400),
        ("2 days ago", -172_800),
        ("3w 2d ago", -23 * 86400),
        ("-10", -10),
        ("-1M", -30.44 * 86400),
        ("-1m", -60),
    ],
)
def test_spans_from_now(text: str, seconds: float) -> None:
    assert moment(text, NOW) == int((NOW + seconds) * 1e6)


@pytest.mark.parametrize(("text", "days"), [("yesterday", -1), ("today", 0), ("tomorrow", 1)])
def test_days_begin_at_midnight(text: str, days: int) -> None:
    begins = datetime.fromtimestamp(moment(text, NOW) / 1e6)
    assert (begins.date() - datetime.fromtimestamp(NOW).date()).days == days
    assert f"{begins:%H:%M:%S}" == "00:00:00"


def test_a_time_is_one_of_today() -> None:
    assert moment("18:17", NOW) == moment(f"{datetime.fromtimestamp(NOW):%Y-%m-%d} 18:17:00")


def test_a_zone() -> None:
    expected = moment("2026-11-23 16:17:16 UTC")
    for text in ("2026-11-23T18:17:16+02:00", "2026-11-23 18:17:16 +0200"):
        assert moment(text) == expected


@pytest.mark.parametrize("text", ["", "-", "soon", "1h", "-1 fortnight", "@", "@x", "2026-13-01", "25:00", "-1h ago x"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match=r"moment|span|format|must be in"):
        moment(text)
