"""commands/who.py: what people and programs are shown. Which sessions there are: test_sessions.py."""

import argparse
import json
import os
import pty
import re
import subprocess
import sys
import time

import pytest

from popad.commands import who
from popad.commands.processes import Process
from popad.commands.sessions import Session
from popad.commands.standing import Standing
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.terminal import SHELL, blocks

NOW = 1764000000.0


def session(
    pid: int, said: str, *, uid: int = 65534, since: int | None = int(NOW) - 90, idle: int | None = 5
) -> Session:
    made = Session(Process(pid, 1, 1, uid, "/x"), "192.0.2.7", 41234)
    made.stands(Standing(said), logged_in=uid != 0)
    made.since, made.idle = since, idle
    return made


MAIL = session(4711, "jane: 3 messages, 1 deleted, TLSv1.3")
GUEST = session(12, "authorization, 192.0.2.7", uid=0, idle=150)
UNKNOWN = session(9, "", since=None, idle=None)


def given(*, watch: bool = False, in_json: bool = False) -> argparse.Namespace:
    return argparse.Namespace(watch=watch, json=in_json)


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert list(who.table([MAIL, GUEST, UNKNOWN], NOW)) == [
        "SESSION  USER           ADDRESS    TLS      STATE          MESSAGES  DELETED  SINCE     IDLE",
        "   4711  jane (nobody)  192.0.2.7  TLSv1.3  transaction           3        1  15:58:30    5s",
        "     12  -              192.0.2.7  -        authorization         -        -  15:58:30    2m",
        "      9  nobody         192.0.2.7  -        transaction           -        -  -            -",
    ]


def test_times() -> None:
    assert [who.length(seconds) for seconds in (0, 119, 120, 7199, 7200, 86400)] == [
        *("0s", "119s", "2m", "119m", "2h", "24h")
    ]
    assert who.moment(int(NOW) - 2 * 86400, NOW).startswith("2025-11-22 ")


def test_for_programs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An object a line. A name that would do something to a terminal is escaped in it, as in the table."""
    evil = session(13, "\x1b[2J\x9b: 1 messages")
    monkeypatch.setattr(who, "sessions", lambda: ([MAIL, GUEST, evil], True))
    assert who.who(given(in_json=True)) == 0
    said = capsys.readouterr()
    mail, guest, other = map(json.loads, said.out.splitlines())
    assert mail == {
        "session": 4711,
        "user": "jane",
        "account": "nobody",
        "address": "192.0.2.7",
        "port": 41234,
        "proxy": None,
        "tls": "TLSv1.3",
        "state": "transaction",
        "messages": 3,
        "deleted": 1,
        "idle": 5,
        "unit": None,
        "since": "2025-11-24T15:58:30Z",
    }
    assert (guest["user"], guest["state"], guest["messages"]) == (None, "authorization", None)
    assert other["user"] == r"\x1b[2J\xc2\x9b"
    assert said.err == ""
    assert who.who(given()) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_what_is_not_seen_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(who, "sessions", lambda: ([UNKNOWN], False))
    assert who.who(given()) == 0
    assert "only root" in capsys.readouterr().err


def test_a_systemd_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def silent() -> tuple[list[Session], bool]:
        raise OSError("systemd does not answer")

    monkeypatch.setattr(who, "sessions", silent)
    assert who.who(given()) == 1
    assert capsys.readouterr().err == "popad who: systemd does not answer\n"


def test_options_that_do_not_go_together() -> None:
    assert who.wrong(given(watch=True, in_json=True))
    assert not who.wrong(given(watch=True))


# -- the screen


def test_a_page_has_the_height_of_the_screen() -> None:
    many = [session(pid, "jane: 3 messages") for pid in range(1, 31)]
    assert len(who.page(many, True, NOW, 100)) == 33
    page = who.page(many, True, NOW, 24)
    assert len(page) == 24
    assert "30 sessions, 30 logged in" in page[0]
    assert page[-1] == "… and 10 more"  # 20 of them are on it
    assert sum("jane" in line for line in page) == 20
    assert who.NOT_ALL in who.page(many, False, NOW, 24)[1]
    assert len(who.page(many, True, NOW, 1)) == 1


def test_watch_needs_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert who.who(given(watch=True)) == 1
    assert "needs a terminal" in capsys.readouterr().err


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_watch_on_a_terminal(key: bytes) -> None:
    """It shows the table and ends with the key, and the terminal is as it was."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "LINES": "24", "COLUMNS": "100"}
    command = ["setsid", "--ctty", "--wait", *SHELL, sys.executable, "-m", "popad", "who", "--watch"]
    with subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as shown:
        os.close(theirs)
        seen = b""
        for block in blocks(ours):
            if b"SESSION" not in seen and b"SESSION" in seen + block:
                os.write(ours, key)
            seen += block
        assert shown.wait(PATIENCE) == 0
    os.close(ours)
    assert b"sessions" in seen
    assert b"\x1b[?25l" in seen, "the cursor, which would stand on a session, is hidden"
    assert not re.search(rb"\x1b\[(\d+;)*(30|37|40)[;m]", seen), "the terminal has its own colours"
    assert seen.rfind(b"\x1b[?1049h") < seen.rfind(b"\x1b[?1049l"), "the screen before is there again"
