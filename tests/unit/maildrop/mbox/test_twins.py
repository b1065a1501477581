"""maildrop/mbox/twins.py: ids of messages that are (header, content) pairs. What files and sessions add: tests/uids."""

import string
from array import array
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from popad.maildrop import uidl
from popad.maildrop.mbox import twins
from popad.maildrop.mbox.twins import MOST, Gone, Memory

Pair = tuple[int, int]

NONE: "array[int]" = array("Q")
ZERO = uidl.NOTHING  # the header of messages that popa3d tells nothing of
few = st.lists(st.tuples(st.sampled_from((1, 2, ZERO)), st.integers(0, 2)), max_size=12)


def numbers_of(messages: list[Pair], known: "array[int]" = NONE, memory: Memory | None = None) -> "array[int]":
    headers = [header for header, _ in messages[len(known) :]]
    return twins.unique_ids(known, headers, lambda index: messages[index][1], memory or Memory(), True)


def without(messages: list[Pair], gone: set[int]) -> list[Pair]:
    return [message for index, message in enumerate(messages) if index not in gone]


@given(few)
def test_ids_are_unique_and_the_first_is_popa3ds(messages: list[Pair]) -> None:
    ids = numbers_of(messages)
    assert len(set(ids)) == len(messages)
    texts = list(map(uidl.text_of, ids))
    assert all(len(text) == 16 and set(text) <= set(string.hexdigits.lower()) for text in texts)
    seen = {ZERO}
    for (header, _), unique_id in zip(messages, ids, strict=True):
        assert (unique_id == header) == (header not in seen)
        seen.add(header)


@given(few)
def test_later_mail_changes_none(messages: list[Pair]) -> None:
    assert numbers_of(messages) == numbers_of(messages)
    assert numbers_of([*messages, (1, 0), (2, 2), (ZERO, 0)])[: len(messages)] == numbers_of(messages)


@given(few, few, st.data())
def test_ids_stay_when_others_go_and_do_not_pass_on(
    messages: list[Pair], later: list[Pair], data: st.DataObject
) -> None:
    """Those that go are known by their ids (somebody has asked), or by where they stood."""
    indexes = st.sets(st.integers(0, len(messages) - 1)) if messages else st.just(set())
    gone = data.draw(indexes)
    memory = Memory()
    before = numbers_of(messages, memory=memory)
    if data.draw(st.booleans()):
        memory.take(before[index] for index in sorted(gone))
    else:
        for index in sorted(gone):
            header, content = messages[index]
            place = index - sum(other < index for other in gone)
            memory.gone.append(Gone(place, header, content if memory.may_have_twins(header) else None))
    left = without(messages, gone)
    ids = numbers_of(left + later, memory=memory)
    assert list(ids[: len(left)]) == [unique_id for index, unique_id in enumerate(before) if index not in gone]
    assert not set(ids[len(left) :]) & set(before)
    assert numbers_of(left + later, memory=memory) == ids


@given(few, st.data())
def test_what_is_known_of_the_first_messages_changes_nothing(messages: list[Pair], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(messages)))
    partly = Memory()
    ids = numbers_of(messages, numbers_of(messages)[:number], partly)
    whole = Memory()
    assert ids == numbers_of(messages, memory=whole)
    assert partly.holders.items() <= whole.holders.items()


def test_another_program_may_remove_the_first_of_those_that_were_listed() -> None:
    memory = Memory()
    _, second = numbers_of([(1, 0), (1, 1)], memory=memory)
    assert memory.holders == {1: 0}
    assert list(numbers_of([(1, 1)], memory=memory)) == [second]
    numbers_of([], memory=memory)
    assert (memory.holders, list(memory.taken)) == ({}, [1])
    assert numbers_of([(1, 2)], memory=memory)[0] != 1


def test_those_gone_behind_the_messages_of_a_session_wait() -> None:
    memory = Memory()
    memory.gone = [Gone(1, 5, None), Gone(3, 7, None)]
    twins.unique_ids(NONE, [1], lambda index: 0, memory, False)
    assert list(memory.taken) == [5]
    assert [gone.header for gone in memory.gone] == [7]


def test_what_is_taken_last_stays() -> None:
    memory = Memory()
    memory.take(range(100, 100 + MOST))
    memory.take([100, 5])
    memory.keep_newest()
    assert list(memory.taken) == [*range(102, 100 + MOST), 100, 5]


def test_what_is_passed_over_stays() -> None:
    """However old it is: else it would be given to the message that passes it over."""
    memory = Memory()
    copies = [(ZERO, 0)] * 3
    first, _, third = numbers_of(copies)
    memory.take(chain([first, 9], range(100, 200 + MOST)))
    ids = numbers_of(copies[:2], memory=memory)
    assert next(iter(memory.taken)) == first
    assert 9 not in memory.taken
    assert ids[1] == third


def test_content_is_asked_for_where_it_counts() -> None:
    asked = []

    def content(index: int) -> int:
        asked.append(index)
        return index

    twins.unique_ids(NONE, [1, 2, 1, 3, 1, ZERO], content, Memory(), True)
    assert asked == [2, 0, 4, 5]


def test_100_000_identical_messages() -> None:
    ids = twins.unique_ids(NONE, [1] * 100_000, lambda index: 0, Memory(), True)
    assert len(set(ids)) == 100_000
    memory = Memory()
    memory.take(ids[:50_000])
    assert numbers_of([(1, 0)] * 50_000, memory=memory) == ids[50_000:]


def test_100_000_twins_of_known_ones() -> None:
    known = array("Q", range(1, 100_001))
    ids = twins.unique_ids(known, range(1, 100_001), lambda index: index, Memory(), True)
    assert len(set(ids)) == 200_000
