"""auth/sasl/password.py: what a password mechanism makes of its message."""

import pytest

from popad.auth.identity import Account, LoginFailed, Unknown
from popad.auth.sasl.password import Password


class Source:
    """One password for all."""

    def authenticate(self, name: str, password: bytes, rhost: str) -> Account:
        if password != b"secret":
            raise LoginFailed("wrong password")
        return Account(f"{name} {rhost}")


def made(*fields: bytes) -> Password:
    return Password([bytearray(field) for field in fields], Source())


@pytest.mark.parametrize("fields", [(b"USER", b"alice", b"secret"), (b"LOGIN", b"alice", b"secret")])
def test_a_name_and_a_password(fields: tuple[bytes, ...]) -> None:
    attempt = made(*fields)
    assert (attempt.mechanism, attempt.name, attempt.whose) == (fields[0], b"alice", b"")
    assert attempt.secret == b"secret"
    assert attempt.prove("alice", "192.0.2.7").name == "alice 192.0.2.7"


def test_whose_mail() -> None:
    attempt = made(b"PLAIN", b"bob", b"alice", b"secret")
    assert (attempt.name, attempt.whose) == (b"alice", b"bob")


@pytest.mark.parametrize("password", [b"", b"\0", b"sec\0ret"])
def test_what_is_no_password(password: bytes) -> None:
    with pytest.raises(Unknown):
        made(b"USER", b"alice", password).prove("alice", "")


def test_a_wrong_password() -> None:
    with pytest.raises(LoginFailed):
        made(b"USER", b"alice", b"x").prove("alice", "")
