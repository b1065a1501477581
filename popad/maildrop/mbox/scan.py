"""Finds the messages of an mbox file: where each begins and ends, and its size as POP3 counts it. Which lines separate
messages is decided in separators.py.

The file is read in large blocks, and each block is searched with methods of `bytes`. So Python code runs once for each
message and not for each line: a mailbox of 100 MB is scanned in a fraction of a second.
"""

import zlib

from popad.arrays import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox.separators import BEHIND, FROM, LF, blank_before, separators

BLOCK = 1 << 18  # octets read at a time: they stay in a core's cache (512 kB and more) while several passes are made
PIECE = 1 << 14  # octets copied at a time: what is freed at once is too little for malloc(3) to return to the system
# The beginning of a separator that a block cuts: so much of its end is looked at again with the next one.
STRADDLE = 8
SHORT_LINES = 32  # octets
INTERNAL_DATA = b"DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA"
INTERNAL_HEADER = 4096  # octets: it has five short lines, and one with the names of at most 30 keywords


class Messages:
    """What a scan found. Four numbers a message: where its From line begins, where its data begins and ends in the file
    (without a trailing blank line, which belongs to the separator), and the data's size in octets on the wire.
    """

    def __init__(self) -> None:
        self.froms = array("q")
        self.starts = array("q")
        self.ends = array("q")
        self.sizes = array("q")
        self.end = 0  # so many octets of the file were scanned
        self.crc = 0  # and this is their CRC-32, once that is known (parallel.py)
        self.ids = array("Q")  # unique-ids of the first messages, as many as are known
        self.remembered = False  # from an earlier session, and not looked at in this one (index.py)

    def columns(self) -> "tuple[array[int], ...]":
        """The four numbers, each of all messages."""
        return self.froms, self.starts, self.ends, self.sizes


