"""The messages of the race: each is known by its serial, and every octet of its body follows from that."""

import random
import re

SERIAL = re.compile(rb"^X-Serial: (\d+)$", re.M)
BOUNDARY = re.compile(rb"(?<=\n\n)(?=From )")
LINES = (b"text", b"", b".", b"..", b". dot", b">quoted", b"\tindented", b"x" * 70, b"y" * 990, b"From: no separator")


def body(serial: int, seed: int) -> bytes:
    """10 octets to 8 kB, now and then up to 200 kB: what one write(2) moves and what takes several."""
    rng = random.Random(f"{seed}/{serial}")
    count = rng.choice((1, 5, 20, 20, 60)) * (1 if rng.randrange(50) else 40)
    return b"".join(rng.choice(LINES) + b"\n" for _ in range(count)) + b"end of %d\n" % serial


def message(serial: int, seed: int) -> bytes:
    """What a delivery program is given."""
    header = b"Message-ID: <%d@race.test>\nSubject: race\nX-Serial: %d\n" % (serial, serial)
    return header + b"\n" + body(serial, seed)


def serial_of(stored: bytes, seed: int) -> int | None:
    """Which message this is, behind its `From ` line; None if it is not, octet for octet, the body of one.

    Programs add header lines and differ in how many blank lines they leave behind a message.
    """
    header, _, rest = stored.partition(b"\n\n")
    found = SERIAL.findall(header)
    if len(found) != 1 or rest.rstrip(b"\n") != body(int(found[0]), seed).rstrip(b"\n"):
        return None
    return int(found[0])


def serials_in(mailbox: bytes, seed: int) -> tuple[list[int], int]:
    """The serials in an mbox file, and how many parts of it are no whole message. Not with popad's parser."""
    serials = []
    broken = 0
    for part in BOUNDARY.split(mailbox) if mailbox else ():
        line, _, stored = part.partition(b"\n")
        serial = serial_of(stored, seed) if line.startswith(b"From ") else None
        if serial is None:
            broken += 1
        else:
            serials.append(serial)
    return serials, broken
