"""The mailboxes to compare popa3d and popad on: edge cases by name, and as many as wanted from a seeded generator.

Sizes matter: popa3d parses fragments of lines (32 octets at least) out of blocks of 65,536 octets and sends blocks of
32,768; popad parses blocks of 65,536 octets, sends blocks of 131,072, and hashes blocks of 4,096.
"""

import random
from collections.abc import Iterator

LINE, SEND_BLOCK, PARSE_BLOCK = 32, 32_768, 65_536
HEADER_BLOCK, CONTENT_BLOCK, SCAN_BLOCK = 4096, 131_072, 65_536

FROM = b"From sender@example.org Thu Jan  1 00:00:00 1970\n"
HEADER = b"Date: Thu, 1 Jan 1970 00:00:00 +0000\nMessage-ID: <1@a>\nSubject: t\n"
ONE = FROM + HEADER + b"\nbody\n\n"
SHORT = b"From a\nSubject: s\n"
OTHER = b"From b\nDate: 2\nSubject: other\n\nother body\n\n"


INTERNAL = (
    FROM + b"Date: Thu, 1 Jan 1970 00:00:00 +0000\nFrom: Mail System Internal Data <MAILER-DAEMON@a>\n"
    b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nMessage-ID: <1@a>\n"
    b"X-IMAP: 0000000001 0000000002 $Forwarded\nStatus: RO\n\nThis text is part of the internal format\n\n"
)


def mail(header: bytes) -> bytes:
    """A mailbox of one message with these header lines."""
    return b"From a\n" + header + b"\n\nbody\n\n"


REFUSED = {
    "blank first line": b"\n" + ONE,
    "two blank first lines": b"\n\n" + ONE,
    "CRLF first line": b"\r\n" + ONE,
    "no From line": HEADER + b"\nbody\n",
    "no From line, but one later": HEADER + b"\nbody\n\n" + ONE,
    "From without a space": b"From\n" + HEADER + b"\nbody\n",
    "From: first": b"From: a\n" + HEADER + b"\nbody\n",
    "quoted From first": b">" + ONE,
    "lower case from": b"from a\n" + HEADER + b"\nbody\n",
    "space before From": b" " + ONE,
    "the word From": b"From",
    "one LF": b"\n",
    "one octet": b"x",
    "NUL first": b"\0" + ONE,
    "binary": bytes(range(256)) * 4,
}

