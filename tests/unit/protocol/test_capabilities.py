"""The capability list against RFC 2449 and the tables of commands."""

from __future__ import annotations

import popad
from popad.protocol import authorization, transaction
from popad.protocol.authorization import Authorization
from popad.protocol.capabilities import CAPABILITIES, capability_list
from popad.protocol.dialogue import converse
from popad.protocol.lines import Lines
from tests.support.peer import Peer

# What RFC 1939 demands of a server, and what popad has for old clients (LAST, of RFC 1460), has no capability.
DEMANDED = {b"PASS", b"QUIT", b"STAT", b"LIST", b"RETR", b"DELE", b"NOOP", b"RSET", b"LAST", b"CAPA"}


def test_each_optional_command_is_announced_and_no_other() -> None:
    announced = {line.encode() for line in CAPABILITIES if line.isalpha() and line.isupper()} - {b"PIPELINING"}
    assert announced == (set(authorization.TABLE) | set(transaction.TABLE)) - DEMANDED


def test_what_is_no_command() -> None:
    rest = ["RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", f"IMPLEMENTATION popad-{popad.__version__}"]
    assert list(CAPABILITIES) == ["USER", "UIDL", "TOP", *rest]


def test_both_states_give_the_same_list() -> None:
    """RFC 2449 section 5 lets a client ask once."""
    peer = Peer(b"CAPA\r\nQUIT\r\n")
    converse(peer, Lines(), authorization.TABLE, Authorization(), 40)
    answer = capability_list()
    whole = answer if isinstance(answer, bytes) else b"".join(answer)
    assert b"".join(peer.written) == whole + b"+OK bye\r\n"
    answer = transaction.capa(None)  # type: ignore[arg-type]  # it asks the state for nothing
    assert (answer if isinstance(answer, bytes) else b"".join(answer)) == whole
    assert whole.startswith(b"+OK") and whole.endswith(b"\r\n.\r\n")
