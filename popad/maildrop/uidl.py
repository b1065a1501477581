"""Unique-ids as popa3d makes them, bit for bit, so that no client downloads everything again after the change.

MD5 over raw header lines with their continuations and line ends, in the order of the file: every Delivered-To and
X-Delivery-ID (this X upper case), the first Received, and Date and Message-ID while no Received has been seen.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from hashlib import md5
else:
    try:
        from _md5 import md5  # the same MD5 as hashlib's, without loading OpenSSL into each session
    except ImportError:  # some distributions build Python without it
        from hashlib import md5

PIECE = 65536  # octets of a header line that are looked at together; longer lines are hashed piece by piece
NAMES = (b"delivered-to:", b"x-delivery-id:", b"received:", b"date:", b"message-id:")
LONGEST_NAME = max(map(len, NAMES))
ORDER = (3, 2, 1, 0, 7, 6, 5, 4)  # popa3d prints two 32-bit words of the digest, each as a little-endian number


def header_digest(pieces: "Iterable[bytes]") -> bytes:
    """MD5 of what popa3d hashes of a message, given as header_pieces() gives it."""
    hashed = md5(usedforsecurity=False)
    take = False
    received = False
    continues = False  # this piece goes on with the line of the piece before
    for piece in pieces:
        if not continues and not piece.startswith((b" ", b"\t")):
            start = piece[:LONGEST_NAME].lower()
            if start.startswith(b"received:"):
                take, received = not received, True
            elif start.startswith((b"date:", b"message-id:")):
                take = not received
            else:
                take = start.startswith(b"delivered-to:") or (start == b"x-delivery-id:" and piece.startswith(b"X"))
        if take:
            hashed.update(piece)
        continues = not piece.endswith(b"\n")
    return hashed.digest()


def header_pieces(blocks: "Iterable[bytes]") -> "Iterator[bytes]":
    """The header lines of a stored message up to the first blank line, each with its line end.

    A line longer than PIECE comes in several pieces, of which only the last ends with LF. `blocks` may be cut anywhere.
    """
    rest = b""
    begins_line = True
    for block in blocks:
        lines = split_lines(rest + block)
        rest = lines.pop()
        for line in lines:
            if begins_line and line in (b"\n", b"\r\n"):
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


def text_of(digest: bytes) -> str:
    """A digest as a unique-id: 16 hexadecimal digits."""
    return bytes(digest[octet] for octet in ORDER).hex()


def unique_ids(digests: "list[bytes]", content_digest: "Callable[[int], bytes]") -> list[str]:
    """A unique-id for each message, all different (RFC 1939 section 7).

    The first message with a header digest keeps popa3d's id. A later twin gets an id made of that digest, its whole
    content (`content_digest` of its index), and how many such twins stood before it: it keeps its id when other twins
    go, unless those are the same in every octet, and then it does not matter which of them is which.
    """
    ids: list[str] = []
    taken: set[str] = set()
    copies: dict[bytes, int] = {}
    for index, digest in enumerate(digests):
        unique_id = text_of(digest)
        if unique_id in taken:
            both = digest + content_digest(index)
            while unique_id in taken:
                copies[both] = copies.get(both, 0) + 1
                unique_id = text_of(md5(both + b"%d" % copies[both], usedforsecurity=False).digest())
        taken.add(unique_id)
        ids.append(unique_id)
    return ids


def digest_of_content(blocks: "Iterable[bytes]") -> bytes:
    """MD5 of a whole stored message."""
    hashed = md5(usedforsecurity=False)
    for block in blocks:
        hashed.update(block)
    return hashed.digest()
