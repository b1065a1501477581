"""net/arrival.py: who is let in and greeted, in which order; what is said where nobody can be served."""

import os
import pwd
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from popad import journal
from popad.errors import SettingWrong
from popad.net import arrival, wrappers
from popad.net.connection import Connection
from popad.settings import Settings
from tests.support.patience import PATIENCE


class Rules:
    """Rules that let nobody in, or everybody."""

    def __init__(self, refuses: bool) -> None:
        self.refuses = refuses

    def refuse(self, connection: Connection) -> bool:
        if self.refuses:
            connection.hang_up()
        return self.refuses


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    entries: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(journal, "send", lambda event, **fields: entries.append((event.name, fields)))
    return entries


@pytest.fixture
def client() -> Iterator[tuple[socket.socket, Connection]]:
    ours, theirs = socket.socketpair()
    connection = Connection(theirs.detach(), "192.0.2.7", 1)
    yield ours, connection
    ours.close()
    connection.socket.close()


Client = tuple[socket.socket, Connection]
Logged = list[tuple[str, dict[str, object]]]


def facts(rules: Rules | None) -> arrival.Facts:
    return arrival.Facts(Settings({}), rules, None)  # type: ignore[arg-type]  # all that arrive() asks of rules


@pytest.mark.parametrize("rules", [None, Rules(False)])
def test_a_client_that_is_let_in_is_greeted(client: Client, logged: Logged, rules: Rules | None) -> None:
    known = facts(rules)
    arrived = arrival.arrive(client[1], known)
    assert arrived
    assert arrived.connection is client[1]
    assert arrived.facts is known
    assert 0 <= time.monotonic() - arrived.began < PATIENCE
    assert client[0].recv(100) == arrival.GREETING
    assert logged == []


def test_a_client_that_is_refused_hears_nothing(client: Client, logged: Logged) -> None:
    assert arrival.arrive(client[1], facts(Rules(True))) is None
    assert client[0].recv(100) == b""
    assert logged == []  # the rules have said it


def fill(client: socket.socket, connection: Connection) -> None:
    """A client that reads nothing: no write comes through."""
    connection.socket.setblocking(False)
    with suppress(BlockingIOError):
        while connection.socket.send(bytes(65536)):
            pass


@pytest.mark.parametrize("reads", ["gone", "nothing"])
def test_a_client_that_leaves_before_the_greeting(
    client: Client, logged: Logged, monkeypatch: pytest.MonkeyPatch, reads: str
) -> None:
    known = facts(None)
    if reads == "gone":
        client[0].close()
    else:
        fill(*client)
        monkeypatch.setattr(known.settings, "login_timeout", 0.01)
    assert arrival.arrive(client[1], known) is None
    assert client[1].socket.fileno() == -1
    assert logged == [("login-not-attempted", {"rhost": "192.0.2.7", "rport": 1, "reason": "the client left"})]


@pytest.mark.parametrize("reads", ["gone", "nothing"])
def test_nobody_can_be_served_and_the_client_does_not_hear_it(client: Client, logged: Logged, reads: str) -> None:
    client[0].close() if reads == "gone" else fill(*client)
    arrival.refuse_to_serve(client[1], SettingWrong("POPAD_USER", "must not be root"))
    assert client[1].socket.fileno() == -1
    assert [event for event, _ in logged] == ["setting-wrong"]


def test_nobody_can_be_served(client: Client, logged: Logged) -> None:
    arrival.refuse_to_serve(client[1], SettingWrong("POPAD_USER", "must not be root"))
    assert client[0].recv(100) == arrival.NOT_SERVED
    assert client[0].recv(100) == b""
    assert logged == [("setting-wrong", {"rhost": "192.0.2.7", "reason": "POPAD_USER: must not be root"})]


def test_without_root_there_is_no_preauth_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert arrival.preauth_identity(Settings({"POPAD_USER": "nobody-here"})) is None


def test_rules_are_part_of_the_facts_where_they_are_asked_for() -> None:
    settings = Settings({"POPAD_USER": "daemon"})
    assert arrival.facts_of(settings, with_rules=False).rules is None
    facts = arrival.facts_of(settings, with_rules=True)
    assert isinstance(facts.rules, wrappers.Rules)
    assert facts.settings is settings


def test_who_the_preauth_child_becomes() -> None:
    """As root: the user of the setting, who is there and not root. Else everything has one uid."""
    daemon = pwd.getpwnam("daemon")
    settings = Settings({"POPAD_USER": "daemon"})
    if os.geteuid() != 0:
        assert arrival.facts_of(settings, with_rules=False).identity is None
        return
    assert arrival.facts_of(settings, with_rules=False).identity == (daemon.pw_uid, daemon.pw_gid)
    for name, reason in (("root", "must not be root"), ("nobody-here", "there is no user 'nobody-here'")):
        with pytest.raises(SettingWrong) as wrong:
            arrival.preauth_identity(Settings({"POPAD_USER": name}))
        assert (wrong.value.name, wrong.value.reason) == ("POPAD_USER", reason)