EDGES = {
    "empty": b"",
    "one message": ONE,
    "two messages": ONE + OTHER,
    "the vector with two Received": FROM + b"Return-Path: <a@b>\nDelivered-To: u@h\nReceived: from x by y\n\tid 1; "
    b"Thu, 1 Jan 1970 00:00:00 +0000\nReceived: from z by x\n" + HEADER + b"\nbody\n\n",
    "From and LF alone as separator": b"From \nSubject: x\n\nb\n\nFrom \nSubject: y\n\nc\n\n",
    "the word From at the end": ONE + b"From",
    "From line after a line of text": SHORT + b"\nbody\nFrom b\nmore\n\n",
    "From line after a header line": SHORT + b"From b\nS: x\n\nbody\n\n",
    "From line after a line of one space": SHORT + b"\nbody\n \nFrom b\nx\n\n",
    "From line after a line of one CR": SHORT + b"\nbody\n\r\nFrom b\nS: 1\n\nb\n\n",
    "From line after a blank line in the body": SHORT + b"\nbody\n\nFrom now on\nthis is a message\n\n",
    "two From lines": b"From a\n" + ONE,
    "two From lines, second message": ONE + b"From a\n" + ONE,
    "two From lines with dates": FROM + ONE,
    "two From lines with dates, second message": ONE + FROM + ONE,
    "three From lines": mail(b"From b\nFrom c\nS: x"),
    "a lone From line at the end": ONE + b"From b\n",
    "a lone From line with a date at the end": ONE + FROM,
    "a lone From line without its LF at the end": ONE + b"From b",
    "From lines without a blank line before them": ONE[:-1] + FROM + OTHER[7:-1] + ONE,
    "From line without a blank line and without a header": ONE[:-1] + FROM + b"text\n\n" + ONE,
    "From line with a date and without a header": ONE + FROM + b"text\n\n" + ONE,
    "From lines with other dates": b"".join(
        b"From %b\nSubject: s\n\nb\n" % line
        for line in (
            b"a@b  Thu Jan  1 00:00 1970",
            b'"a b"@c Thu Jan  1 00:00:00 MET 1970',
            b"a at b Thu Jan  1 00:00:00 1970 +0100",
            b"a Thu, 1 Jan 1970 00:00:00 +0000",
            b"a!b Thu Jan  1 00:00:00 1970 remote from a",
            b" Thu Jan  1 00:00:00 70",
        )
    ),
    "prose": SHORT + b"\nDirections:\n\nFrom the station go north.\nFrom there it is a mile.\n\n" + ONE,
    "prose that ends in a colon": SHORT + b"\nx\n\nFrom Black's Law Dictionary:\nlaw: a rule\n\n" + ONE,
    "prose before a URL": SHORT + b"\nx\n\nFrom Wikipedia:\nhttp://example.org/\n\n" + ONE,
    "internal data": INTERNAL,
    "internal data, then a message": INTERNAL + ONE,
    "internal data, then messages": INTERNAL + OTHER + ONE + ONE,
    "internal data behind a message": ONE + INTERNAL + OTHER,
    "internal data without X-IMAP": INTERNAL.replace(b"X-IMAP", b"X-UID") + ONE,
    "X-IMAP in a message": INTERNAL.replace(b"DATA", b"DATE") + ONE,
    "quoted From lines": SHORT + b"\nbody\n\n>From b\n>>From c\n\nFrom: d\n\nfrom e\n\nFROM f\n\nFromage\n\n",
    "no header": b"From a\n\nbody\n\n",
    "no header, no body": b"From a\n\n",
    "no header, no body, three times": b"From a\n\nFrom b\n\nFrom c\n\n",
    "two blank lines": b"From a\n\n\n",
    "three blank lines": b"From a\n\n\n\n",
    "blank lines before the body": b"From a\n\n\n\nbody\n\n" + OTHER,
    "header only, no blank line": SHORT,
    "header only, one blank line": SHORT + b"\n",
    "header only, two blank lines": SHORT + b"\n\n",
    "header only, three blank lines": SHORT + b"\n\n\n",
    "header only, then a message": SHORT + b"\n" + ONE,
    "header only, two blank lines, then a message": SHORT + b"\n\n" + ONE,
    "no blank line at the end": SHORT + b"\nbody\n",
    "two blank lines at the end": SHORT + b"\nbody\n\n\n",
    "two blank lines between": SHORT + b"\nbody\n\n\n" + ONE,
    "no LF at the end of the body": SHORT + b"\nbody",
    "no LF at the end of the header": b"From a\nSubject: s",
    "no LF at the end of a hashed header": b"From a\nSubject: s\nDate: 1",
    "no LF at the end of a folded hashed header": b"From a\nDate: 1\n folded",
    "no LF at the end of the second message": ONE + SHORT + b"\nbody",
    "no LF after a dot": SHORT + b"\nbody\n.",
    "no LF after CR": SHORT + b"\nbody\r",
    "no LF after a line of one CR": SHORT + b"\nbody\n\r",
    "no LF after NUL": SHORT + b"\nbody\0",
    "bare CR": SHORT + b"\nbo\rdy\r\r\n\r\n",
    "bare CR as line ends": b"From a\n" + (SHORT + b"\nbody\n\n" + OTHER).replace(b"\n", b"\r"),
    "CRLF": (ONE + OTHER).replace(b"\n", b"\r\n"),
    "CRLF, one message": ONE.replace(b"\n", b"\r\n"),
    "CRLF, no blank line at the end": (ONE + OTHER)[:-1].replace(b"\n", b"\r\n"),
    "CRLF, no LF at the end": (ONE + OTHER)[:-2].replace(b"\n", b"\r\n"),
    "CRLF, header only, twice": (SHORT + b"\n" + SHORT + b"\n\n").replace(b"\n", b"\r\n"),
    "CRLF, two From lines": (b"From a\n" + ONE).replace(b"\n", b"\r\n"),
    "CRLF, lone From line at the end": (ONE + b"From a\n").replace(b"\n", b"\r\n"),
    "CRLF, dots and folding": (FROM + b"Date: 1\n\tfolded\n" + SHORT[7:] + b"\n.\n..\n.x\n\n").replace(b"\n", b"\r\n"),
    "CRLF, hashed names in the bodies": (ONE[:-1] + b"Delivered-To: x\nReceived: y\n\n" + OTHER).replace(
        b"\n", b"\r\n"
    ),
    "CRLF message, then LF message": ONE.replace(b"\n", b"\r\n") + OTHER,
    "LF message, then CRLF message": ONE + OTHER.replace(b"\n", b"\r\n"),
    "CRLF lines in an LF body": SHORT + b"\nbody\r\nmore\r\n\r\nFrom b\r\nx\n\n" + OTHER,
    "CR CR LF": SHORT.replace(b"\n", b"\r\r\n") + b"\r\r\nbody\r\r\n\r\r\n" + OTHER,
    "dots": SHORT + b"\n.\n..\n...\n.x\n .\nx.\n\n.\n\n",
    "dot first in the header": mail(b".Subject: s\n."),
    "dot as the whole body": SHORT + b"\n.\n\n",
    "NUL": SHORT + b"X-Nul: \0\n\0\n\nbo\0dy\n\0\n\n" + OTHER,
    "NUL in hashed headers": mail(b"Date: 1\0x\nRec\0ived: 2\nMessage-ID: \0"),
    "8-bit": "From ä\nSubject: Grüße\nDate: ÿ\n\nKöln\n\n".encode("latin-1") + "From ä\nDate: €\n\n€\n\n".encode(),
    "all octets in the body": SHORT + b"\n" + bytes(range(256)) + b"\n\n",
    "Delivered-To in every case": mail(b"delivered-to: 1\nDELIVERED-TO: 2\nSubject: s\nDelivered-To: 3\n 4"),
    "X-Delivery-ID in every case": mail(b"X-Delivery-ID: 1\nX-DELIVERY-id: 2\nx-Delivery-ID: 3\n 4"),
    "x-delivery-id alone": mail(b"x-delivery-id: 1"),
    "many Received": b"From a\n"
    + b"".join(b"Received: from %d\n\tby %d\n" % (i, i) for i in range(40))
    + b"Date: 1\n\nbody\n\n",
    "received in lower case": mail(b"received: 1\n  f\n\tg\nRECEIVED: 2\n\th"),
    "empty Received": mail(b"Received:\nDate: 1"),
    "Received-SPF before Received": mail(b"Received-SPF: pass\nDate: 1\nReceived: 2\nDate: 3"),
    "Date and Message-ID before and after Received": mail(
        b"Date: 1\nMessage-Id: 2\nReceived: 3\nDate: 4\nMessage-ID: 5"
    ),
    "Date and Message-ID twice, no Received": mail(b"Date: 1\nmessage-id: 2\nDATE: 3\nMESSAGE-ID: 4"),
    "Return-Path and Reply-To": mail(b"Return-Path: x\n\tfold\nReceived: 1\nReply-To: s\n fold"),
    "space before the colon": mail(b"Date : 1\nReceived\t: 2\nDelivered-To : 3"),
    "no colon": mail(b"Received\nDate\nDelivered-To\n folded"),
    "longer and shorter names": mail(b"DateX: 1\nDat: 2\nResent-Date: 3\nMessage-ID-X: 4\nMessage-I: 5\nR: 6\nD\nM\nX"),
    "folding in the first line": mail(b" folded\nDate: 1"),
    "folding after a name that is not hashed": mail(b"Subject: 3\n\tfold\nDate: 1"),
    "folding by white space alone": mail(b"Date: 1\n \n\t\nSubject: x"),
    "folding after a line without a colon": mail(b"junk\n cont\nDate: 1\n cont\nFrom b\n fold\n>From c\n fold"),
    "hashed names in the body": SHORT + b"\nDate: 1\nReceived: 2\nDelivered-To: 3\n\n",
    "CR inside a hashed header": mail(b"Date: 1\rReceived: 2"),
    "CRLF after a hashed header": mail(b"Date: 1\r\nSubject: x\r"),
    "identical twins": ONE + ONE,
    "five identical messages": ONE * 5,
    "twins around another": ONE + OTHER + ONE + OTHER,
    "the same header, other bodies": b"".join(FROM + HEADER + b"\nbody %d\n\n" % i for i in range(4)),
    "no hashed header, three times": (SHORT + b"\nbody\n\n") * 3,
    "a body of LFs": SHORT + b"\n" * 50,
    "a body of LFs, then a message": SHORT + b"\n" * 50 + OTHER,
    "many messages": b"".join(b"From a\nDate: %d\n\n%d\n\n" % (i, i) for i in range(300)),
    "many lines": SHORT + b"\n" + b"".join(b"%d\n" % i for i in range(5000)) + b"\n" + OTHER,
    "a line of 200,000 octets": SHORT + b"\n" + b"x" * 200_000 + b"\n\n" + OTHER,
    "a hashed header of 200,000 octets": b"From a\nDate: " + b"x" * 200_000 + b"\n\nbody\n\n" + OTHER,
    "a From line of 200,000 octets": b"From " + b"x" * 200_000 + b"\nDate: 1\n\nbody\n\n" + OTHER,
    "a header of 200,000 octets": b"From a\n" + b"X-Filler: y\n" * 17_000 + b"Date: 1\n\nbody\n\n" + OTHER,
    "dots only": SHORT + b"\n" + b".\n" * 40_000 + b"\n",
    "long line without LF at the end": SHORT + b"\n" + b"x" * (2 * PARSE_BLOCK),
}


