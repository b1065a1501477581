"""commands/report/style.py: how the page looks."""

import re

from popad.commands.report.style import STYLE


def test_day_and_night_have_the_same_colours() -> None:
    day, night = re.findall(r":root \{(.*?)\}", STYLE, re.S)
    assert set(re.findall(r"--\w+", day)) == set(re.findall(r"--\w+", night))


def test_it_fetches_nothing() -> None:
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_braces_are_closed() -> None:
    assert STYLE.count("{") == STYLE.count("}")