class Scan:
    """One pass over a file of `size` octets; `read(count, offset)` is pread.

    It goes on behind what is `known` of the file and adds to it: a message begins there, or the file does. Unless it
    `sums`, it leaves the CRC as it is.
    `text` is the part of the file at hand, `offset` where it begins in the file; what stands before `done` in it has
    been taken into account. The other attributes describe the message under way.
    """

    def __init__(
        self,
        read: "Callable[[int, int], bytes]",
        size: int,
        max_messages: int,
        known: Messages | None = None,
        sums: bool = True,
    ) -> None:
        self.read = read
        self.size = size
        self.max_messages = max_messages
        self.found = known or Messages()
        self.sums = sums
        self.froms, self.starts, self.ends, self.sizes = (column.append for column in self.found.columns())
        self.room = max_messages - len(self.found.froms)
        self.text = b""
        self.offset = self.found.end
        self.done = 0
        self.has_cr = False
        self.dense = False  # short lines, where they were counted last
        self.from_line = self.offset  # where it begins in the file
        self.start = -1  # where its data begins: behind the From line, whose end may not be at hand
        self.bare = 0  # line ends that are not CRLF yet
        self.header_end = -1
        self.undecided = -1  # where in the text at hand a line begins of which more must be seen

    def run(self) -> Messages:
        """Raises MaildropUnavailable for what is not an mbox, has too many messages, or shrinks meanwhile."""
        found = self.found
        if self.size and self.read(len(FROM), self.offset) != FROM:
            raise refused("its first line does not begin with `From `")
        while (have := self.offset + len(self.text)) < self.size:
            self.read_on(have)
            self.has_cr = b"\r" in self.text
            self.messages_at_hand()
            self.move_on()
        if self.size:
            self.last_message()
        found.end = self.size
        return found

    def read_on(self, have: int) -> None:
        """Bring the next block to hand, which goes on at `have` in the file.

        What was kept of the last one is read again, as that costs less than to copy the block behind it. It must be the
        same: the CRC is that of the octets in which messages were looked for.
        """
        kept = self.text
        self.text = text = self.read(min(have + BLOCK, self.size) - self.offset, self.offset)
        if len(text) <= len(kept):
            raise MaildropUnavailable("SYS/TEMP", "the mailbox shrank while it was read")
        if not text.startswith(kept):
            raise MaildropUnavailable("SYS/TEMP", "the mailbox was rewritten while it was read")
        if self.sums:
            self.found.crc = zlib.crc32(memoryview(text)[len(kept) :], self.found.crc)

    def messages_at_hand(self) -> None:
        """Find every separator that is complete in the text at hand."""
        text, at = self.text, self.offset
        if self.start < 0 and not self.first_line_ends():
            return
        complete = at + len(text) == self.size
        search = max(self.done - 1, self.start - at)
        for place, start in separators(text, search, complete):
            if start < 0:
                self.undecided = place
                return
            self.count(place)
            self.end(at + place, 1 if text[place - 2] == LF else blank_before(text, place), at + start)
            self.done = start

    def first_line_ends(self) -> bool:
        """Whether the first From line, which may be as long as it likes, ends in the text at hand."""
        line_end = self.text.find(b"\n", self.done)
        self.done = len(self.text) if line_end < 0 else line_end + 1
        if line_end >= 0:
            self.start = self.offset + self.done
        return line_end >= 0

    def count(self, upto: int) -> None:
        """Take the message's octets from `done` up to `upto` in the text at hand into account."""
        text, done = self.text, self.done
        if upto <= done:
            return
        while upto - done > PIECE:
            self.count(done + PIECE)
            done += PIECE
        # Octet by octet costs the same for any text; taking line ends out and comparing is three times as fast for
        # lines of usual length, as Python goes from one to the next by memchr(3).
        if self.dense:
            line_ends = text.count(b"\n", done, upto)
        else:
            part = text[done:upto]
            line_ends = len(part) - len(part.replace(b"\n", b""))
        self.dense = line_ends * SHORT_LINES > upto - done
        has_cr = self.has_cr
        self.bare += line_ends - text.count(b"\r\n", done - 1, upto) if has_cr else line_ends
        if self.header_end < 0:
            blank = text.find(b"\n\n", done - 1, upto)
            if blank >= 0:
                self.header_end = self.offset + blank + 2
            if has_cr:
                blank = text.find(b"\n\r\n", done - 2, upto if blank < 0 else blank + 2)
                if blank >= 0:
                    self.header_end = self.offset + blank + 3
        self.done = upto

    def move_on(self) -> None:
        """Count what cannot be the beginning of a separator any more, and let go of it."""
        straddle = max(len(self.text) - STRADDLE, 0)
        if self.undecided >= 0:
            straddle = min(straddle, self.undecided)
            self.undecided = -1
        if self.start >= 0:
            self.count(straddle)
        keep = max(min(straddle, self.done) - BEHIND, 0)
        self.text = self.text[keep:]
        self.offset += keep
        self.done -= keep

    def last_message(self) -> None:
        """The end of the file ends the last message; a blank line there is stripped as one before a separator is.

        A file of one From line alone has a message of no octets.
        """
        if self.start < 0:
            self.start = self.size
        self.count(len(self.text))
        cut = self.start < self.size and not self.text.endswith(b"\n")
        self.end(self.size, blank_before(self.text, len(self.text)), -1)
        if cut:
            self.found.sizes[-1] += 2  # the line end that is missing in the file is sent

    def end(self, end: int, blank: int, next_start: int) -> None:
        """The message under way ends at `end` in the file, with a blank line of `blank` octets behind it. The data of
        the next one begins at `next_start`.

        The blank line that ends a header is not behind the message: without a body nothing is stripped.
        """
        if self.room <= 0:
            raise too_many(self.max_messages)
        self.room -= 1
        start = self.start
        self.froms(self.from_line)
        self.starts(start)
        self.from_line = end
        size = end - start + self.bare
        if blank and self.header_end < end:
            end -= blank
            size -= 2
        self.ends(end)
        self.sizes(size)
        self.start = next_start
        self.header_end = -1
        self.bare = 0


def hide_internal_data(found: Messages, read: "Callable[[int, int], bytes]") -> bool:
    """Leave out a first message that is none: c-client (alpine) keeps there what IMAP must know of an empty mailbox.
    Returns whether there is one.

    c-client and Dovecot know it by X-IMAP, Balsa by the subject. A letter may have both, to be there and never seen:
    but it has been received (RFC 5321 section 4.4).
    """
    if not found.froms or found.froms[0]:
        return False
    header = read(min(found.ends[0] - found.starts[0], INTERNAL_HEADER), found.starts[0])
    if INTERNAL_DATA not in header:
        return False
    fields = {}
    for line in header.split(b"\n"):
        name, _, value = line.partition(b":")
        if not line.rstrip(b"\r"):
            break
        fields[name.lower()] = value.strip()
    numbers = fields.get(b"x-imap", b"").split()[:2]  # UIDVALIDITY and the last UID
    if b"received" in fields or fields.get(b"subject") != INTERNAL_DATA:
        return False
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        return False
    for column in found.columns():
        column.pop(0)
    return True


def too_many(max_messages: int) -> MaildropUnavailable:
    """More than a session may have to keep in memory."""
    return MaildropUnavailable("SYS/PERM", f"more than {max_messages} messages")


def refused(reason: str) -> MaildropUnavailable:
    """Not an mbox. Nor is it to popa3d: serving a part of one would let a client delete the rest."""
    return MaildropUnavailable("SYS/PERM", f"not an mbox: {reason}")
