"""daemon/helper_process.py: the auth helper is there again when it has ended, but not at once when it has died."""

import os
from collections.abc import Callable, Iterator

import pytest

from popad import journal
from popad.daemon import helper_process
from popad.daemon.helper_process import HelperProcess
from popad.privsep import spawn
from popad.privsep.channel import message_pair


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    entries: list[str] = []
    monkeypatch.setattr(journal, "send", lambda event, **fields: entries.append(f"{event.name}: {fields['reason']}"))
    return entries


@pytest.fixture
def helper() -> Iterator[HelperProcess]:
    helper = HelperProcess("authentication", lambda: 0)
    yield helper
    helper.relay.close()
    helper.end.close()


def reaped(helper: HelperProcess) -> int:
    return os.waitpid(helper.pid, 0)[1]


def test_one_at_a_time(helper: HelperProcess) -> None:
    helper.start()
    first = helper.pid
    helper.start()
    assert helper.pid == first
    reaped(helper)


def test_one_that_leaves_has_a_successor_at_once(helper: HelperProcess, logged: list[str]) -> None:
    helper.start()
    status = reaped(helper)
    helper.ended(status, 0.0, is_expected=False)
    assert helper.pid == 0
    helper.start()
    assert reaped(helper) == 0
    assert logged == []


def test_one_that_died_is_logged_and_has_a_successor_later(helper: HelperProcess, logged: list[str]) -> None:
    far = 1e9  # on the monotonic clock
    helper.ended(9, far, is_expected=False)
    assert logged == ["helper-died: wait status 9"]
    assert helper.due == far + helper_process.PAUSE
    helper.start()
    assert helper.pid == 0


def test_one_that_was_told_to_end_is_not_logged(helper: HelperProcess, logged: list[str]) -> None:
    helper.ended(15, 0.0, is_expected=True)
    assert logged == []


def test_no_process_to_be_had(helper: HelperProcess, logged: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(role: Callable[[], int]) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(spawn, "spawn", refuse)
        helper.start()
    assert (helper.pid, len(logged)) == (0, 1)
    helper.start()
    assert helper.pid == 0  # not yet
    helper.due = 0.0
    helper.start()
    assert reaped(helper) == 0


def test_new_settings_make_another_one_with_another_relay(helper: HelperProcess) -> None:
    helper.start()
    reaped(helper)
    before = helper.relay
    helper.replace(message_pair())
    assert before.fileno() == -1
    assert reaped(helper) == 0