def at_offset(offset: int, octets: bytes, tail: bytes = b"") -> bytes:
    """A mailbox in which `octets` stand at `offset`, behind a message and its blank line."""
    start = SHORT + b"\n"
    return start + b"x" * (offset - len(start) - 2) + b"\n\n" + octets + tail


def crossing() -> Iterator[tuple[str, bytes]]:
    """What the servers look for, at every place around the edges of their blocks."""
    for offset in range(PARSE_BLOCK - 60, PARSE_BLOCK + 3, 3):
        yield f"From line at {offset}", at_offset(offset, FROM, HEADER + b"\nbody\n\n" + OTHER)
        hashed = b"From a\nDelivered-To: somebody@example.org\n folded\n\nbody\n\n"
        yield f"header line at {offset}", at_offset(offset - 7, hashed)
    for offset in range(PARSE_BLOCK - 3, PARSE_BLOCK + 4):
        yield f"end of header at {offset}", at_offset(offset - 15, b"From a\nDate: 1\n\nbody\n\n", OTHER)
        yield f"blank line at {offset}", at_offset(offset + 1, OTHER, ONE)
    for offset in (PARSE_BLOCK - 40, PARSE_BLOCK - 20, PARSE_BLOCK - 1):
        yield f"lone From line at {offset}", at_offset(offset, FROM)
        yield f"two From lines at {offset}", at_offset(offset, FROM + b"From b\nDate: 1\nSubject: s\n\nbody\n\n")
    for offset in range(SCAN_BLOCK - 10, SCAN_BLOCK + 4):
        yield f"From line at {offset}", at_offset(offset, OTHER, ONE)
        yield f"CRLF From line at {offset}", at_offset(offset - 2, b"\r\n", OTHER.replace(b"\n", b"\r\n"))
    # A message is sent in blocks, of which the first begins behind the From line.
    for edge in (SEND_BLOCK, PARSE_BLOCK, CONTENT_BLOCK):
        for offset in range(edge + len(b"From a\n") - 3, edge + len(b"From a\n") + 4):
            yield f"dots at {offset}", at_offset(offset, b".\n..\n.\n\n" * 4)
            yield f"CR and LF at {offset}", at_offset(offset, b"y\ry\ny\r")
            yield f"CR LF at {offset}", at_offset(offset, b"\r\n.\r\n\r\nx\n\n")
            yield f"end at {offset}", at_offset(offset, b"")
            yield f"end without LF at {offset}", at_offset(offset, b"")[:-2]
    for edge in (HEADER_BLOCK, SEND_BLOCK, PARSE_BLOCK, CONTENT_BLOCK):
        for offset in range(edge - 3, edge + 4):
            filler = b"X-Filler: ".ljust(offset, b"x")
            yield f"header until {offset}", mail(filler)
            yield f"CRLF header until {offset}", mail(filler).replace(b"\n", b"\r\n")
            yield f"hashed headers around {offset}", mail(filler[:-9] + b"\nDate: 1\n 2\nDelivered-To: 3\n\t4")
    # A header line that popad hashes piece by piece, of which the last is the line's CR alone.
    end = HEADER_BLOCK + CONTENT_BLOCK
    for begin in (end - 2 * PARSE_BLOCK - 1, end - PARSE_BLOCK - 1):
        long_line = b"Delivered-To: ".ljust(end - begin - 1, b"x")
        yield (
            f"hashed CRLF line from {begin}",
            mail(b"X-F: ".ljust(begin - 1, b"x") + b"\n" + long_line + b"\r\nDate: 1"),
        )
    for octets in range(PARSE_BLOCK - 2, PARSE_BLOCK + 3):
        yield f"hashed header line of {octets}", mail(b"Date: " + b"x" * (octets - 7) + b"\n\tfolded\nMessage-ID: 1")


