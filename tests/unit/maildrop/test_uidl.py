"""maildrop/uidl.py: popa3d's unique-ids bit for bit (the vectors are what popa3d 1.0.3 answers), and a content's."""

import hashlib
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.maildrop import uidl

NONE = "d98c1dd404b2008f"  # of a message without any of the headers
TWO_RECEIVED = (
    b"Return-Path: <a@b>\nDelivered-To: u@h\nReceived: from x by y\n\tid 1; Thu, 1 Jan 1970 00:00:00 +0000\n"
    b"Received: from z by x\nDate: Thu, 1 Jan 1970 00:00:00 +0000\nMessage-ID: <1@a>\nSubject: t\n\nbody\n\n"
)
VECTORS = [
    (b"Date: Thu, 1 Jan 1970 00:00:00 +0000\nMessage-ID: <1@a>\nSubject: t\n\nbody\n\n", "fc5fd35ea11ac239"),
    (TWO_RECEIVED, "daadee17b70d6d24"),
    (b"", NONE),
    (b"\nDate: 1\n", NONE),
    (b"Subject: s\n\nbody\n", NONE),
    (b"Date: 1\n", "e3ada8857fe9ebcf"),
    (b"Date: 3\n\nbody\n", "636e999147ce755e"),
    (b"Delivered-To: x\nDELIVERED-TO: y\n", "7aed1b3df95cb8b6"),
    (b"X-Delivery-ID: 1\nX-DELIVERY-id: 2\n", "ff69946fd864c300"),
    (b"X-Delivery-ID: 1\nX-DELIVERY-id: 2\nx-Delivery-ID: 3\n", "ff69946fd864c300"),
    (b"Received: 1\n\tf\nReceived: 2\n\tg\n", "b5a164bc482a3ea7"),
    (b"Date: 1\nReceived: 1\nDate: 2\n", "1d341f722c2e82ea"),
    (b"Date: 1\n \n\t\n", "442a45861259b443"),
    (b"Date: 1\0x\n", "02f585ed85292418"),
    (b"Date: 1\r\n\r\nDate: 2\r\n", "132ac382710c155a"),
    (b"Date: s\n", "4f266368a6d92c55"),
]


def id_of(message: bytes, cut: int = 0) -> str:
    """The unique-id, from blocks of `cut` octets."""
    blocks = [message[place : place + cut] for place in range(0, len(message), cut)] if cut else [message]
    return text_of(uidl.header_digest(uidl.header_pieces(blocks)))


def text_of(digest: bytes) -> str:
    return uidl.text_of(uidl.number_of(digest))


def model(message: bytes) -> str:
    """The rules of popa3d, line by line; a last line without its end counts as a line."""
    hashed = hashlib.md5(usedforsecurity=False)
    take = received = False
    for line in message.split(b"\n"):
        whole = line + b"\n" if message.startswith(line + b"\n") else line
        message = message[len(whole) :]
        if whole in (b"\n", b"\r\n", b""):
            break
        if not whole.startswith((b" ", b"\t")):
            name = whole.partition(b":")[0].lower() if b":" in whole else b""
            take = (
                name == b"delivered-to"
                or (name == b"x-delivery-id" and whole.startswith(b"X"))
                or (name == b"received" and not received)
                or (name in (b"date", b"message-id") and not received)
            )
            received = received or name == b"received"
        if take:
            hashed.update(line + b"\n")
    low, high = (hashed.digest()[place : place + 4] for place in (0, 4))
    return low[::-1].hex() + high[::-1].hex()


@pytest.mark.parametrize(("message", "unique_id"), VECTORS)
def test_vectors_at_every_size_of_block(message: bytes, unique_id: str) -> None:
    assert model(message) == unique_id  # the model is right
    assert id_of(message) == unique_id
    for cut in range(1, len(message) + 1):
        assert id_of(message, cut) == unique_id, cut


@pytest.mark.parametrize(
    "header",
    [
        b"Date : 1\n",
        b" Date: 1\n",
        b"\tDate: 1\n",
        b"DateX: 1\n",
        b"Resent-Date: 1\n",
        b"Received-SPF: pass\n",
        b"Delivered-To\t: x\n",
        b"x-Delivery-ID: 1\n",
        b">Date: 1\n",
        b"From b\n Date: 1\n",
        b"Date\n: 1\n",
        b"Subject: s\n\tDate: 1\n",
    ],
)
def test_what_is_not_hashed(header: bytes) -> None:
    assert id_of(header) == NONE


