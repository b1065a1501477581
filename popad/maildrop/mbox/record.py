"""The records of a redo log (update.py): what a slot says, which of the two is in force, and what the version of popad
before this one has left.
"""

import os
import zlib

from popad.maildrop.mbox.crc import joined_crc
from popad.maildrop.private import ForeignFile

SLOT = 4096  # octets a record's slot takes: never in one disk sector with the other
SLOTS = 2 * SLOT  # octets of both, at the redo log's beginning
LONGEST_PATH = 1024  # octets of the mailbox's path that a record shows to an administrator
MAGIC = b"popad update journal 3"
MAGIC_2 = b"popad update journal 2"
MOVING, MOVED, DONE = b"moving", b"moved", b"done"
NUMBERS_2 = ("sequence", "inode", "first", "size", "moves", "crc_moves", "crc_before", "crc_behind")


class Record:
    """What a slot of the redo log says. Offsets and sizes in octets."""

    NUMBERS = (
        *("sequence", "inode", "first", "size", "gone", "target", "length", "marked", "logged", "crc_window"),
        *("before", "crc_before", "behind", "crc_behind", "plan", "crc_plan", "data", "room"),
    )
    sequence: int
    inode: int
    first: int  # P
    size: int  # S
    gone: int  # D
    target: int  # of the window
    length: int  # octets of the window, without the mark
    marked: int  # 1: the mark is behind them
    logged: int  # 1: the redo log has the window
    crc_window: int  # of a logged one, without the mark
    before: int  # octets that are looked at right before the window ...
    crc_before: int
    behind: int  # ... and right behind it
    crc_behind: int
    plan: int  # octets of the plan, behind the slots; none: one span goes, from P on
    crc_plan: int
    data: int  # where in the redo log a window is ...
    room: int  # ... and how many octets a logged one may have

    def __init__(self, mark: bytes, mailbox: str, phase: bytes = MOVING, tail: bytes = b"", **numbers: int) -> None:
        self.mark = mark
        self.mailbox = mailbox  # not used: for whoever looks at a redo log that was kept
        self.phase = phase
        self.tail = tail  # the last octets before S, none of them before P
        for name in self.NUMBERS:
            setattr(self, name, numbers.get(name, 0))

    @property
    def end(self) -> int:
        """N: the mailbox's size in the end."""
        return self.size - self.gone

    @property
    def rest(self) -> int:
        """Where what the window does not touch begins."""
        return self.target + self.length + len(self.mark) * self.marked

    def pack(self) -> bytes:
        """A slot: readable lines, the last of them the CRC of those before."""
        lines = [MAGIC, b"phase %b" % self.phase]
        lines += [b"mark %b" % self.mark.hex().encode(), b"tail %b" % self.tail.hex().encode()]
        lines.append(b"mailbox %b" % self.mailbox.encode("unicode_escape")[:LONGEST_PATH])
        lines += [b"%b %d" % (name.encode(), getattr(self, name)) for name in self.NUMBERS]
        text = b"\n".join(lines) + b"\n"
        return (text + b"crc %d\n" % zlib.crc32(text)).ljust(SLOT, b"\0")

    @classmethod
    def unpack(cls, slot: bytes) -> "Record | None":
        """The record in a slot; None where no complete one is. Raises ForeignFile for what pack() does not make."""
        text, _, crc = slot.rstrip(b"\0").rpartition(b"crc ")
        if not text or crc != b"%d\n" % zlib.crc32(text):
            return None
        magic, *lines = text.splitlines()
        if magic not in (MAGIC, MAGIC_2):
            raise ForeignFile("it is of another version of popad")
        try:
            words = dict(line.split(b" ", 1) for line in lines)
            names = cls.NUMBERS if magic == MAGIC else NUMBERS_2
            numbers = {name: int(words[name.encode()]) for name in names}
            if words[b"phase"] not in (MOVING, MOVED, DONE) or min(numbers.values()) < 0:
                raise ValueError
            mark = bytes.fromhex(words[b"mark"].decode())
            if magic == MAGIC_2:
                numbers = of_version_2(words[b"phase"], len(mark), **numbers)
            tail, mailbox = bytes.fromhex(words[b"tail"].decode()), words[b"mailbox"]
            # The path's end may be cut off.
            record = cls(mark, mailbox.decode("unicode_escape", "ignore"), words[b"phase"], tail, **numbers)
            if not record.makes_sense():
                raise ValueError
        except (KeyError, ValueError):
            raise ForeignFile("it has a record that popad does not write") from None
        return record

    def makes_sense(self) -> bool:
        """Whether its numbers fit together."""
        inside = self.before <= self.target and self.first <= self.target <= self.end - self.length
        return inside and 0 < len(self.mark) <= self.gone and self.data >= SLOTS + self.plan


def of_version_2(
    phase: bytes,
    mark: int,
    sequence: int,
    inode: int,
    first: int,
    size: int,
    moves: int,
    crc_moves: int,
    crc_before: int,
    crc_behind: int,
) -> dict[str, int]:
    """The numbers of a record of popad's version before: all that moves is one window, which the redo log has, and all
    around it is what others have no business to change. `mark` in octets.
    """
    end = first + moves
    moved = phase == MOVED
    return {
        "sequence": sequence,
        "inode": inode,
        "first": first,
        "size": size,
        "gone": size - end,
        "target": end if moved else first,
        "length": 0 if moved else moves,
        "marked": 1,
        "logged": int(not moved),
        "crc_window": crc_moves,
        "before": end if moved else first,
        "crc_before": joined_crc(crc_before, crc_moves, moves) if moved else crc_before,
        "behind": size - end - mark,
        "crc_behind": crc_behind,
        "plan": 0,
        "crc_plan": 0,
        "data": SLOTS,
        "room": moves,
    }


def current_record(log: int) -> Record | None:
    """The record in force: the valid one with the highest sequence number."""
    records = [Record.unpack(os.pread(log, SLOT, place)) for place in (0, SLOT)]
    return max((record for record in records if record), key=lambda record: record.sequence, default=None)