HASHED = (
    "Received RECEIVED received Date date Message-ID Message-Id Delivered-To delivered-TO X-Delivery-ID X-delivery-id"
)
NAMES = (HASHED + " x-delivery-id Subject From To Return-Path DKIM-Signature X-Y R").split()
VALUES = ("1", "", "<a@b>", "from x by y", "Grüße", "z" * 20, "z" * 40, "z" * 900)
BODY = (
    b"text",
    b"",
    b".",
    b"..",
    b".dot",
    b">From x",
    b"From x",
    b"From x y",
    b"y" * 31,
    b"y" * 32,
    b"y" * 33,
    b"y" * 1000,
)
WILD = (
    *(b"\n\ntext\nFrom here\nFrom \nFrom\n>From x\n.\n..\n.x\n\0\n\xff\xfe\na\rb\n folded\n\tfolded\n ".split(b"\n")),
    *(
        b"Date: 1\nReceived: 1\nreceived:x\nDelivered-To: x\nMessage-ID: <x>\nX-Delivery-ID: y\nDate:\nno colon".split(
            b"\n"
        )
    ),
)


def header(rng: random.Random) -> bytes:
    lines = []
    for _ in range(rng.choice((0, 1, 3, 6, 12))):
        space = rng.choice((" ", "", "\t"))
        lines.append(f"{rng.choice(NAMES)}:{space}{rng.choice(VALUES)}{rng.randint(0, 2)}\n")
        for _ in range(rng.choice((0, 0, 0, 1, 3))):
            lines.append(rng.choice((" ", "\t")) + rng.choice(("", "folded", "Date: 9", ".")) + "\n")
    return "".join(lines).encode()


