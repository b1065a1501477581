"""commands/standing.py: what is believed of what a session says of itself."""

import pytest

from popad.commands.standing import Standing


@pytest.mark.parametrize(
    ("line", "state", "rest"),
    [
        ("authorization, 192.0.2.7", "authorization", ("", "192.0.2.7", "", None, None)),
        ("authorization, fe80::1%eth0, TLSv1.3", "authorization", ("", "fe80::1%eth0", "TLSv1.3", None, None)),
        ("jane: 3 messages", "transaction", ("jane", "", "", 3, 0)),
        ("jane: 3 messages, 1 deleted, TLSv1.2", "transaction", ("jane", "", "TLSv1.2", 3, 1)),
        ("jane: 0 messages, TLSv1.3, from 2001:db8::7", "transaction", ("jane", "2001:db8::7", "TLSv1.3", 0, 0)),
        ("a: b: 3 messages", "transaction", ("a: b", "", "", 3, 0)),
        ("jörg@example.org: 3 messages", "transaction", ("jörg@example.org", "", "", 3, 0)),
        ("\x1b[2Jjane\u202e: 3 messages", "transaction", (r"\x1b[2Jjane\xe2\x80\xae", "", "", 3, 0)),
    ],
)
def test_what_a_session_says(line: str, state: str, rest: tuple[object, ...]) -> None:
    found = Standing(line)
    assert (found.state, found.user, found.rhost, found.tls, found.messages, found.deleted) == (state, *rest)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "authorization",
        "authorization, \x1b[2J",
        "authorization, 192.0.2.7, TLSv1.3\x07",
        "jane: many messages",
        "jane: ٣ messages",
        "jane: 12345678901 messages",
        "jane: 3 messages, from nowhere at all",
        "jane: 3 messages\njane: 4 messages",
        ": 3 messages",
    ],
)
def test_what_it_cannot_have_said(line: str) -> None:
    found = Standing(line)
    assert (found.state, found.user, found.rhost, found.tls, found.messages) == ("", "", "", "", None)
