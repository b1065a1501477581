"""What a session learnt of a large mailbox, kept in POPAD_CACHE for the next one: where the messages are, their sizes
and unique-ids, and the CRC of it all. It saves time and decides nothing; without it all is found again.

Why an answer is never wrong for it:
 - What is read here is what a session of popad wrote for this user and this path, octet for octet: a plain file of the
   user alone, with a digest made with the key of POPAD_CACHE, over its name too. What is damaged, cut, copied from
   another mailbox, of another version or byte order, or made up (by the user, whom alone it could deceive) has another
   digest and is not believed. How much is read is bounded by the limit on messages.
 - The mailbox is unchanged if device, inode, size, mtime and ctime are what they were when it was read. They were older
   than a tick of the clock before the first octet was read (else nothing is stored), so whoever wrote later has left a
   later ctime, which no program can set. Where the CRC was computed later, the file looked the same behind that.
 - Other times, the same file, not smaller: it may have grown. The CRC of all that is known is compared with what is
   there now. Samples would be cheaper and would miss a message rewritten in place; reading 170 MB takes 0.1 s, and a
   scan three times that. Then the last message, which may have been longer than was known, and all behind it are
   scanned. In any other case everything is.
 - What is left is a machine that lies: a clock set back, or a file system that after a power failure has the size and
   the times of a delivery and not its octets. So the borders of each message that is remembered and has not been read
   are looked at before it is sent or removed (store.py). Where they are not, the session ends and the index goes.
 - An update computes what it leaves, under its lock. The CRC is that of what it has read and written (update.py), or
   it is read once more. Should others have written meanwhile, who mind no lock, then a wrong CRC ends a session later.

The file is written under another name and renamed. It is never made durable: a lost one costs time.
"""

import sys
from _operator import mul, sub  # the C part
from itertools import accumulate, chain, compress, islice

from popad.arrays import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.maildrop.private import PrivateFiles

    Signature = tuple[int, int, int, int, int]

from popad.maildrop import sealed
from popad.maildrop.mbox.crc import crc_of, joined_crc
from popad.maildrop.mbox.scan import Messages, Scan
from popad.maildrop.private import ForeignFile

VERSION = b"popad3" + sys.byteorder.encode()  # goes into the digest: 16 octets at most
HEADER = 256  # octets of decimal numbers: the signature, the end, the CRC, how many messages and unique-ids
NUMBER = 8  # octets of each number behind the header


class Index:
    """The index of one mailbox in `file`, which is named, opened and made as a redo log in POPAD_STATE is."""

    def __init__(self, file: "PrivateFiles") -> None:
        self.file = file
        self.name = file.names[0]

    def recall(self, now: "Signature", read: "Callable[[int, int], bytes]", most: int) -> Messages | None:
        """The messages of the mailbox whose signature is `now`, at most `most`; None: it has to be scanned.

        `read` is pread. Raises what Scan raises when the new part of a mailbox that has grown is no mail.
        """
        if (stored := self.load(most)) is None:
            return None
        then, messages = stored
        if then == now and messages.end == now[2]:
            messages.remembered = True
            return messages
        if then[:2] == now[:2] and messages.end <= now[2]:
            return grown(messages, now[2], read, most)
        return None

    def load(self, most: int) -> "tuple[Signature, Messages] | None":
        """What was stored last, if it can be believed."""
        try:
            content = sealed.load(self.file, self.name, VERSION, HEADER + 5 * NUMBER * most)
        except (OSError, ForeignFile):
            return None
        return unpack(content) if content else None

    def store(self, messages: Messages, signature: "Signature") -> None:
        """Keep what is known of a mailbox that has `signature` for the next session; or do not, where that fails."""
        try:
            sealed.store(self.file, self.name, VERSION, pack(messages, signature), durable=False)
        except OSError:
            pass

    def drop(self) -> None:
        """Forget it: it is wrong, or of a mailbox that is small by now."""
        sealed.remove(self.file, self.name)


def columns(messages: Messages) -> "tuple[array[int], ...]":
    """What the file has behind its header."""
    return *messages.columns(), messages.ids


def pack(messages: Messages, signature: "Signature") -> bytes:
    """The file behind its digest."""
    numbers = (*signature, messages.end, messages.crc, len(messages.froms), len(messages.ids))
    return b"".join((b" ".join(b"%d" % number for number in numbers).ljust(HEADER), *columns(messages)))


def unpack(content: memoryview) -> "tuple[Signature, Messages] | None":
    """What pack() made. Checked again, for where all have one uid the key is no secret."""
    messages = Messages()
    try:
        device, inode, size, mtime, ctime, messages.end, messages.crc, count, ids = map(
            int, bytes(content[:HEADER]).split()
        )
    except ValueError:
        return None
    if not 0 <= ids <= count or not count or len(content) != HEADER + NUMBER * (4 * count + ids):
        return None
    place = HEADER
    for column in columns(messages):
        after = place + NUMBER * count
        column.frombytes(content[place:after])  # the last column may be shorter
        place = after
    return (device, inode, size, mtime, ctime), messages


def grown(known: Messages, size: int, read: "Callable[[int, int], bytes]", most: int) -> Messages | None:
    """The messages of a mailbox that has `size` octets now, if it still begins with all that is known of it."""
    last = known.froms[-1]
    crc = crc_of(read, 0, last)
    if crc_of(read, last, known.end, crc) != known.crc:
        return None
    known.end, known.crc = last, crc
    row = [column.pop() for column in known.columns()]
    number = len(known.froms)
    found = Scan(read, size, most, known).run()
    if [column[number] for column in found.columns()] != row:
        del found.ids[number:]
    return found


def without(messages: Messages, marks: bytearray) -> Messages:
    """What an update leaves: the messages without a mark (0, not 1), where they are then. The CRC is not known."""
    lengths = list(map(sub, chain(islice(messages.froms, 1, None), (messages.end,)), messages.froms))
    removed = list(accumulate(map(mul, lengths, marks)))  # up to and with this message
    stays = marks.translate(b"\1" + bytes(255))
    left = Messages()
    for column, old in zip(columns(left)[:3], columns(messages)[:3], strict=True):
        column.extend(compress(map(sub, old, removed), stays))
    left.sizes.extend(compress(messages.sizes, stays))
    left.ids.extend(compress(messages.ids, stays))
    left.end = messages.end - removed[-1]
    return left


def crc_without(read: "Callable[[int, int], bytes]", messages: Messages, goes: "list[tuple[int, int]]") -> int | None:
    """The CRC of the messages without these spans, where they stand together: from the CRC of all, the octets before
    them and their own. None where all has to be read. `read` is pread; raises OSError.
    """
    if len(goes) > 1:
        return None
    begin, end = goes[0][0], min(goes[0][1], messages.end)
    before = crc_of(read, 0, begin)
    length = messages.end - end
    behind = joined_crc(crc_of(read, begin, end, before), messages.crc, length)
    return joined_crc(before, behind, length)
