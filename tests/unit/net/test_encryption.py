"""net/encryption.py: what the TLS helper says is what it can have said, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.net.encryption import DOWN, LIMITS, UP, Encryption, unpack


def fields(made: list[bytes]) -> list[bytearray]:
    return [bytearray(field) for field in made]


words = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)


@given(words.filter(bool), words, words, st.booleans(), words, st.binary(max_size=64))
def test_what_is_packed_is_unpacked(
    version: str, cipher: str, name: str, resumed: bool, certified: str, binding: bytes
) -> None:
    made = Encryption(version, cipher, name, resumed, "", certified, binding)
    there = unpack(fields(made.pack()))
    assert vars(there) == vars(made)
    assert there.is_up


@given(st.text())
def test_a_reason_has_an_end_and_prints(reason: str) -> None:
    packed = Encryption(reason=reason.replace("\n", " ")).pack()
    assert all(len(field) <= most for field, most in zip(packed, LIMITS, strict=True))
    try:
        assert not unpack(fields(packed)).is_up
    except ValueError:
        assert not packed[5].decode("ascii").isprintable()


@pytest.mark.parametrize(
    "wrong",
    [
        [UP, b"", b"", b"", b"no", b"", b"", b""],
        [DOWN, b"TLSv1.3", b"", b"", b"no", b"", b"", b""],
        [b"x", b"TLSv1.3", b"", b"", b"no", b"", b"", b""],
        [UP, b"TLSv1.3", b"", b"", b"perhaps", b"", b"", b""],
        [UP, b"TLSv1.3\n", b"", b"", b"no", b"", b"", b""],
        [UP, b"TLSv1.3", b"", b"\xff", b"no", b"", b"", b""],
        [UP, b"TLSv1.3", b"", b"", b"no", b"", b"\xff", b""],
        [UP, b"TLSv1.3", b"", b"", b"no", b"", b"a\n", b""],
        [UP, b"TLSv1.3", b"", b"", b"no", b""],
        [DOWN, b"", b"", b"", b"no", b"a\nMESSAGE=forged", b"", b""],
    ],
)
def test_what_it_cannot_have_said(wrong: list[bytes]) -> None:
    with pytest.raises(ValueError):
        unpack(fields(wrong))
