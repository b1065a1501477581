"""auth/sasl/table.py: each mechanism of the protocol has a row, and what the child sends of it fits."""

from pathlib import Path

import pytest

from popad.auth.helper import Helper
from popad.auth.sasl import table
from popad.auth.sasl.password import NAME_AND_PASSWORD
from popad.auth.sasl.scram import SECOND_SHAPES
from popad.auth.sasl.table import FIRST
from popad.auth.verdict import BROKEN, FAILED, PASSED, REQUEST_LIMITS
from popad.net import encryption
from popad.protocol import sasl
from popad.protocol.authorization import PASSWORD
from popad.session.preauth import MAX_CHALLENGE
from popad.settings import Settings
from popad.values import MECHANISMS
from tests.support.asking import Asking
from tests.support.serving import OWNER


def test_both_sides_have_the_same_mechanisms() -> None:
    assert set(table.MECHANISMS) == {*sasl.MECHANISMS, PASSWORD}
    assert {name.removesuffix(b"-PLUS").decode() for name in sasl.MECHANISMS} == set(MECHANISMS)


def test_limits_follow_from_one_another() -> None:
    assert {FIRST[1], FIRST[5], *SECOND_SHAPES[sasl.FINAL]} == {sasl.MOST_OCTETS}
    assert FIRST[4] == sasl.MOST_OF_NONCE
    assert sasl.MOST_OF_NONCE + 24 <= sasl.MOST_OCTETS  # what the server adds
    # The longest challenge: r=, both nonces, a salt of as many octets as a line can have, and the number.
    assert len(b"r=,s=,i=10000000") + sasl.MOST_OF_NONCE + 24 + 512 <= MAX_CHALLENGE
    assert NAME_AND_PASSWORD[0] == REQUEST_LIMITS[2] == encryption.MAX_CERTIFIED
    assert REQUEST_LIMITS[1] == encryption.MAX_DIGEST


def helper(tmp_path: Path, **values: str) -> Helper:
    given = {"auth": "file", "credentials": str(tmp_path / "none"), "virtual_user": OWNER, "guess_delay": "0"}
    return Helper(Settings({f"POPAD_{name.upper()}": value for name, value in (given | values).items()}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sasl": "none"}, (b"PLAIN", b"", b"alice", b"secret")),
        ({"sasl": "LOGIN"}, (b"PLAIN", b"", b"alice", b"secret")),
        ({}, (b"EXTERNAL", b"")),  # without POPAD_TLS_CLIENT_CA
        ({}, (b"SCRAM-SHA-1", b"n", b"", b"", b"alice", b"abc", b"")),  # only where it is named
        ({"auth": "pam"}, (b"SCRAM-SHA-256", b"n", b"", b"", b"alice", b"abc", b"")),
        ({}, (b"CRAM-MD5", b"")),
    ],
)
def test_a_mechanism_that_is_not_offered(tmp_path: Path, settings: dict[str, str], message: tuple[bytes, ...]) -> None:
    """The list of the client's does not have it: only a child that was taken over asks for it."""
    asking = Asking(helper(tmp_path, **settings))
    asking.say(*message)
    assert asking.verdict().which == BROKEN


def test_user_and_pass_need_no_mechanism(tmp_path: Path) -> None:
    asking = Asking(helper(tmp_path, sasl="none"))
    asking.say(b"USER", b"alice", b"secret")
    assert asking.verdict().which != BROKEN


@pytest.mark.parametrize(("certified", "whose", "which"), [(b"alice", b"", PASSED), (b"alice", b"bob", FAILED)])
def test_external(tmp_path: Path, certified: bytes, whose: bytes, which: bytes) -> None:
    from popad.auth import credentials

    path = tmp_path / "credentials"
    path.touch(0o600)
    path.write_text("".join(credentials.line(name, b"x", 4096) + "\n" for name in ("alice", "bob")))
    made = helper(tmp_path, credentials=str(path), tls_client_ca="/ca")
    asking = Asking(made, certified=certified)
    asking.say(b"EXTERNAL", whose)
    verdict = asking.verdict()
    assert verdict.which == which
