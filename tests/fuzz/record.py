"""What stands in a slot of an update's journal is a record as pack() makes it, or none, or the journal is kept aside:
whatever was written there.
"""

import zlib

from popad.maildrop.mbox.record import DONE, MAGIC, MAGIC_2, MOVED, MOVING, NUMBERS_2, SLOT, Record
from popad.maildrop.private import ForeignFile
from tests.fuzz.cutting import Octets

# A file that an attacker makes has the right CRC, too.
PHASES = MOVING, MOVED, DONE
PARTS = (MAGIC + b"\n", *(b"phase %b\n" % phase for phase in PHASES), b"mark 00ff\n", b"mailbox /var/mail/alice\n")
NAMES = dict.fromkeys((*Record.NUMBERS, *NUMBERS_2))
LINES = dict(enumerate((*PARTS, *(name.encode() + b" 1" for name in NAMES)), 0xE0))


def try_one(data: bytes) -> None:
    octets = Octets(data)
    sealed = octets.number() % 4
    text = octets.rest()
    for octet, line in LINES.items():
        text = text.replace(bytes([octet]), line)
    if sealed:
        text = (MAGIC, MAGIC_2)[sealed % 2] + b"\n" + text + b"\n"
        text += b"crc %d\n" % zlib.crc32(text)
    slot = text[:SLOT].ljust(SLOT, b"\0")
    try:
        record = Record.unpack(slot)
    except ForeignFile:
        return
    if record is None:
        return
    assert record.phase in PHASES
    assert all(getattr(record, name) >= 0 for name in Record.NUMBERS)
    again = Record.unpack(record.pack())
    assert again is not None
    assert {**vars(again), "mailbox": ""} == {**vars(record), "mailbox": ""}
