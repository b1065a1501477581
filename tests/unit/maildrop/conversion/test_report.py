"""maildrop/conversion/report.py: how far it is, and the end that it is told."""

import signal

import pytest

from popad.maildrop.conversion import report
from popad.maildrop.conversion.building import NotConverted
from popad.maildrop.conversion.report import Report


def test_how_far_it_is_is_told_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    said = Report(lambda done, count: told.append((done, count)))
    said.at(1, 9)
    assert told == []
    monkeypatch.setattr(report, "PAUSE", -1.0)
    said.at(2, 9)
    assert told == [(2, 9)]


def test_a_signal_ends_it() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(NotConverted, match="told to end"):
            Report(lambda done, count: None).at(1, 9)
        assert signal.sigwait({signal.SIGTERM}) == signal.SIGTERM
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
