"""The monitor under a hostile preauth child: datagrams as they may not be, and what became of each session."""

import random

from tests.hostile import children


def test_every_row_of_the_monitors_table() -> None:
    """What is no login, or a login to the end, is what the table allows; all else ends the session."""
    outcomes, messages = children.play(children.whole_table())
    assert outcomes["passed"] >= 2
    assert outcomes["broken"] > 100
    assert messages > 300


def test_what_is_made_up() -> None:
    """Every kind of outcome is among them; what each must be is in children.py."""
    outcomes, _ = children.play(children.made_up(random.Random(1 + number)) for number in range(70))
    assert set(outcomes) >= {"broken", "no login", "wrong"}
    assert outcomes["broken"] > 30
