"""Mailboxes for the parts that read them: From_ lines of programs, files that are refused, sizes, and any at all."""

from hypothesis import strategies as st

# What stands behind `From ` in lines of programs: asctime(3), Dovecot and sendmail (two spaces), bounces, quoted names,
# Mozilla, Eudora, pipermail, UUCP, V7, Gmail's export, time zones, ISO C without seconds, dates of RFC 5322, no sender.
DATED = (
    """
a@b Thu Jan  1 00:00:00 1970
a@b  Sun Dec 31 23:59:59 2028
MAILER-DAEMON Thu Jan 01 00:00:00 1970
"a b"@c Thu Jan  1 00:00:00 1970
"a \\" Thu b"@c  Thu Jan  1 00:00:00 1970
- Thu Jan  1 00:00:00 1970
???@??? Thu Jan  1 00:00:00 1970
a at b.example  Thu Jan  1 00:00:00 1970
a Thu Jan  1 00:00 1970
thu Thu Jan  1 00:00 1970
host!user Thu Jan  1 00:00:00 1970 remote from host
a Thu Jan  1 00:00:00 70
Thu Jan 1 0:0 70
123@xxx Thu Jan 01 00:00:00 +0000 1970
a Thu Jan  1 00:00:00 MET 1970
a Thu Jan  1 00:00:00 MET DST 1970
a Thu Jan  1 00:00:00 1970 +0100
a Thu Jan  1 00:00:00 1970 -0800 (PST)
a Thu Jan  1 00:00:00 UTC 1970 +0000
a Thu Jan 1 0:00:00 1970
a THU JAN  1 00:00:00 1970
a Thu, 1 Jan 1970 00:00:00 +0000
a Thu, 01 Jan 70 00:00 GMT
 Thu Jan  1 00:00:00 1970
Thu Jan  1 00:00:00 1970
""".strip("\n")
    .encode()
    .split(b"\n")
)

REFUSED = [
    b"\nFrom a\nSubject: s\n\nb\n",
    b"\r\nFrom a\nSubject: s\n\nb\n",
    b"Subject: s\n\nb\n",
    b">From a\nx\n",
    b"from a\nx\n",
    b"From: a\nx\n",
    b"From\nx\n",
    b"From",
    b"\n",
    b"\0",
]

VECTOR_ONE = b"Date: Thu, 1 Jan 1970 00:00:00 +0000\nMessage-ID: <1@a>\nSubject: t\n\nbody\n\n"
VECTOR_TWO = (
    b"Return-Path: <a@b>\nDelivered-To: u@h\nReceived: from x by y\n\tid 1; Thu, 1 Jan 1970 00:00:00 +0000\n"
    b"Received: from z by x\n" + VECTOR_ONE
)
D = b" Thu Jan  1 00:00:00 1970\n"

# Mailbox, then the size of each message: what popa3d itself answers, but where the names of tests of scan.py say else.
SIZES: list[tuple[bytes, list[int]]] = [
    (b"", []),
    (b"From a\n" + VECTOR_ONE, [77]),
    (b"From a\n" + VECTOR_TWO, [201]),
    (b"From a\n\n", [2]),
    (b"From a\n\n\n", [2]),
    (b"From a\n\n\n\n", [4]),
    (b"From a\n\nbody\n", [8]),
    (b"From a\n\nFrom b%b\nFrom c\nS: 1\n\nx\n\n" % D, [2, 2, 11]),
    (b"From a\nSubject: s\nFrom b\nS: x\n\nb\n\n", [31]),
    (b"From a\nSubject: s\n\nFrom a\nS: 1\n\nx\n", [14, 11]),
    (b"From a\nS: s\n\nbody\nFrom b\nmore\n", [28]),
    (b"From a\nS: s\n\nbody\n \nFrom b\nmore\n", [31]),
    (b"From a\nS: s\n\nbody\n\nFrom", [22]),
    (b"From a\n folded\nS: s\n\nb\n", [20]),
    (b"From a\nS: s\n\nbody", [14]),  # popa3d: 13
    (b"From a\nS: s\n\nbody\r", [15]),
    (b"From a\nS: s\n\nbody\n\n\n", [16]),
    (b"From a\nH\n\n", [5]),
    (b"From a\nH\n\n\n", [5]),
    (b"From a\nH\n\n\n\n", [7]),
    (b"From a\nH", [3]),
    (b"From a\r\nS: s\r\n\r\nbody\r\n\r\nFrom b\r\nS: s\r\n\r\nbody\r\n", [14, 14]),
    (b"From a\r\n\r\nFrom b%b\r\n" % D.replace(b"\n", b"\r\n"), [2, 2]),
    (b"From a\nS: s\n\nb\n\r\nFrom b\nS: s\n\nb\n", [11, 11]),
]


# Lines, and pieces of them. What makes a From_ line stands in it often enough to be put together.
fragments = st.sampled_from(
    [
        b"From a\n",
        b"From b\r\n",
        b"From ",
        b"From",
        b"From b Thu Jan  1 00:00:00 1970\n",
        b"From c@d Thu Jan  1 00:00 1970\r\n",
        b"\nFrom e Thu, 1 Jan 1970 00:00:00 +0000\n",
        b" Thu Jan  1 00:00:00 1970",
        b'"q r"',
        b"\n",
        b"\n",
        b"\n",
        b"\r\n",
        b"\r\n",
        b"\r",
        b"x\n",
        b"Date: 1\n",
        b"a:",
        b"//",
        b"body\r\n",
        b".\n",
        b">From c\n",
        b"\0",
        b" ",
    ]
)
# Most begin as an mbox does: anything else is refused by its first octets.
mailboxes = st.tuples(
    st.sampled_from([b"From a\n", b"From a\nS: s\n", b"From a\r\nS: s\r\n", b"From a\nS: s\n\nb\n\nFrom b\n", b""]),
    st.lists(fragments, max_size=14),
).map(lambda parts: parts[0] + b"".join(parts[1]))
