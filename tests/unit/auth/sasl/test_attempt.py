"""auth/sasl/attempt.py: the talk with the preauth child, and its ends."""

from collections.abc import Iterator

import pytest

from popad.auth.sasl import attempt
from popad.auth.sasl.attempt import Attempt, Cancelled, Silent, Talk
from popad.errors import ContractBroken
from popad.privsep.channel import Channel, message_pair

SHAPES = {b"yes": (3,), b"no": ()}


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = map(Channel, message_pair())
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_challenge_and_its_answer(ends: tuple[Channel, Channel]) -> None:
    talk = Talk(ends[0], 1)
    ends[1].send((b"yes", b"abc"))
    assert talk.challenge(b"what?", SHAPES) == [b"yes", b"abc"]
    assert ends[1].receive((9,), 1) == [b"what?"]
    assert 0 < talk.waited < 1


@pytest.mark.parametrize("fields", [(b"yes",), (b"yes", b"abcd"), (b"maybe",), ()])
def test_an_answer_of_another_shape(ends: tuple[Channel, Channel], fields: tuple[bytes, ...]) -> None:
    ends[1].send(fields)
    with pytest.raises(ContractBroken):
        Talk(ends[0], 1).challenge(b"what?", SHAPES)


def test_a_client_that_does_not_answer(ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "LONGEST", 0.05)
    talk = Talk(ends[0], 10)
    with pytest.raises(Silent):
        talk.challenge(b"what?", SHAPES)
    assert talk.waited >= 0.05


def test_a_client_that_has_left(ends: tuple[Channel, Channel]) -> None:
    ends[1].close()
    with pytest.raises(Cancelled):
        Talk(ends[0], 10).challenge(b"what?", SHAPES)


def test_what_is_forgotten() -> None:
    secret = bytearray(b"secret")
    made = Attempt(b"PLAIN", b"alice", secret=secret)
    made.forget()
    assert secret == bytes(6)
    Attempt(b"PLAIN", b"alice").forget()
    made.confirm()
    with pytest.raises(NotImplementedError):
        made.prove("alice", "")
