"""Wherever the reads of an mbox end, a scan finds the messages that a reader of lines finds: their spans and what
separates them fill the file, and their sizes are the octets that are sent; or both refuse the file.
"""

import zlib
from itertools import pairwise

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox import scan
from popad.protocol import replies
from tests.fuzz.cutting import Octets, pieces
from tests.support.mboxes import messages

# Written by the fuzzer as one octet each: separators and blank lines are found sooner.
WORDS = {
    0xF0: b"From a\n",
    0xF1: b"\n\nFrom ",
    0xF2: b"\r\n\r\nFrom ",
    0xF3: b"\n\n",
    0xF4: b"\r\n",
    0xF5: b"From ",
    0xF6: b"\nFrom a ",
    0xF7: b"Thu Jan  1 00:00:00 1970\n",
    0xF8: b"D: 1\n",
    0xF9: b"Thu, 1 Jan 1970 00:00 +0100",
}


def mailbox(written: bytes) -> bytes:
    """The text that an input stands for."""
    for octet, word in WORDS.items():
        written = written.replace(bytes([octet]), word)
    return written


def scanned(text: bytes, block: int) -> scan.Messages | None:
    """What a scan finds that reads `block` octets at once; None where it refuses the file."""
    usual, scan.BLOCK = scan.BLOCK, block
    try:
        return scan.Scan(lambda count, offset: text[offset : offset + count], len(text), 1000).run()
    except MaildropUnavailable as refused:
        assert refused.code == "SYS/PERM"
        assert refused.reason.startswith("not an mbox: ")
        return None
    finally:
        scan.BLOCK = usual


def try_one(data: bytes) -> None:
    octets = Octets(data)
    blocks = {octets.number() % 64 + 1, octets.number() + 1, 1 << 20}
    text = mailbox(octets.rest())
    expected = messages(text)
    for block in blocks:
        found = scanned(text, block)
        if found is None or expected is None:
            assert found is None and expected is None, block
            continue
        assert list(found.froms) == [message.place for message in expected], block
        assert list(found.starts) == [message.start for message in expected], block
        spans = list(zip(found.starts, found.ends, strict=True))
        assert [text[start:end] for start, end in spans] == [message.data for message in expected], block
        assert list(found.sizes) == [len(message.wire) for message in expected], block
        for (_, end), place in zip(spans, [*found.froms, len(text)][1:], strict=True):
            assert text[end:place] in (b"", b"\n", b"\r\n"), block
        for (_, end), (start, _) in pairwise(spans):
            assert end < start
        assert (found.end, found.crc) == (len(text), zlib.crc32(text))
        for (start, end), size in zip(spans, found.sizes, strict=True):
            sent = b"".join(replies.body(pieces(text[start:end], [block])))
            assert len(sent) - sent.count(b"\r\n..") - sent.startswith(b"..") == size
