"""auth/verifiers.py: the vectors of RFC 5802 and RFC 7677, and the text of a verifier there and back."""

import base64

import pytest

from popad.auth import verifiers
from popad.auth.verifiers import Verifier, make, parse

# Scheme, salt; client-first-message-bare, server-first, client-final without proof; proof, signature: RFC 7677
# section 3 and RFC 5802 section 5, user "user", password "pencil".
VECTORS = [
    (
        "SCRAM-SHA-256",
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        b"n=user,r=rOprNGfwEbeRWgbNEkqO",
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
    (
        "SCRAM-SHA-1",
        "QSXCR+Q6sek8bf92",
        b"n=user,r=fyko+d2lbbFgONRv9qkxdawL",
        b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j",
        "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
]


def made(scheme: str, salt: str) -> Verifier:
    return make(b"pencil", scheme, 4096, base64.b64decode(salt))


@pytest.mark.parametrize(("scheme", "salt", "first", "server", "final", "proof", "signature"), VECTORS)
def test_vectors(scheme: str, salt: str, first: bytes, server: bytes, final: bytes, proof: str, signature: str) -> None:
    verifier, messages = made(scheme, salt), b",".join((first, server, final))
    right = base64.b64decode(proof)
    assert verifier.is_proved(right, messages)
    assert verifier.signature(messages) == base64.b64decode(signature)
    assert not verifier.is_proved(right, messages + b"x")
    for place in range(len(right)):
        wrong = right[:place] + bytes([right[place] ^ 1]) + right[place + 1 :]
        assert not verifier.is_proved(wrong, messages)
    for wrong in (b"", right[:-1], right + b"\0"):
        assert not verifier.is_proved(wrong, messages)


@pytest.mark.parametrize("scheme", list(verifiers.HASHES))
def test_text_there_and_back(scheme: str) -> None:
    verifier = make("pässword".encode(), scheme, 5000)
    again = parse(str(verifier))
    assert vars(again) == vars(verifier)
    assert again.matches("pa\u0308ssword".encode())
    assert not again.matches(b"password")
    assert str(make(b"x", scheme, 4096)) != str(make(b"x", scheme, 4096))  # a salt of its own


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("SHA-256", "SHA-512"),
        lambda text: text.replace("$5000:", "$0:"),
        lambda text: text.replace("$5000:", "$10000001:"),
        lambda text: text.replace("$5000:", "$x:"),
        lambda text: text.replace("$5000:", "$:"),
        lambda text: text[:-4],
        lambda text: text + "$",
        lambda text: text.replace(":", ""),
        lambda text: text.replace("SHA-256", "SHA-1"),  # keys of another length
        lambda text: f"SCRAM-SHA-256$5000:c2FsdA==${text.partition('$')[2].partition('$')[2]}",  # a salt of 4 octets
    ],
)
def test_what_is_no_verifier(change: object) -> None:
    text = str(make(b"x", "SCRAM-SHA-256", 5000))
    assert callable(change)
    with pytest.raises(ValueError):
        parse(change(text))


def test_new_ones_cost_what_the_rfc_asks_for() -> None:
    """RFC 7677 section 4."""
    assert verifiers.ITERATIONS >= verifiers.LEAST_ITERATIONS >= 4096


@pytest.mark.parametrize("scheme", list(verifiers.HASHES))
def test_nothing_is_a_proof_of_nobody(scheme: str) -> None:
    nobody = verifiers.NOBODYS[scheme]
    assert not any(nobody.is_proved(bytes([n]) * len(nobody.stored_key), b"x") for n in range(256))
