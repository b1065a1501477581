"""Unique-ids: popa3d's, bit for bit, so that no client downloads everything again after the change; and where those do
not tell messages apart, ids of the content.

popa3d's: MD5 over raw header lines with their continuations and line ends, in the order of the file: every Delivered-To
and X-Delivery-ID (this X upper case), the first Received, and Date and Message-ID while no Received has been seen.

The content's: without the lines that mail readers write into a header, and without line ends behind the message, as
who delivers the next one may add some. Which message has which: twins.py.
"""

import _blake2  # hashlib's own, without loading OpenSSL into each session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
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
FOLDED = (b" ", b"\t")  # the same, for startswith()
DATE, MESSAGE_ID, DELIVERED_TO, X_DELIVERY_ID = b"\ndate:", b"\nmessage-id:", b"\ndelivered-to:", b"\nx-delivery-id:"
LINE_ENDS = b"\r\n"
# What mail readers add and change: c-client (alpine), Dovecot, mutt, mailx; Thunderbird; VM and Rmail; and what POP
# servers that keep unique-ids in the mailbox add (qpopper).
OF_READERS = (
    b"status:",
    b"x-status:",
    b"x-keywords:",
    b"x-uid:",
    b"x-imap:",
    b"x-imapbase:",
    b"x-uidl:",
    b"content-length:",
    b"lines:",
    b"x-mozilla-status:",
    b"x-mozilla-status2:",
    b"x-mozilla-keys:",
    b"x-vm-v5-data:",
    b"x-rmail-attributes:",
)
LONGEST_OF_READERS = max(map(len, OF_READERS))


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
    if take and continues:  # the end of the mailbox: the next delivery ends this line, and the id must stay
        hashed.update(b"\n")
    return hashed.digest()


def digest_of_header(text: bytes) -> bytes | None:
    """header_digest() of a message that begins with `text`; None where its header may go on behind that.

    It looks for the few lines that count, where header_digest() looks at each: half the time.
    """
    text = b"\n" + text  # each line begins behind an LF, the first one, too
    end = text.find(b"\n\n")
    header = text[: end + 1] if end >= 0 else text
    if b"\r" in header and (with_cr := header.find(b"\n\r\n")) >= 0:
        header = header[: with_cr + 1]
    elif end < 0:
        return None
    lower = header.lower()
    received = lower.find(b"\nreceived:")  # -1: the others are looked for up to the last octet, which is an LF
    lines = [received] if received >= 0 else []
    for name, upto in ((DATE, received), (MESSAGE_ID, received), (DELIVERED_TO, -1), (X_DELIVERY_ID, -1)):
        place = lower.find(name, 0, upto)
        while place >= 0:
            if name is not X_DELIVERY_ID or header.startswith(b"X", place + 1):
                lines.append(place)
            place = lower.find(name, place + 1, upto)
    lines.sort()
    hashed = md5(usedforsecurity=False)
    for place in lines:
        after = header.find(b"\n", place + 1) + 1
        while header.startswith(FOLDED, after):
            after = header.find(b"\n", after) + 1
        hashed.update(header[place + 1 : after])
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


NOTHING = number_of(md5(usedforsecurity=False).digest())  # popa3d's id of a message without any of those headers


def text_of(unique_id: int) -> str:
    """A unique-id as the protocol shows it."""
    return f"{unique_id:016x}"


class HexIds:
    """Numbers of 64 bits as unique-ids: 16 hexadecimal digits each, made when they are asked for."""

    def __init__(self, numbers: "Sequence[int]") -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> str:
        return text_of(self.numbers[index])


def content_number(octets: "Callable[[int], Iterable[bytes]]") -> int:
    """64 bits of BLAKE2 over a message, but what changes while it stays the same. `octets` gives those from a place in
    the message on, in blocks.
    """
    hashed = at_text = _blake2.blake2b(digest_size=8)
    size = 0
    take = True
    continues = False
    for piece in header_pieces(octets(0)):
        size += len(piece)
        if not continues and piece[0] not in CONTINUES:
            take = not piece[:LONGEST_OF_READERS].lower().startswith(OF_READERS)
        if take:
            hashed, at_text = with_text(hashed, at_text, piece)
        continues = piece[-1] != LF
    for block in octets(size):
        hashed, at_text = with_text(hashed, at_text, block)
    return int.from_bytes(at_text.digest(), "big")


def with_text(
    hashed: "_blake2.blake2b", at_text: "_blake2.blake2b", block: bytes
) -> "tuple[_blake2.blake2b, _blake2.blake2b]":
    """The hash going on with `block`, and as it was behind the last octet that ends no line."""
    if text := block.rstrip(LINE_ENDS):
        hashed.update(text)
        at_text = hashed
    if len(text) < len(block):
        if hashed is at_text:
            hashed = hashed.copy()
        hashed.update(block[len(text) :])
    return hashed, at_text


def id_of_content(header: int, content: int, copies: int) -> int:
    """The id of a message by its content, where it has `copies` of the same before it."""
    both = b"%016x%016x%d" % (header, content, copies)
    return int.from_bytes(_blake2.blake2b(both, digest_size=8).digest(), "big")
