"""auth/sasl/scram.py: who has the password gets in and hears a signature; nobody else does, and nothing is believed."""

import base64
import os
import signal
from pathlib import Path

import pytest

from popad.auth import credentials
from popad.auth.helper import Helper
from popad.auth.sasl import attempt as attempts
from popad.auth.sasl import scram
from popad.auth.verdict import BROKEN, CANCELLED, FAILED, PASSED, REFUSED, UNAVAILABLE, UNKNOWN
from popad.settings import Settings
from tests.support.asking import Asking
from tests.support.scram import ScramClient
from tests.support.serving import OWNER

BINDING = b"d" * 32
BOTH = ("SCRAM-SHA-256", "SCRAM-SHA-1")
POINT = b"p=tls-server-end-point,,"


@pytest.fixture
def made(tmp_path: Path) -> Helper:
    path = tmp_path / "credentials"
    path.touch(0o600)
    path.write_text(
        credentials.line("alice", b"secret", 4096, BOTH)
        + "\n"
        + credentials.line("bob", b"secret", 4096)
        + "\n"
        + credentials.line("a,b=c", b"secret", 4096)
        + "\n"
        + credentials.line("root", b"secret", 4096)
        + "\n"
    )
    given = {
        "auth": "file",
        "credentials": str(path),
        "virtual_user": OWNER,
        "guess_delay": "0",
        "sasl": " ".join(BOTH),
    }
    helper = Helper(Settings({f"POPAD_{name.upper()}": value for name, value in given.items()}))
    helper.source.refused_soonest = 0.0  # no test waits for a refusal
    return helper


@pytest.mark.parametrize(
    ("scheme", "name", "gs2", "binding"),
    [
        ("SCRAM-SHA-256", "alice", b"n,,", b""),
        ("SCRAM-SHA-256", "alice", b"n,,", BINDING),
        ("SCRAM-SHA-256", "alice", b"y,,", b""),
        ("SCRAM-SHA-256", "alice", b"n,a=alice,", b""),
        ("SCRAM-SHA-256", "a,b=c", b"n,a=a=2Cb=3Dc,", b""),
        ("SCRAM-SHA-1", "alice", b"n,,", b""),
        ("SCRAM-SHA-256-PLUS", "alice", POINT, BINDING),
        ("SCRAM-SHA-1-PLUS", "alice", POINT, BINDING),
    ],
)
def test_who_has_the_password(made: Helper, scheme: str, name: str, gs2: bytes, binding: bytes) -> None:
    client = ScramClient(name, "secret", scheme, gs2, BINDING if gs2 == POINT else b"")
    asking = Asking(made, binding=binding)
    signature = asking.prove(client)
    assert signature
    assert client.believes(signature)
    asking.say(scram.END)
    verdict = asking.verdict()
    assert (verdict.which, verdict.name, verdict.mechanism) == (PASSED, name, scheme)


@pytest.mark.parametrize(
    ("scheme", "name", "password", "gs2", "binding", "data", "which"),
    [
        ("SCRAM-SHA-256", "alice", "wrong", b"n,,", b"", b"", FAILED),
        ("SCRAM-SHA-256", "nobody", "secret", b"n,,", b"", b"", UNKNOWN),
        ("SCRAM-SHA-256", "", "secret", b"n,,", b"", b"", UNKNOWN),
        ("SCRAM-SHA-256", "../alice", "secret", b"n,,", b"", b"", UNKNOWN),
        ("SCRAM-SHA-256", "root", "secret", b"n,,", b"", b"", REFUSED),
        ("SCRAM-SHA-1", "bob", "secret", b"n,,", b"", b"", UNKNOWN),  # whose line has no verifier of it
        ("SCRAM-SHA-256", "alice", "secret", b"n,a=bob,", b"", b"", FAILED),
        # A client that was told of no channel binding, where there is some: somebody has taken it out of the list.
        ("SCRAM-SHA-256", "alice", "secret", b"y,,", BINDING, b"", FAILED),
        ("SCRAM-SHA-256", "alice", "secret", POINT, BINDING, BINDING, FAILED),
        ("SCRAM-SHA-256-PLUS", "alice", "secret", b"n,,", BINDING, b"", FAILED),
        ("SCRAM-SHA-256-PLUS", "alice", "secret", b"y,,", BINDING, b"", FAILED),
        ("SCRAM-SHA-256-PLUS", "alice", "secret", POINT, BINDING, b"e" * 32, FAILED),  # another server's certificate
        ("SCRAM-SHA-256-PLUS", "alice", "secret", POINT, BINDING, b"", FAILED),
        ("SCRAM-SHA-256-PLUS", "alice", "secret", POINT, b"", b"", FAILED),
        ("SCRAM-SHA-256-PLUS", "alice", "secret", b"p=tls-unique,,", BINDING, BINDING, FAILED),
    ],
)
def test_who_does_not_get_in(
    made: Helper, scheme: str, name: str, password: str, gs2: bytes, binding: bytes, data: bytes, which: bytes
) -> None:
    """All are asked for a proof, and none of them hears a signature."""
    asking = Asking(made, binding=binding)
    assert asking.prove(ScramClient(name, password, scheme, gs2, data)) is None
    verdict = asking.verdict()
    assert (verdict.which, verdict.mechanism, bool(verdict.reason)) == (which, scheme, True)


