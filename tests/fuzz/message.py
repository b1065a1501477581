"""However a stored message is read, the same octets are sent for RETR and TOP, every line with CRLF and no line a dot
alone, and it has the same unique-id: that of the header lines that popa3d takes.
"""

from hashlib import md5

from popad.maildrop import uidl
from popad.protocol import replies
from tests.fuzz.cutting import Octets, pieces
from tests.support.mboxes import Message, split

WORDS = {
    **dict(enumerate((b"Received: ", b"\nDate: ", b"\nMessage-ID: ", b"\nDelivered-To: ", b"\nX-Delivery-ID: "), 0xE0)),
    **dict(enumerate((b"\n ", b"\r\n", b"\n\n", b"\n.", b"\nx-delivery-id: "), 0xE5)),
}


def stuffed(wire: bytes) -> bytes:
    """RFC 1939 section 3."""
    lines = wire.split(b"\r\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines)


def on_the_wire(data: bytes) -> bytes:
    """Each line with CRLF and its dot doubled. Cut at the stored LF: a CR LF alone on the wire is no other line."""
    sent = b""
    for line in split(data):
        whole = Message(0, 0, line).wire
        sent += b"." + whole if whole.startswith(b".") else whole
    return sent


def top_of(data: bytes, lines: int) -> bytes:
    """The header, the blank line, and so many lines of the body."""
    all_lines = split(data)
    blank = next((number for number, line in enumerate(all_lines) if line in (b"\n", b"\r\n")), len(all_lines))
    return b"".join(all_lines[: blank + 1 + lines])


def hashed(data: bytes) -> bytes:
    """popa3d's digest, a line at a time."""
    taken = b""
    take = received = False
    for line in split(data):
        if line in (b"\n", b"\r\n"):
            break
        name = line.partition(b":")[0].lower() if b":" in line else b""
        if not line.startswith((b" ", b"\t")):
            if name == b"received":
                take = not received
                received = True
            elif name in (b"date", b"message-id"):
                take = not received
            else:
                take = name == b"delivered-to" or (name == b"x-delivery-id" and line.startswith(b"X"))
        if take:
            taken += line if line.endswith(b"\n") else line + b"\n"  # as it is when the next delivery has ended it
    return md5(taken, usedforsecurity=False).digest()


def try_one(data: bytes) -> None:
    octets = Octets(data)
    lines = octets.number() % 8
    sizes = octets.numbers()
    piece, uidl.PIECE = uidl.PIECE, octets.number() + len(b"x-delivery-id:")
    text = octets.rest()
    for octet, word in WORDS.items():
        text = text.replace(bytes([octet]), word)
    try:
        assert uidl.header_digest(uidl.header_pieces(pieces(text, sizes))) == hashed(text)
        assert uidl.digest_of_header(text) in (None, hashed(text))
    finally:
        uidl.PIECE = piece
    if not text:
        return  # no mbox has such a message
    assert b"".join(replies.body(pieces(text, sizes))) == on_the_wire(text)
    assert b"".join(replies.body(replies.top(pieces(text, sizes), lines))) == on_the_wire(top_of(text, lines))
