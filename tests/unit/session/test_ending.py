"""session/ending.py: a signal raises once, and not where the session is about to end anyway."""

import os
import signal

import pytest

from popad.session.ending import SIGNALS, ToldToEnd, end_when_told
from tests.support.forked import Forked


def test_it_raises_once_and_no_handler_of_errors_takes_it() -> None:
    def work() -> None:
        end_when_told()
        try:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except Exception:
                os._exit(2)
        except ToldToEnd as told:
            assert str(told) == "SIGTERM"
        for number in SIGNALS:
            os.kill(os.getpid(), number)

    child = Forked(work)
    assert child.left() == 0
    child.close()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_session_that_is_about_to_end(number: int) -> None:
    def work() -> None:
        answers = [False, True]
        end_when_told(lambda: answers.pop(0))
        os.kill(os.getpid(), number)
        try:
            os.kill(os.getpid(), number)
        except ToldToEnd:
            return
        os._exit(2)

    child = Forked(work)
    assert child.left() == 0
    child.close()
