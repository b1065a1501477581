"""maildrop/mbox/crc.py: the same as of the whole."""

import zlib

from hypothesis import given
from hypothesis import strategies as st

from popad.maildrop.mbox.crc import crc_of, joined_crc


@given(st.binary(max_size=300), st.integers(0, 310), st.integers(0, 310), st.integers(0, 0xFFFFFFFF))
def test_crc_of_a_part(octets: bytes, begin: int, end: int, before: int) -> None:
    """In pieces of what the file gives, and no further than it goes."""

    def read(count: int, offset: int) -> bytes:
        return octets[offset : offset + min(count, 7)]

    assert crc_of(read, begin, end, before) == zlib.crc32(octets[begin:end], before)


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_crc_of_two_parts(one: bytes, other: bytes) -> None:
    assert joined_crc(zlib.crc32(one), zlib.crc32(other), len(other)) == zlib.crc32(one + other)
