"""protocol/language.py: LANG (RFC 6856 section 3)."""

import pytest

from popad.protocol import authorization
from popad.protocol.authorization import Authorization
from popad.protocol.dialogue import converse
from popad.protocol.lines import Lines
from tests.support.peer import Peer


def answer(line: bytes) -> bytes:
    peer = Peer(line + b"\r\nQUIT\r\n")
    converse(peer, Lines(), authorization.TABLE, Authorization(), 40)
    return bytes(peer.received).removesuffix(b"+OK bye\r\n")


def test_which_there_are() -> None:
    assert answer(b"LANG") == b"+OK languages\r\nen English\r\n.\r\n"


@pytest.mark.parametrize("wanted", [b"en", b"EN", b"en-GB", b"*"])
def test_the_one_there_is(wanted: bytes) -> None:
    assert answer(b"LANG " + wanted) == b"+OK en replies are in English\r\n"


@pytest.mark.parametrize("wanted", [b"de", b"eng", b"e", b"en de", b"-", b"en\xc3\xbc", b" "])
def test_others(wanted: bytes) -> None:
    assert answer(b"LANG " + wanted) == b"-ERR no such language\r\n"
