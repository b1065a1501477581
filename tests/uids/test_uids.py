"""Some hundred histories (tests/uids/run tries thousands)."""

from pathlib import Path

from hypothesis import given, settings

from .histories import FEW, Step, histories, play


@settings(max_examples=200)
@given(histories)
def test_ids_stay_and_never_pass_on(quick_path: Path, history: list[Step]) -> None:
    play(history, quick_path)


@settings(max_examples=200)
@given(histories)
def test_ids_stay_though_few_that_are_gone_are_remembered(quick_path: Path, history: list[Step]) -> None:
    play(history, quick_path, FEW)