def test_an_empty_received_counts() -> None:
    assert id_of(b"Received:\nDate: 1\n") != NONE
    assert id_of(b"Received:\nDate: 1\n") == id_of(b"Received:\nDate: 2\n")


headers = st.lists(
    st.sampled_from(
        [
            b"Date: 1\n",
            b"DATE:2\n",
            b"Message-Id: <1@a>\n",
            b"Received: x\n",
            b"received:\n",
            b"Delivered-To: a\n",
            b"X-Delivery-ID: 1\n",
            b"x-delivery-id: 1\n",
            b"Subject: s\n",
            b" folded\n",
            b"\tfolded\r\n",
            b"\r",
            b"\r\n",
            b"\n",
            b"Date: 3\r\n",
            b"no colon\n",
            b"\0",
            b"Dat",
        ]
    ),
    max_size=10,
).map(b"".join)


@given(headers, st.lists(st.integers(0, 60), max_size=6), st.integers(4, 30))
def test_any_header_cut_anywhere(message: bytes, places: list[int], piece: int) -> None:
    """Long lines come in pieces; the pieces are made short here (a piece holds a header's name at least)."""
    bounds = [0, *sorted(min(place, len(message)) for place in places), len(message)]
    blocks = [message[begin:end] for begin, end in pairwise(bounds)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uidl, "PIECE", uidl.LONGEST_NAME + piece)
        assert text_of(uidl.header_digest(uidl.header_pieces(blocks))) == model(message)


@given(headers, st.sampled_from([b"", b"\n", b"\r\n", b"\nDate: 4\n"]), st.integers(0, 80))
def test_any_header_at_once(message: bytes, behind: bytes, place: int) -> None:
    """Where its end is at hand, it is told at once; where it is not, nothing is."""
    message += behind
    digest = uidl.digest_of_header(message[:place])
    is_whole = any(
        message[:place].startswith((b"\n", b"\r\n")) or end in message[:place] for end in (b"\n\n", b"\n\r\n")
    )
    assert (digest is not None) == is_whole
    if digest is not None:
        assert text_of(digest) == model(message)


@pytest.mark.parametrize(("message", "unique_id"), VECTORS)
def test_vectors_at_once(message: bytes, unique_id: str) -> None:
    assert uidl.digest_of_header(message) is None or text_of(uidl.digest_of_header(message) or b"") == unique_id
    for end in (b"\n", b"\r\n"):
        if message.endswith(b"\n"):
            assert text_of(uidl.digest_of_header(message + end) or b"") == unique_id


