"""maildrop/maildir/names.py: names as programs make them, and as nobody should."""

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.maildrop.maildir.names import (
    NO_TIME,
    SIZE,
    WIRE_SIZE,
    base_of,
    flags_of,
    order_of,
    seen_name,
    size_in,
    unique_id,
)


@pytest.mark.parametrize(
    ("name", "base", "flags"),
    [
        ("1600000000.M1P2.host", "1600000000.M1P2.host", ""),
        ("1600000000.M1P2.host:2,", "1600000000.M1P2.host", ""),
        ("1600000000.M1P2.host:2,RS", "1600000000.M1P2.host", "RS"),
        ("1600000000.M1P2.host:1,x", "1600000000.M1P2.host", ""),  # the experimental form
        ("a:2,S:2,T", "a", "S:2,T"),
        (":2,S", "", "S"),
        ("a", "a", ""),
    ],
)
def test_base_and_flags(name: str, base: str, flags: str) -> None:
    assert (base_of(name), flags_of(name)) == (base, flags)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("a", "a:2,S"),
        ("a:2,", "a:2,S"),
        ("a:2,R", "a:2,RS"),
        ("a:2,FT", "a:2,FST"),
        ("a:2,S", "a:2,S"),
        ("a:2,ab", "a:2,Sab"),
    ],
)
def test_a_message_that_was_read(name: str, seen: str) -> None:
    assert seen_name(name) == seen


@pytest.mark.parametrize(
    ("base", "size", "wire_size"),
    [
        ("1.a.host", -1, -1),
        ("1.a.host,S=10", 10, -1),
        ("1.a.host,S=10,W=12", 10, 12),
        ("1.a.host,W=12,S=10", 10, 12),
        ("1.a.host,S=", -1, -1),
        ("1.a.host,S=-1,W=1x", -1, -1),
        ("1.a.host,S=\u0661", -1, -1),
        ("1.a.host,S=" + "9" * 19, -1, -1),
        ("S=10", -1, -1),
        ("1.a.host,WS=10", -1, -1),
    ],
)
def test_sizes(base: str, size: int, wire_size: int) -> None:
    assert (size_in(base, SIZE), size_in(base, WIRE_SIZE)) == (size, wire_size)


def test_order() -> None:
    """By the time of delivery as a number, then by what makes it unique; names without a time come last."""
    names = ["9.z", "10.a", "1600000000.M1", "1600000000.M12", "1600000000.M2", "abc", "no.time", "\u0661.x"]
    shuffled = random.Random(1).sample(names, len(names))
    assert sorted(shuffled, key=order_of) == names
    assert order_of("9" * 19 + ".x")[0] == NO_TIME


@pytest.mark.parametrize("base", ["1600000000.M1P2.host", "1600000000.M1P2.host,S=10,W=12", "!~", "x" * 70])
def test_an_id_is_the_base(base: str) -> None:
    assert unique_id(base) == base


@pytest.mark.parametrize("base", ["", "a b", "x" * 71, "\u00e4", "a\nb", "a\x7f", "\udcff"])
def test_an_id_that_the_protocol_has_no_room_for_is_a_hash(base: str) -> None:
    assert len(unique_id(base)) == 40
    assert unique_id(base) != unique_id(base + "x")


@given(st.binary(min_size=1, max_size=255).filter(lambda name: b"/" not in name and b"\0" not in name))
def test_any_name(name: bytes) -> None:
    said = unique_id(base_of(os.fsdecode(name)))
    assert 1 <= len(said) <= 70
    assert all(0x21 <= ord(mark) <= 0x7E for mark in said)
    order_of(os.fsdecode(name))
