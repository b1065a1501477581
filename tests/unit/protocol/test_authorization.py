"""protocol/authorization.py: what a client may say before it is known. RFC 1939 section 4, RFC 2449."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.errors import PeerGone
from popad.protocol.authorization import (
    MAX_COMMANDS,
    MAX_ERRORS,
    SAID_OCTETS,
    TABLE,
    VERBS,
    Authorization,
    in_words,
    is_summary,
)
from popad.protocol.dialogue import converse
from popad.protocol.lines import Lines
from tests.support.peer import Peer


def said(text: bytes) -> tuple[Authorization, bytes, bytes]:
    """The state after `text`, the answers, and what is left for the next state."""
    state, lines, peer = Authorization(), Lines(), Peer(text)
    converse(peer, lines, TABLE, state, 40)
    return state, peer.received, lines.rest()


def test_login_is_handed_over_not_answered() -> None:
    state, answers, rest = said(b"USER alice\r\nPASS secret\r\nSTAT\r\nQU")
    assert (state.login, state.over) == ((b"USER", b"alice", b"secret"), True)
    assert answers == b"+OK now PASS\r\n"
    assert rest == b"STAT\r\nQU"


@pytest.mark.parametrize(
    ("line", "password"),
    [
        (b"PASS a b  c ", b"a b  c "),
        (b"PASS  ", b" "),
        (b"pass  a", b" a"),
        (b"PASS \xff\xfe", b"\xff\xfe"),
        (b"PASS %s%n{0}", b"%s%n{0}"),
        (b"PASS " + b"x" * 248, b"x" * 248),
    ],
)
def test_password_is_the_rest_of_the_line(line: bytes, password: bytes) -> None:
    state, _, _ = said(b"USER alice\r\n" + line + b"\r\n")
    assert state.login == (b"USER", b"alice", password)


@pytest.mark.parametrize(
    "line",
    [b"PASS", b"PASS ", b"PASS a\0b", b"PASS " + b"x" * 250, b"USER", b"STAT", b"AUTH X", b"APOP a b"],
)
def test_refusals_are_no_attempt(line: bytes) -> None:
    state, answers, _ = said(b"USER alice\r\n" + line + b"\r\nQUIT\r\n")
    assert (state.name, state.login) == (b"alice", None)
    first, second, third = answers.splitlines()
    assert (first[:3], second[:4], third[:3]) == (b"+OK", b"-ERR", b"+OK")


@pytest.mark.parametrize("line", [b"USER", b"USER ", b"USER  a", b"USER " + b"x" * 250, b"PASS secret"])
def test_another_user_may_follow_a_refusal(line: bytes) -> None:
    state, answers, _ = said(line + b"\r\nUSER alice\r\nPASS secret\r\n")
    assert state.login == (b"USER", b"alice", b"secret")
    assert [answer[:4] for answer in answers.splitlines()] == [b"-ERR", b"+OK "]


def test_another_user_replaces_the_first() -> None:
    """c-client says USER again when its user has given no password."""
    state, answers, _ = said(b"USER bob\r\nPASS \r\nUSER alice\r\nPASS secret\r\n")
    assert state.login == (b"USER", b"alice", b"secret")
    assert [answer[:4] for answer in answers.splitlines()] == [b"+OK ", b"-ERR", b"+OK "]


@pytest.mark.parametrize("line", [b"NOOP", b"", b"x" * 300, b"PASS secret", b"USER", b"CA\0PA"])
def test_errors_have_an_end(line: bytes) -> None:
    """The last answer says so; nothing behind it is looked at."""
    state, answers, rest = said((line + b"\r\n") * MAX_ERRORS + b"USER alice\r\nPASS secret\r\n")
    assert (state.over, state.name, state.login, state.errors) == (True, b"", None, MAX_ERRORS)
    assert rest == b"USER alice\r\nPASS secret\r\n"
    *before, last = answers.splitlines()
    assert len(before) == MAX_ERRORS - 1
    assert not any(b"too many" in answer for answer in before)
    assert last.startswith(b"-ERR")
    assert last.endswith(b"; too many errors")


def test_one_error_less_is_no_end() -> None:
    state, _, _ = said(b"NOOP\r\n" * (MAX_ERRORS - 1) + b"USER alice\r\nPASS secret\r\n")
    assert state.login == (b"USER", b"alice", b"secret")


@pytest.mark.parametrize("line", [b"CAPA", b"USER alice"])
def test_commands_that_lead_nowhere_have_an_end(line: bytes) -> None:
    state, answers, rest = said((line + b"\r\n") * (MAX_COMMANDS + MAX_ERRORS + 1))
    assert (state.over, state.login, rest) == (True, None, line + b"\r\n")
    status = [answer[:4] for answer in answers.splitlines() if answer[:1] in b"+-"]
    assert status == [b"+OK "] * MAX_COMMANDS + [b"-ERR"] * MAX_ERRORS


def test_quit_is_no_attempt() -> None:
    state, answers, rest = said(b"USER alice\r\nQUIT\r\nPASS secret\r\n")
    assert (state.over, state.login) == (True, None)
    assert answers.splitlines()[-1] == b"+OK bye"
    assert rest == b"PASS secret\r\n"


def test_table_has_the_commands_of_the_state() -> None:
    assert set(TABLE) == {b"USER", b"PASS", b"AUTH", b"CAPA", b"UTF8", b"LANG", b"STLS", b"QUIT"}


@given(st.lists(st.one_of(st.sampled_from(sorted(VERBS)), st.binary(max_size=9)), max_size=60).map(b"\r\n".join))
def test_what_was_said_is_told_without_its_octets(text: bytes) -> None:
    state = Authorization()
    with contextlib.suppress(PeerGone):
        converse(Peer(text), Lines(), TABLE, state, 40)
    summary = state.summary(text)
    assert is_summary(summary)
    assert len(summary) <= SAID_OCTETS
    assert set(in_words(summary).replace(" (refused)", "").split(", ")) <= {
        *(verb.decode() for verb in VERBS),
        "another word",
        "the beginning of TLS",
        "",
    }


@pytest.mark.parametrize(
    "octets", [b"hunter2", b"CAPA  USER", b" CAPA", b"CAPA!!", b"capa", b"!", b"CAPA\n", b"CAPA " * 17]
)
def test_what_is_no_summary(octets: bytes) -> None:
    assert not is_summary(octets)
