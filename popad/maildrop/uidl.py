"""Unique-ids as popa3d makes them, bit for bit, so that no client downloads everything again after the change.

MD5 over raw header lines with their continuations and line ends, in the order of the file: every Delivered-To and
X-Delivery-ID (this X upper case), the first Received, and Date and Message-ID while no Received has been seen.
"""

from array import array
from itertools import pairwise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from hashlib import md5
else:
    try:
        from _md5 import md5  # the same MD5 as hashlib's, without loading OpenSSL into each session
    except ImportError:  # some distributions build Python without it
        from hashlib import md5

LF = 0x0A
PIECE = 65536  # octets of a header line that are looked at together; longer lines are hashed piece by piece
LONGEST_NAME = len(b"x-delivery-id:")
INITIALS = b"DdMmRrX"  # of all names that count: most lines of a header need no further look
CONTINUES = b" \t"


def header_digest(pieces: "Iterable[bytes]") -> bytes:
    """MD5 of what popa3d hashes of a message, given as header_pieces() gives it: no piece is empty."""
    hashed = md5(usedforsecurity=False)
    take = False
    received = False
    continues = False  # this piece goes on with the line of the piece before
    for piece in pieces:
        if continues or piece[0] in CONTINUES:
            pass
        elif piece[0] not in INITIALS:
            take = False
        else:
            start = piece[:LONGEST_NAME].lower()
            if start.startswith(b"received:"):
                take, received = not received, True
            elif start.startswith((b"date:", b"message-id:")):
                take = not received
            else:
                take = start.startswith(b"delivered-to:") or (start == b"x-delivery-id:" and piece.startswith(b"X"))
        if take:
            hashed.update(piece)
        continues = piece[-1] != LF
    return hashed.digest()


def header_pieces(blocks: "Iterable[bytes]") -> "Iterator[bytes]":
    """The header lines of a stored message up to the first blank line, each with its line end.

    A line longer than PIECE comes in several pieces, of which only the last ends with LF. `blocks` may be cut anywhere.
    """
    rest = b""
    begins_line = True
    for block in blocks:
        text = rest + block
        if (blank := text.find(b"\n\n")) >= 0:
            text = text[: blank + 2]  # the header ends there at the latest: the body need not be cut into lines
        lines = split_lines(text)
        rest = lines.pop()
        for line in lines:
            if len(line) <= 2 and begins_line and line in (b"\n", b"\r\n"):
                return
            yield line
            begins_line = True
        while len(rest) > PIECE:
            yield rest[:PIECE]
            rest = rest[PIECE:]
            begins_line = False
    if rest:
        yield rest


def split_lines(text: bytes) -> list[bytes]:
    """`text` cut behind each LF; the last item is what follows the last LF (perhaps nothing)."""
    lines = text.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + [last]


def number_of(digest: bytes) -> int:
    """The half of a digest that popa3d shows, as the number whose 16 hexadecimal digits are the unique-id."""
    return int.from_bytes(digest[3::-1] + digest[7:3:-1], "big")  # two 32-bit words, each little-endian


def text_of(unique_id: int) -> str:
    """A unique-id as the protocol shows it."""
    return f"{unique_id:016x}"


def unique_ids(
    known: "array[int]", digests: "Iterable[bytes]", content_digest: "Callable[[int], bytes]"
) -> "array[int]":
    """A unique-id for each message, all different (RFC 1939 section 7). 8 octets a message, as there may be millions.

    `known` are those of the first messages, and stay; `digests` are of the headers of the others.

    The first message with a header digest keeps popa3d's id. A later twin gets an id made of that id, its whole
    content (`content_digest` of its index), and how many equal to it in every octet stood before it. So it keeps its
    id when other twins go, except the first of all: then the next one becomes the first, as in popa3d, unless it is
    `known`.
    """
    ids = known + array("Q", map(number_of, digests))
    in_order = sorted(ids)
    twins = {one for one, next_one in pairwise(in_order) if one == next_one}
    if not twins:
        return ids
    taken = set(in_order)
    seen = set(known)
    copies: dict[bytes, int] = {}
    for index in range(len(known), len(ids)):
        first_id = ids[index]
        if first_id in twins and first_id in seen:
            both = b"%016x" % first_id + content_digest(index)
            while (unique_id := number_of(twin_digest(both, copies))) in taken:
                copies[both] = copies.get(both, 0) + 1
            taken.add(unique_id)
            ids[index] = unique_id
        seen.add(first_id)
    return ids


def twin_digest(both: bytes, copies: dict[bytes, int]) -> bytes:
    """What the next message of this header and content gets its id from."""
    return md5(both + b"%d" % copies.get(both, 0), usedforsecurity=False).digest()


def digest_of_content(blocks: "Iterable[bytes]") -> bytes:
    """MD5 of a whole stored message."""
    hashed = md5(usedforsecurity=False)
    for block in blocks:
        hashed.update(block)
    return hashed.digest()
