"""maildrop/uidl.py: popa3d's unique-ids bit for bit, and unique. The vectors are what popa3d 1.0.3 answers."""

import hashlib
import string
from array import array
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
    (b"Date: s", "4ea24ae9dd1ec763"),
    (b"Date: s\n", "4f266368a6d92c55"),
]


def id_of(message: bytes, cut: int = 0) -> str:
    """The unique-id, from blocks of `cut` octets."""
    blocks = [message[place : place + cut] for place in range(0, len(message), cut)] if cut else [message]
    return text_of(uidl.header_digest(uidl.header_pieces(blocks)))


def text_of(digest: bytes) -> str:
    return uidl.text_of(uidl.number_of(digest))


def model(message: bytes) -> str:
    """The rules of popa3d, line by line."""
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
            hashed.update(whole)
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


# -- unique ids of a maildrop

NOTHING_KNOWN = array("Q")
few_digests = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=12)


def ids_of(messages: list[tuple[int, int]]) -> list[str]:
    """Ids of messages that are (header, content) each."""
    return [uidl.text_of(number) for number in numbers_of(messages, NOTHING_KNOWN)]


def numbers_of(messages: list[tuple[int, int]], known: "array[int]") -> "array[int]":
    digests = [bytes([header]) * 16 for header, _ in messages[len(known) :]]
    return uidl.unique_ids(known, digests, lambda index: bytes(messages[index]) * 8)


@given(few_digests)
def test_ids_are_unique_and_the_first_is_popa3ds(messages: list[tuple[int, int]]) -> None:
    ids = ids_of(messages)
    assert len(set(ids)) == len(messages)
    assert all(len(unique_id) == 16 and set(unique_id) <= set(string.hexdigits.lower()) for unique_id in ids)
    seen = set()
    for (header, _), unique_id in zip(messages, ids, strict=True):
        if header not in seen:
            assert unique_id == text_of(bytes([header]) * 16)
        seen.add(header)


@given(few_digests)
def test_ids_are_stable(messages: list[tuple[int, int]]) -> None:
    """The same in the next session; and mail that comes later changes none of them."""
    assert ids_of(messages) == ids_of(messages)
    assert ids_of([*messages, (0, 0), (1, 2)])[: len(messages)] == ids_of(messages)


@given(few_digests, st.data())
def test_twins_keep_their_ids_when_later_ones_go(messages: list[tuple[int, int]], data: st.DataObject) -> None:
    """Messages with different contents: the ids of the others do not change when one goes that is not the first of its
    header.
    """
    messages = list(dict.fromkeys(messages))
    headers = [header for header, _ in messages]
    later = [index for index, header in enumerate(headers) if header in headers[:index]]
    if later:
        gone = data.draw(st.sampled_from(later))
        before = ids_of(messages)
        assert ids_of(messages[:gone] + messages[gone + 1 :]) == before[:gone] + before[gone + 1 :]


@given(few_digests, st.data())
def test_what_is_known_of_the_first_messages_changes_nothing(
    messages: list[tuple[int, int]], data: st.DataObject
) -> None:
    known = numbers_of(messages, NOTHING_KNOWN)[: data.draw(st.integers(0, len(messages)))]
    assert numbers_of(messages, known) == numbers_of(messages, NOTHING_KNOWN)


@given(few_digests, few_digests, st.data())
def test_known_ids_outlive_the_first_of_the_twins(
    messages: list[tuple[int, int]], later: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Whichever messages go: where the ids of the others are known they keep them, and later mail gets none of them."""
    stays = data.draw(st.lists(st.booleans(), min_size=len(messages), max_size=len(messages)))
    kept = [message for message, stay in zip(messages, stays, strict=True) if stay]
    before = numbers_of(messages, NOTHING_KNOWN)
    known = array("Q", (number for number, stay in zip(before, stays, strict=True) if stay))
    ids = numbers_of(kept + later, known)
    assert ids[: len(kept)] == known
    assert len(set(ids)) == len(kept) + len(later)


def test_content_is_read_for_twins_only() -> None:
    asked = []

    def content_digest(index: int) -> bytes:
        asked.append(index)
        return bytes([index]) * 16

    uidl.unique_ids(NOTHING_KNOWN, [b"a" * 16, b"b" * 16, b"a" * 16, b"c" * 16, b"a" * 16], content_digest)
    assert asked == [2, 4]


def test_100_000_identical_messages() -> None:
    ids = uidl.unique_ids(NOTHING_KNOWN, [b"a" * 16] * 100_000, lambda index: b"b" * 16)
    assert len(set(ids)) == 100_000


def test_digest_of_content() -> None:
    assert uidl.digest_of_content([b"ab", b"", b"c"]) == hashlib.md5(b"abc", usedforsecurity=False).digest()