def test_each_octet_that_is_changed_is_noticed(made: Helper) -> None:
    """Nonce, channel binding, proof, extensions: what the two sides sign is all of what was said."""
    whole = (b"n,,", b"", b"", b"proof")
    for place, change in ((1, b"x"), (2, b"y"), (3, b"z"), (4, b"0")):
        client, asking = ScramClient("alice", "secret"), Asking(made)
        first = asking.begin(client)
        assert first
        final = client.final(first)
        _, nonce, proof = (part[2:] for part in final.split(b","))
        fields = [scram.FINAL, b"n,,", nonce, b"", base64.b64decode(proof)]
        fields[place] = (
            fields[place][:-1] + bytes([fields[place][-1] ^ change[0]]) if fields[place] else b"ext=" + change
        )
        asking.say(*fields)
        assert asking.hear() is None, whole
        assert asking.verdict().which == FAILED


def test_an_exchange_cannot_be_replayed(made: Helper) -> None:
    client = ScramClient("alice", "secret")
    asking = Asking(made)
    assert asking.prove(client)
    asking.say(scram.END)
    assert asking.verdict().which == PASSED
    again = Asking(made)
    first = again.begin(client)
    assert first
    old = client.messages.split(b",")
    again.say(scram.FINAL, b"n,,", old[-1][2:], b"", b"p" * 32)
    assert (again.hear(), again.verdict().which) == (None, FAILED)


@pytest.mark.parametrize("place", ["before the proof", "behind the signature"])
def test_a_client_may_cancel_it(made: Helper, place: str) -> None:
    """The channel is open then, for another attempt."""
    client, asking = ScramClient("alice", "secret"), Asking(made)
    if place == "before the proof":
        assert asking.begin(client)
    else:
        assert asking.prove(client)
    asking.say(scram.CANCEL)
    asking.say(b"more")  # which somebody else hears
    assert asking.verdict().which == CANCELLED


@pytest.mark.parametrize(
    "fields",
    [
        (b"SCRAM-SHA-256", b"x", b"", b"", b"alice", b"abc", b""),
        (b"SCRAM-SHA-256", b"n", b"kind", b"", b"alice", b"abc", b""),
        (b"SCRAM-SHA-256", b"p", b"", b"", b"alice", b"abc", b""),
        (b"SCRAM-SHA-256", b"n", b"", b"", b"alice", b"", b""),
        (b"SCRAM-SHA-256", b"n", b"", b"", b"alice", b"a,b", b""),
        (b"SCRAM-SHA-256", b"n", b"", b"", b"alice", b"a b", b""),
        (b"SCRAM-SHA-256", b"n", b"", b"", b"alice", b"x" * 257, b""),
        (b"SCRAM-SHA-256", b"n", b"", b"", b"alice", b"abc", b"x\n"),
        (b"SCRAM-SHA-256", b"n", b"", b"", b"alice", b"abc"),
        (b"SCRAM-SHA-512", b"n", b"", b"", b"alice", b"abc", b""),
    ],
)
def test_what_the_child_may_not_say(made: Helper, fields: tuple[bytes, ...]) -> None:
    asking = Asking(made)
    asking.say(*fields)
    assert (asking.hear(), asking.verdict().which) == (None, BROKEN)


@pytest.mark.parametrize(
    "fields",
    [
        (scram.END,),
        (b"USER", b"alice", b"secret"),
        (scram.FINAL, b"n,,", b"abc", b""),
        (scram.FINAL, b"n,,", b"x" * 513, b"", b""),
        (scram.FINAL, b"n,,", b"abc", b"x\0", b""),
        (),
    ],
)
def test_what_the_child_may_not_say_behind_a_challenge(made: Helper, fields: tuple[bytes, ...]) -> None:
    asking = Asking(made)
    assert asking.begin(ScramClient("alice", "secret"))
    asking.say(*fields)
    assert (asking.hear(), asking.verdict().which) == (None, BROKEN)


def test_a_child_that_says_more_than_it_was_asked(made: Helper) -> None:
    asking = Asking(made)
    assert asking.prove(ScramClient("alice", "secret"))
    assert asking.child.pid
    os.kill(asking.child.pid, signal.SIGSTOP)  # both are there when it reads
    asking.say(scram.END)
    asking.say(scram.END)
    os.kill(asking.child.pid, signal.SIGCONT)
    assert asking.verdict().which == BROKEN


def test_a_client_that_does_not_answer(made: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child hears of that; the client may not have a second attempt with the same helper."""
    monkeypatch.setattr(attempts, "LONGEST", 0.1)
    asking = Asking(made)
    assert asking.begin(ScramClient("alice", "secret"))
    assert (asking.hear(), asking.verdict().which) == (None, UNKNOWN)


def test_a_file_that_cannot_be_read(made: Helper, tmp_path: Path) -> None:
    (tmp_path / "credentials").chmod(0o644)
    asking = Asking(made)
    assert (asking.begin(ScramClient("alice", "secret")), asking.verdict().which) == (None, UNAVAILABLE)


def test_unknown_names_are_asked_the_same_each_time(made: Helper) -> None:
    def asked(name: str) -> bytes:
        asking = Asking(made)
        first = asking.begin(ScramClient(name, "secret"))
        asking.say(scram.CANCEL)
        asking.verdict()
        assert first
        return first.partition(b",")[2]

    assert asked("nobody") == asked("nobody") != asked("nobody else")
    assert asked("alice") == asked("alice")
    assert len(asked("nobody")) == len(asked("alice"))


def test_wrong_proofs_are_guesses(made: Helper) -> None:
    """Each of them: the same wrong password is not the same proof."""
    made.settings.guess_delay = made.guesses.longest = 15
    for number in range(3):
        asking = Asking(made)
        assert asking.prove(ScramClient("alice", "wrong")) is None
        reason = asking.verdict().reason
        assert f"put off for {2**number} s" in reason
        made.guesses.longest = 15
        if number == 1:
            break
