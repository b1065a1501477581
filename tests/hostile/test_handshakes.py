"""A short run of tests/hostile/handshakes.py."""

from __future__ import annotations

from tests.hostile.handshakes import play


def test_what_is_no_handshake_has_an_answer_and_leaves_nothing() -> None:
    outcomes = play(400, 7)
    assert outcomes.total() == 400
    assert len(outcomes) > 10, "it is not one and the same mutation"
