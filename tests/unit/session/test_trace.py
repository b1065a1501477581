"""POPAD_LOG and POPAD_DEBUG_USERS: what the journal has of a session, and what it never has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.session.trace import SECRET, shown
from tests.support.patience import PATIENCE
from tests.support.serving import NAME, PASSWORD, Server


def said(server: Server) -> list[str]:
    return [entry["said"] for entry in server.log if entry["event"] == "protocol"]


@pytest.mark.parametrize("settings", [{"POPAD_LOG": "debug"}, {"POPAD_DEBUG_USERS": f"bob {NAME}"}], ids=str)
def test_the_protocol_of_a_session(server: Server, settings: dict[str, str]) -> None:
    with server.session(settings) as (client, process):
        client.log_in()
        client.ask("STAT")
        client.send(b"RETR 1\r\n")
        client.line()
        client.body()
        client.send(b"PASS " + PASSWORD.encode() + b"\r\n")
        client.line()
        client.ask("QUIT")
        assert process.wait(PATIENCE) == 0
    lines = said(server)
    assert [line for line in lines if line.startswith("C: ")] == ["C: STAT", "C: RETR 1", "C: PASS ...", "C: QUIT"]
    assert lines[0].startswith("S: +OK 3 messages")
    answers = [entry for entry in server.log if entry.get("said", "").startswith("S: ")]
    assert answers[2]["said"].endswith(" octets") and int(answers[2]["said_octets"]) > len(answers[2]["said"])
    assert PASSWORD not in server.stderr.read_text()
    assert "body of" not in server.stderr.read_text()


@pytest.mark.parametrize("settings", [{}, {"POPAD_DEBUG_USERS": "bob"}], ids=str)
def test_of_others_there_is_none(server: Server, settings: dict[str, str]) -> None:
    with server.session(settings) as (client, process):
        client.log_in()
        client.ask("QUIT")
        assert process.wait(PATIENCE) == 0
    assert said(server) == []
    assert len(server.log) == 4


def test_a_quiet_log(server: Server) -> None:
    with server.session({"POPAD_LOG": "quiet"}) as (client, process):
        client.log_in()
        client.ask("DELE 1")
        client.ask("QUIT")
        assert process.wait(PATIENCE) == 0
    assert server.events == ["session-closed"]
    with server.session({"POPAD_LOG": "quiet"}) as (client, process):
        client.line()
        client.ask("QUIT")
        assert process.wait(PATIENCE) == 0
    assert server.events == ["session-closed"]
    with server.session({"POPAD_LOG": "quiet"}) as (client, process):
        client.line()
        client.ask(f"USER {NAME}")
        client.send(b"PASS wrong\r\n")
        assert client.rest().startswith(b"-ERR")
        assert process.wait(PATIENCE) == 0
    assert server.events == ["session-closed", "login-failed"]


def test_what_comes_before_the_login_is_answered_is_heard_too(server: Server) -> None:
    with server.session({"POPAD_LOG": "debug"}) as (client, process):
        client.line()
        client.send(f"USER {NAME}\r\nPASS {PASSWORD}\r\nNOOP\r\nST".encode())
        client.line()
        client.line()
        client.line()
        client.send(b"AT\r\n")
        client.line()
        client.ask("QUIT")
        assert process.wait(PATIENCE) == 0
    assert [line for line in said(server) if line.startswith("C: ")] == ["C: NOOP", "C: STAT", "C: QUIT"]


@given(st.sampled_from(SECRET), st.binary(min_size=1).filter(lambda secret: b"\n" not in secret))
def test_no_argument_of_a_secret_command_is_shown(verb: bytes, secret: bytes) -> None:
    assert shown(verb.lower() + b" " + secret) == verb.lower() + b" ..."
