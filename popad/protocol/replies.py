"""Replies as octets: status lines, response codes, multi-line bodies with dot-stuffing (RFC 1939 section 3)."""

from itertools import islice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CRLF = b"\r\n"
TERMINATOR = b".\r\n"
LF = 0x0A
FEW = 512  # octets a dot: where there are many more, it takes longer to look at each than at each line end
LINES_AT_ONCE = 1024  # a listing of millions of messages is sent in pieces, not made in memory


def ok(text: str) -> bytes:
    """A positive status line."""
    return b"+OK %b\r\n" % text.encode("ascii")


def err(text: str, code: str = "") -> bytes:
    """A negative status line, with a response code (RFC 2449 section 8) where there is one for the case."""
    return b"-ERR %b\r\n" % (f"[{code}] {text}" if code else text).encode("ascii")


def listing(status: str, lines: "Iterable[str]") -> "Iterator[bytes]":
    """A multi-line reply made of short lines that never begin with a dot, in blocks of LINES_AT_ONCE."""
    yield ok(status)
    lines = iter(lines)
    while some := list(islice(lines, LINES_AT_ONCE)):
        some.append("")
        yield "\r\n".join(some).encode("ascii")
    yield TERMINATOR


def body(blocks: "Iterable[bytes]") -> "Iterator[bytes]":
    """The octets of a stored message as they go over the wire, without the terminating dot.

    Each LF not already behind a CR becomes CRLF, a line that begins with a dot gets one more, and the last line ends
    with CRLF. `blocks` may be cut anywhere; what comes out has the size that a scan of the maildrop counts, plus the
    stuffing.
    """
    at_line_start = True
    held = b""  # a CR at the end of a block: whether it is half of a CRLF is not known yet
    for block in blocks:
        text = held + block
        held = b""
        if b"\r" in text:
            if text.endswith(b"\r"):
                text, held = text[:-1], b"\r"
            text = text.replace(b"\r\n", b"\n")
        if not text:
            continue
        ends_line = text.endswith(b"\n")
        begins_with_dot = at_line_start and text.startswith(b".")
        text = stuffed(text.replace(b"\n", CRLF))
        yield b"." + text if begins_with_dot else text
        at_line_start = ends_line
    if held:
        yield held
        at_line_start = False
    if not at_line_start:
        yield CRLF


def stuffed(text: bytes) -> bytes:
    """One more dot before each that is behind a CRLF; whether the first octet is behind one, the text does not say."""
    parts, done, dot = [], 0, 0
    # memchr(3) finds a dot 20 times as fast as what finds several octets, and an attachment in base64 has none.
    for _ in range(len(text) // FEW + 1):
        dot = text.find(b".", dot + 1)
        if dot < 0:
            parts.append(text[done:])
            break
        if text[dot - 1] == LF:
            parts.append(text[done:dot])
            done = dot
    else:
        # The longer what is looked for, the faster; and to cut and join goes through the text once, replace() twice.
        parts.append(b"\r\n..".join(text[done:].split(b"\r\n.")))
    return b".".join(parts)


def top(blocks: "Iterable[bytes]", lines: int) -> "Iterator[bytes]":
    """The header, the blank line and the first `lines` lines of the body of a stored message (RFC 1939, TOP)."""
    in_header = True
    tail = b"\n"  # the end of what came before: a blank line can be cut, and a message can begin with one
    for block in blocks:
        if in_header:
            text = tail + block
            end = header_end(text)
            if end < 0:
                tail = text[-3:]
                yield block
                continue
            in_header = False
            cut = end - len(tail)
            yield block[:cut]
            rest = block[cut:]
        else:
            rest = block
        if not lines:
            return
        here = rest.count(b"\n")
        if here >= lines:
            beyond = rest.split(b"\n", lines)[lines]
            yield rest[: len(rest) - len(beyond)]
            return
        lines -= here
        yield rest


def header_end(text: bytes) -> int:
    """Where the first blank line behind a LF ends in `text`; -1 when there is none."""
    bare, with_cr = text.find(b"\n\n"), text.find(b"\n\r\n")
    if bare >= 0 and (with_cr < 0 or bare < with_cr):
        return bare + 2
    return with_cr + 3 if with_cr >= 0 else -1
