"""The capability list against RFC 2449 and the tables of commands."""

from __future__ import annotations

import pytest

import popad
from popad.protocol import authorization, transaction
from popad.protocol.authorization import MAY_ENCRYPT, MAY_LOG_IN, Authorization
from popad.protocol.capabilities import CAPABILITIES, ENCRYPTION, LOGIN, capability_list
from popad.protocol.dialogue import converse
from popad.protocol.lines import Lines
from popad.protocol.transaction import Transaction
from tests.support.peer import Peer

# What RFC 1939 demands of a server, and what popad has for old clients (LAST, of RFC 1460), has no capability.
DEMANDED = {b"PASS", b"QUIT", b"STAT", b"LIST", b"RETR", b"DELE", b"NOOP", b"RSET", b"LAST", b"CAPA"}


def test_each_optional_command_is_announced_and_no_other() -> None:
    commands = [LOGIN, ENCRYPTION, *CAPABILITIES]
    words = {line.split()[0].encode() for line in commands}
    announced = words - {b"RESP-CODES", b"AUTH-RESP-CODE", b"PIPELINING", b"EXPIRE", b"IMPLEMENTATION"} | {
        b"AUTH"
    }  # SASL
    assert announced == (set(authorization.TABLE) | set(transaction.TABLE)) - DEMANDED


def test_what_is_no_command() -> None:
    rest = ["RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "UTF8 USER", "LANG"]
    assert list(CAPABILITIES) == ["UIDL", "TOP", *rest, f"IMPLEMENTATION popad-{popad.__version__}"]


def test_mechanisms_are_announced_where_there_are_some() -> None:
    """RFC 5034 section 6: of what may be used now, and no line without one."""
    for names, line in ((["PLAIN", "LOGIN"], b"\r\nSASL PLAIN LOGIN\r\n"), ([], b"")):
        answer = capability_list(sasl=names)
        whole = answer if isinstance(answer, bytes) else b"".join(answer)
        assert (line in whole) and (b"SASL" in whole) == bool(names)


@pytest.mark.parametrize("may", [0, MAY_LOG_IN, MAY_ENCRYPT, MAY_LOG_IN | MAY_ENCRYPT])
def test_what_a_client_may_do_is_announced(may: int) -> None:
    peer = Peer(b"CAPA\r\nUSER a\r\nPASS b\r\nSTLS\r\n", b"QUIT\r\n")
    state = Authorization(may)
    converse(peer, Lines(), authorization.TABLE, state, 40)
    said = b"".join(peer.written)
    assert (b"\r\nUSER\r\n" in said) == bool(may & MAY_LOG_IN) == (state.login is not None)
    assert (b"\r\nSTLS\r\n" in said) == bool(may & MAY_ENCRYPT)
    if not may & MAY_LOG_IN:
        assert said.count(b"-ERR [AUTH] no login without TLS: STLS first\r\n") == 2
        assert state.wants_tls == bool(may & MAY_ENCRYPT)


def test_both_states_give_the_same_list() -> None:
    """But for STLS, which belongs to the first (RFC 2595 section 4)."""
    peer = Peer(b"CAPA\r\nQUIT\r\n")
    converse(peer, Lines(), authorization.TABLE, Authorization(), 40)
    answer = capability_list()
    whole = answer if isinstance(answer, bytes) else b"".join(answer)
    assert b"".join(peer.written) == whole + b"+OK bye\r\n"
    answer = transaction.capa(Transaction(None))  # type: ignore[arg-type]  # it asks for no maildrop
    assert (answer if isinstance(answer, bytes) else b"".join(answer)) == whole
    assert whole.startswith(b"+OK") and whole.endswith(b"\r\n.\r\n")