def test_the_end_of_a_long_line_is_no_blank_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a line behind its pieces may look like one."""
    monkeypatch.setattr(uidl, "PIECE", 20)
    blocks = [b"Date: " + b"x" * 14 + b"\r", b"\nReceived: y\n", b"\nbody"]
    assert text_of(uidl.header_digest(uidl.header_pieces(blocks))) == model(b"".join(blocks))


@given(headers, st.lists(st.integers(0, 60), max_size=6))
def test_pieces_are_the_header(message: bytes, places: list[int]) -> None:
    bounds = [0, *sorted(min(place, len(message)) for place in places), len(message)]
    pieces = list(uidl.header_pieces(message[a:b] for a, b in pairwise(bounds)))
    header = b"".join(pieces)
    assert message.startswith(header)
    assert b"\n\n" not in header
    rest = message[len(header) :]
    assert rest == b"" or rest.startswith((b"\n", b"\r\n"))
    assert all(piece.count(b"\n") <= 1 for piece in pieces)


@pytest.mark.parametrize("length", [uidl.PIECE - 8, uidl.PIECE, uidl.PIECE + 1, 200_000, 1_000_000])
def test_long_lines_are_hashed_whole(length: int) -> None:
    message = b"Date: " + b"x" * length + b"\n folded" + b"y" * length + b"\nSubject: s\n\n"
    assert id_of(message) == id_of(message, 4096) == model(message)


def test_memory_does_not_grow_with_a_line() -> None:
    pieces = uidl.header_pieces([b"Date: "] + [b"x" * 8192] * 1000 + [b"\n"])
    assert max(map(len, pieces)) <= uidl.PIECE + 8192


def test_header_is_read_no_further_than_it_goes() -> None:
    read = []

    def blocks() -> Iterator[bytes]:
        for block in (b"Date: 1\n\n", b"body\n"):
            read.append(block)
            yield block

    assert list(uidl.header_pieces(blocks())) == [b"Date: 1\n"]
    assert read == [b"Date: 1\n\n"]


# -- ids of the content

HEADER, BODY = b"Subject: s\n folded\nX: 1\n", b"\nbody\n\nmore\n"


def content(message: bytes, cut: int = 0) -> int:
    """The number of its content, read in blocks of `cut` octets."""

    def octets(place: int) -> Iterator[bytes]:
        step = cut or len(message) + 1
        return (message[each : each + step] for each in range(place, len(message), step))

    return uidl.content_number(octets)


def test_a_number_of_the_content_is_blake2() -> None:
    expected = hashlib.blake2b(b"Subject: s\n folded\nX: 1\n\nbody\n\nmore", digest_size=8).digest()
    assert content(HEADER + BODY) == int.from_bytes(expected, "big")


@pytest.mark.parametrize(
    "line",
    [
        b"Status: RO\n",
        b"STATUS:\n",
        b"X-Status: A\r\n",
        b"X-Keywords: one\n\ttwo\n three\n",
        b"X-UID: 12\n",
        b"X-IMAP: 1 2\n",
        b"X-IMAPbase: 1 2\n",
        b"Content-Length: 12\nLines: 3\n",
        b"X-Mozilla-Status2: 00\nX-Mozilla-Status: 1\nX-Mozilla-Keys:    \n",
        b"X-UIDL: abc\nX-VM-v5-Data: (1\n\t2)\n",
    ],
)
@pytest.mark.parametrize("place", [0, len(b"Subject: s\n folded\n"), len(HEADER)])
def test_what_mail_readers_write_does_not_count(line: bytes, place: int) -> None:
    message = HEADER[:place] + line + HEADER[place:] + BODY
    assert content(message) == content(HEADER + BODY)
    for cut in range(1, len(message)):
        assert content(message, cut) == content(HEADER + BODY), cut


@pytest.mark.parametrize(
    "line", [b"X-Label: a\n", b"Statuses: 1\n", b"Status : RO\n", b" Status: RO\n", b"X-Spam: 1\n"]
)
def test_all_else_counts(line: bytes) -> None:
    assert content(HEADER + line + BODY) != content(HEADER + BODY)


def test_status_in_a_body_counts() -> None:
    assert content(HEADER + b"\nStatus: RO\n") != content(HEADER + b"\n")


@pytest.mark.parametrize("message", [b"Date: 1", HEADER, HEADER + BODY, HEADER + b"\n\n\nbody", b"\nbody", b""])
@pytest.mark.parametrize("end", [b"\n", b"\n\n", b"\r\n", b"\r\n\r\n", b"\n" * 9])
def test_line_ends_behind_a_message_do_not_count(message: bytes, end: bytes) -> None:
    """Who delivers the next message may add some; and a mail reader a blank line behind a header."""
    for cut in range(len(message + end)):
        assert content(message + end, cut) == content(message)
    assert content(message + end + b".") != content(message + b".")


def test_long_lines_in_a_content() -> None:
    long = b"X: " + b"x" * (3 * uidl.PIECE) + b"\n"
    status = b"Status: " + b"x" * (3 * uidl.PIECE) + b"\n y\n"
    assert content(status + long + BODY, 4096) == content(long + BODY)
    assert content(long + BODY) != content(long + b" " + BODY)


def test_the_next_delivery_ends_the_last_line() -> None:
    """A header that the mailbox ends in, within a line: what is appended must not change the id."""
    assert id_of(b"Date: s") == id_of(b"Date: s\n") == model(b"Date: s\n")
    assert id_of(b"Date: s\n folded", 3) == model(b"Date: s\n folded\n")
    assert id_of(b"Date: s\nSubject: t") == model(b"Date: s\n")
