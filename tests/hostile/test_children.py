"""The privileged side under a hostile authorization child: made-up datagrams, and what became of each session."""

from tests.hostile import children


def test_hostile_children() -> None:
    """Every kind of outcome is among them; what each must be is in children.py."""
    outcomes = children.fuzz(70, seed=1)
    assert set(outcomes) >= {"broken", "no login", "wrong"}
    assert outcomes["broken"] > 30
