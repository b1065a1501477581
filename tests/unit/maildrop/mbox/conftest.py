"""What the tests of the mbox store share."""

import pytest

from popad.maildrop.mbox import dotlock


@pytest.fixture
def known_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run in a container, where a dead update's lock file would count until it is five minutes old."""
    monkeypatch.setattr(dotlock, "processes_are_known", lambda: True)
