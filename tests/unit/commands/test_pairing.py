"""commands/pairing.py: which message is which; what is not certain is no pair."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from popad.commands.pairing import Message, message_of, pairs, unclear
from popad.maildrop.uidl import header_pieces


def seen(header: str, octets: int = 100, content: int | None = None) -> Message:
    message = message_of(header_pieces([header.encode()]), octets)
    message.content = content
    return message


def paired(old: list[Message], here: list[Message]) -> list[tuple[int, int]]:
    return sorted(pairs(old, here))


A, B = "Message-ID: <a>\nSubject: a\n\n", "Message-ID: <b>\n\n"


def test_by_the_header_and_the_size() -> None:
    assert paired([seen(A), seen(B)], [seen(B), seen(A)]) == [(0, 1), (1, 0)]
    assert unclear([seen(A), seen(B)], [seen(B), seen(A)]) == (set(), set())
    assert paired([seen(A)], [seen(B)]) == []


def test_what_readers_and_servers_write_does_not_count() -> None:
    """Neither in the header nor in the size. One server shows it, another does not."""
    shown = seen("Message-ID: <a>\nX-UIDL: 12\nStatus: RO\nSubject: a\n\n", 100 + len("X-UIDL: 12\r\nStatus: RO\r\n"))
    assert paired([shown], [seen(A)]) == [(0, 0)]
    assert (shown.octets, shown.key) == (100, seen(A).key)
    folded = seen("Message-ID: <a>\nX-Keywords: x\n\ty\nSubject: a\n\n", 100 + len("X-Keywords: x\r\n\ty\r\n"))
    assert (folded.octets, folded.key) == (100, seen(A).key)
    with_cr = seen("Message-ID: <a>\r\nStatus: RO\r\nSubject: a\r\n\r\n", 100 + len("Status: RO\r\n"))
    assert (with_cr.octets, with_cr.key) == (100, seen(A).key)


def test_a_header_in_blocks() -> None:
    long = f"Message-ID: <a>\nX: {'x' * 200_000}\nStatus: {'y' * 200_000}\n\n"
    whole = message_of(header_pieces([long.encode()]), 500_000)
    cut = message_of(
        header_pieces([long.encode()[place : place + 7777] for place in range(0, len(long), 7777)]), 500_000
    )
    assert (whole.key, whole.octets) == (cut.key, cut.octets)
    assert whole.octets == 500_000 - len(f"Status: {'y' * 200_000}\r\n")


def test_another_size_asks_for_the_content() -> None:
    old, here = [seen(A, 100)], [seen(A, 101)]
    assert (paired(old, here), unclear(old, here)) == ([], ({0}, {0}))
    old[0].content = here[0].content = 5
    assert paired(old, here) == [(0, 0)]
    here[0].content = 6
    assert paired(old, here) == []


def test_a_header_that_names_nothing_asks_for_the_content() -> None:
    old, here = [seen("Date: 1\n\n")], [seen("Date: 1\n\n")]
    assert (paired(old, here), unclear(old, here)) == ([], ({0}, {0}))


def test_twins_are_told_apart_by_their_content() -> None:
    old = [seen(A, content=1), seen(A, content=2), seen(B)]
    here = [seen(A, content=2), seen(A, content=3), seen(B)]
    assert unclear(old, here) == ({0, 1}, {0, 1})
    assert paired(old, here) == [(1, 0), (2, 2)]
    assert paired([seen(A, content=1)], [seen(A, content=2), seen(A, content=1)]) == [(0, 1)]


def test_exact_copies_are_paired_in_their_order() -> None:
    copies = [seen(A, content=1) for _ in range(3)]
    assert paired(copies, copies) == [(0, 0), (1, 1), (2, 2)]
    assert paired(copies[:1], copies) == [(0, 0)]
    assert paired(copies, copies[:2]) == [(0, 0), (1, 1)]


@given(st.lists(st.integers(0, 3), max_size=12), st.randoms(use_true_random=False))
def test_any_two_maildrops(contents: list[int], chance: random.Random) -> None:
    """A pair is one message, none is in two pairs, and each that is on both sides has one."""
    headers = [A, A, B, "Subject: x\n\n"]
    old = [(number, seen(headers[number], 10, content=number)) for number in contents]
    here = [each for each in old if chance.random() < 0.7]
    chance.shuffle(here)
    found = list(pairs([message for _, message in old], [message for _, message in here]))
    assert len({place for place, _ in found}) == len({place for _, place in found}) == len(found)
    assert all(old[one][0] == here[other][0] for one, other in found)
    assert len(found) == len(here)
