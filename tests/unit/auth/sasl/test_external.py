"""auth/sasl/external.py: the name is the certificate's, whatever the child says."""

import pytest

from popad.auth.identity import Account, LoginFailed, Unknown
from popad.auth.sasl.attempt import Client
from popad.auth.sasl.external import External


class Source:
    """Has one account."""

    def vouch(self, name: str, rhost: str) -> Account:
        if name != "alice":
            raise Unknown(name)
        return Account(name)


def made(whose: bytes, certified: str) -> External:
    return External([bytearray(b"EXTERNAL"), bytearray(whose)], Source(), Client("192.0.2.7", certified=certified))


def test_the_name_of_the_certificate() -> None:
    attempt = made(b"", "alice")
    assert (attempt.name, attempt.whose) == (b"alice", b"")
    assert attempt.prove("alice", "192.0.2.7").name == "alice"


def test_without_a_certificate() -> None:
    with pytest.raises(LoginFailed):
        made(b"alice", "").prove("alice", "192.0.2.7")


def test_what_the_child_says_is_whose_mail_it_wants() -> None:
    """Which has to be that of the name; helper.py looks."""
    attempt = made(b"bob", "alice")
    assert (attempt.name, attempt.whose) == (b"alice", b"bob")
