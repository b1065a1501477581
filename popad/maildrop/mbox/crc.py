"""CRC-32, as zlib computes it: of a part of a file, and of two parts behind each other."""

import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 1 << 17  # octets read at a time
CRC_32 = 0xEDB88320  # the polynomial, its highest coefficient last; so are those of all others here


def crc_of(read: "Callable[[int, int], bytes]", begin: int, end: int, crc: int = 0) -> int:
    """The CRC-32 of octets `begin` to `end`, going on from `crc`; of what there is of them, if the file is shorter."""
    while begin < end and (block := read(min(BLOCK, end - begin), begin)):
        crc = zlib.crc32(block, crc)
        begin += len(block)
    return crc


def joined_crc(first: int, second: int, length: int) -> int:
    """The CRC-32 of two parts behind each other, the second of `length` octets: zlib's crc32_combine."""
    power, square = 1 << 31, 1 << 30  # x^0, x^1
    bits = 8 * length
    while bits:
        if bits & 1:
            power = product(square, power)
        square = product(square, square)
        bits >>= 1
    return product(power, first) ^ second


def product(one: int, other: int) -> int:
    """Of two polynomials modulo the CRC's."""
    result = 0
    for bit in range(31, -1, -1):
        if one >> bit & 1:
            result ^= other
        other = other >> 1 ^ CRC_32 if other & 1 else other >> 1
    return result