def body(rng: random.Random) -> bytes:
    """Lines; a From line behind a blank one makes another message of the rest, now and then."""
    return b"".join(rng.choice(BODY) + b"\n" for _ in range(rng.choice((0, 1, 2, 5, 20))))


def well_formed(rng: random.Random, messages: int = 6) -> bytes:
    made = []
    for _ in range(rng.randint(1, messages)):
        sender = rng.choice((b"", b"a", b"a", b"a@b Thu Jan  1 00:00:00 1970", b"b  Thu Jan 01 00:00 +0100 1970"))
        made.append(b"From %b\n%b\n%b\n" % (sender, header(rng), body(rng)))
    if rng.random() < 0.2:
        made.append(rng.choice(made))
    return b"".join(made)


def wild(rng: random.Random, ends: tuple[bytes, ...] = (b"\n",)) -> bytes:
    """Any lines in any order behind a From line."""
    lines = [b"From a", *(rng.choice(WILD) for _ in range(rng.randint(1, 25)))]
    return b"".join(line + rng.choice(ends) for line in lines)


def generate(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Mailboxes of all kinds, always the same for one seed."""
    rng = random.Random(seed)
    for number in range(count):
        kind = rng.choice("plain plain plain cut wild wild crlf wild-crlf mixed wild-mixed large".split())
        match kind:
            case "plain":
                made = well_formed(rng)
            case "cut":
                made = well_formed(rng)
                made = made[: rng.randrange(len(made))]
            case "wild":
                made = wild(rng)
            case "crlf":
                made = well_formed(rng).replace(b"\n", b"\r\n")
            case "wild-crlf":
                made = wild(rng, (b"\r\n",))
            case "mixed":
                made = well_formed(rng) + well_formed(rng).replace(b"\n", b"\r\n")
            case "wild-mixed":
                made = wild(rng, (b"\n", b"\n", b"\r\n"))
            case _:
                edge = rng.choice((SEND_BLOCK, PARSE_BLOCK))
                made = at_offset(edge + rng.randint(-80, 80), well_formed(rng, 3))
        yield f"{kind} {number} of seed {seed}", made
