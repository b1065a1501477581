"""What stands in a slot of an update's journal is a record as pack() makes it, or none, or the journal is kept aside:
whatever was written there.
"""

import zlib

from popad.maildrop import rewrite
from popad.maildrop.rewrite import Record
from popad.maildrop.state import JournalForeign
from tests.fuzz.cutting import Octets

# A file that an attacker makes has the right CRC, too.
PARTS = (rewrite.MAGIC + b"\n", b"phase moving\n", b"phase moved\n", b"mark 00ff\n", b"mailbox /var/mail/alice\n")
LINES = dict(enumerate((*PARTS, *(name.encode() + b" 1" for name in Record.NUMBERS)), 0xE0))


def try_one(data: bytes) -> None:
    octets = Octets(data)
    sealed = octets.number() % 4
    text = octets.rest()
    for octet, line in LINES.items():
        text = text.replace(bytes([octet]), line)
    if sealed:
        text = rewrite.MAGIC + b"\n" + text + b"\n"
        text += b"crc %d\n" % zlib.crc32(text)
    slot = text[: rewrite.SLOT].ljust(rewrite.SLOT, b"\0")
    try:
        record = Record.unpack(slot)
    except JournalForeign:
        return
    if record is None:
        return
    assert record.phase in (rewrite.MOVING, rewrite.MOVED)
    assert all(getattr(record, name) >= 0 for name in Record.NUMBERS)
    again = Record.unpack(record.pack())
    assert again is not None
    assert {**vars(again), "mailbox": ""} == {**vars(record), "mailbox": ""}
