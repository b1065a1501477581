"""auth/saslprep.py: RFC 4013, and what becomes of what it does not allow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.auth.saslprep import prepared


# RFC 4013 section 3. What it prohibits stays as it was typed.
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u0007", "\u0007"),
        ("\u0627\u0031", "\u0627\u0031"),
        ("a\u00a0b", "a b"),  # section 2.1: non-ASCII spaces
        ("a\u3000b", "a b"),
        ("a\u1680b", "a b"),  # which NFKC alone would leave
        ("e\u0301", "\u00e9"),
        ("\u0627\u0628", "\u0627\u0628"),
        ("\u0627a\u0628", "\u0627a\u0628"),
        # Section 6: right to left text begins and ends so, without letters of the other kind. Else it stays, though
        # there would be something to normalize: a superscript or a Roman number.
        ("\u0627\u00b9\u0628", "\u06271\u0628"),
        ("\u0627\u00b9", "\u0627\u00b9"),
        ("\u00b9\u0627", "\u00b9\u0627"),
        ("\u0627\u2168\u0628", "\u0627\u2168\u0628"),
        ("pa\u2028ss", "pa\u2028ss"),
        ("\U0001f511", "\U0001f511"),  # unassigned in Unicode 3.2
        ("\u00ad", "\u00ad"),  # nothing would be left
        (" two  spaces ", " two  spaces "),
    ],
)
def test_saslprep(typed: str, meant: str) -> None:
    assert prepared(typed.encode()) == meant.encode()


@given(st.text())
def test_saslprep_twice_is_once(text: str) -> None:
    once = prepared(text.encode("utf-8", "replace"))
    assert prepared(once) == once


@given(st.binary(max_size=30))
def test_any_octets_can_be_a_password(octets: bytes) -> None:
    assert prepared(octets) or not octets
