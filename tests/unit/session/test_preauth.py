"""session/preauth.py: the preauth child, in processes of its own. Whole sessions: test_monitor*.py."""

import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from popad.auth.sasl.password import NAME_AND_PASSWORD
from popad.errors import ContractBroken
from popad.net.connection import Connection
from popad.privsep.channel import send_descriptor
from popad.protocol.authorization import MAY_LOG_IN
from popad.session import preauth
from popad.session.monitor import SHAPES
from popad.session.preauth import Preauth
from popad.settings import PREAUTH_UIDS, Settings
from tests.support.here import ROOT
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import Client, four, status_of

NOBODY_IDS = 65534, 65534
NOBODY = NOBODY_IDS if ROOT else None


@contextmanager
def child(*, waits: bool, timeout: str = "20") -> Iterator[tuple[Preauth, Client, socket.socket]]:
    """The child, the client, and the server's end of the connection: the child has it, or `waits` for it."""
    outside, inside = socket.socketpair()
    settings = Settings({"POPAD_LOGIN_TIMEOUT": timeout})

    connection = None if waits else Connection(os.dup(inside.fileno()), "", None)
    made = preauth.start(connection, time.monotonic() + PATIENCE, settings, NOBODY)
    if connection:
        connection.socket.close()
    client = Client(outside)
    try:
        yield made, client, inside
    finally:
        client.close()
        inside.close()
        with suppress(ContractBroken):  # it has said something since it was heard last
            made.end()


def introduce(made: Preauth, inside: socket.socket) -> None:
    send_descriptor(made.channel.socket, bytes([MAY_LOG_IN]), inside.fileno())


def request_of(made: Preauth) -> list[bytearray]:
    return made.channel.receive_request(SHAPES, PATIENCE)


@pytest.mark.parametrize("waits", [True, False])
def test_a_login(waits: bool) -> None:
    with child(waits=waits) as (made, client, inside):
        if waits:
            introduce(made, inside)
        assert client.ask("USER alice").startswith(b"+OK")
        client.send(b"PASS secret\r\nSTAT\r\n")
        assert request_of(made) == [b"login", b"STAT\r\n"]
        assert made.credentials.receive((4, *NAME_AND_PASSWORD), PATIENCE) == [b"USER", b"alice", b"secret"]
        assert made.end() == 0


def test_it_reads_nothing_before_its_client_has_come() -> None:
    with child(waits=True) as (made, client, _):
        client.send(b"QUIT\r\n")
        assert not made.channel.waits(0.1)
        assert made.end() == 0


def test_it_leaves_with_a_session_that_has_had_no_client() -> None:
    """Without a word."""
    with child(waits=True) as (made, _, _):
        made.channel.shut()
        assert made.channel.is_empty()
        assert made.end() == 0


def test_its_time_begins_with_its_client() -> None:
    with child(waits=True, timeout="1") as (made, client, inside):
        time.sleep(1.1)  # the time that a client would have had
        introduce(made, inside)
        assert client.ask("NOOP").startswith(b"-ERR")
        assert request_of(made) == [b"silent", b"NOOP!"]
        assert made.end() == 0


def test_a_client_that_errs_for_ever_is_told_and_left() -> None:
    """The last answer arrives although the client has not stopped sending: what comes is read, and dropped."""
    with child(waits=False) as (made, client, _):
        client.send(b"NOOP\r\n" * 10_000)
        assert client.rest().splitlines()[-1] == b"-ERR unknown command; too many errors"
        assert request_of(made) == [b"errors", b"NOOP! " * 9 + b"NOOP!"]
        client.socket.close()
        assert made.end() == 0


def test_its_time_may_be_over_before_it_begins() -> None:
    """On a machine that is busy."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = Connection(os.dup(theirs.fileno()), "", None)
        settings = Settings({})
        made = preauth.start(client, time.monotonic() - 9, settings, NOBODY)
        client.socket.close()
        assert request_of(made) == [b"silent", b""]
        assert made.end() == 0


@pytest.mark.parametrize("waits", [True, False])
def test_what_is_not_its_own(waits: bool) -> None:
    """Closed before anything else: what it waits with, it has no longer."""
    ours, theirs = socket.socketpair()
    with child(waits=waits) as (made, client, inside):
        theirs.close()
        ours.settimeout(PATIENCE)
        assert ours.recv(1) == b""  # nobody has the other end
        if waits:
            introduce(made, inside)
        assert client.ask("USER alice").startswith(b"+OK")
    ours.close()


@pytest.mark.parametrize("waits", [True, False])
def test_it_can_open_and_start_nothing_when_it_reads(waits: bool) -> None:
    with child(waits=waits) as (made, client, inside):
        if waits:
            introduce(made, inside)
        assert client.ask("USER alice").startswith(b"+OK")
        limits = Path(f"/proc/{made.child.pid}/limits").read_text()
        for name in ("open files", "processes", "file size", "core file size"):
            assert re.search(rf"Max {name} +0 +0 ", limits), limits


@pytest.mark.skipif(not ROOT, reason="needs root: becomes somebody else")
def test_it_is_nobody_while_it_waits() -> None:
    with child(waits=True) as (made, _, _):

        def is_nobody() -> bool:
            status = status_of(made.child.pid or 0)
            return (status["Uid"], status["Gid"]) == (four(PREAUTH_UIDS[made.child.pid or 0]), four(NOBODY_IDS[1]))

        wait_until(is_nobody)
        made.end()
