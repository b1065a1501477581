"""maildrop/maildrop.py: marks and sums against a model, on a store that only keeps what it is asked."""

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.maildrop import maildrop
from popad.maildrop.maildrop import Maildrop


class Store(maildrop.Store):
    """Messages that are their sizes; remembers what is removed and how often ids are made."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes: Sequence[int] = sizes
        self.removed: list[bytes] = []
        self.ids_made = 0
        self.finished = False

    def content(self, index: int) -> Iterator[bytes]:
        yield b"%d" % index

    def prefetch(self, index: int) -> bytes:
        return b"%d" % index

    def still_valid(self) -> bool:
        return True

    def unique_ids(self) -> list[str]:
        self.ids_made += 1
        return ["d98c1dd404b2008f", "~", *(str(number) for number in range(2, len(self.sizes)))]

    def finish(self, wait: bool) -> None:
        self.finished = wait

    def remove(self, marks: bytearray) -> None:
        self.removed.append(bytes(marks))


sizes = st.lists(st.integers(1, 10**12), max_size=8)


@given(sizes, st.lists(st.integers(0, 8), max_size=20))
def test_marks_and_sums(sizes: list[int], steps: list[int]) -> None:
    """A step is a number to mark, or 0 for RSET."""
    drop = Maildrop(Store(sizes))
    marked: set[int] = set()
    for number in steps:
        if number == 0:
            drop.unmark_all()
            marked.clear()
        elif number <= len(sizes) and number not in marked:
            drop.mark_deleted(number)
            marked.add(number)
        left = [number for number in range(1, len(sizes) + 1) if number not in marked]
        assert list(drop.listed()) == left
        assert [number for number in range(1, len(sizes) + 1) if drop.present(number)] == left
        assert (drop.messages, drop.remaining, drop.deleted) == (len(sizes), len(left), len(marked))
        assert drop.remaining_octets == sum(sizes[number - 1] for number in left)
    assert drop.octets_in_all == sum(sizes)


def test_numbers_begin_at_one() -> None:
    drop = Maildrop(Store([10, 20]))
    assert [drop.octets(1), drop.octets(2)] == [10, 20]
    assert list(drop.content(1)) == [b"0"]
    assert drop.unique_id(2) == "~"


def test_ids_are_made_when_asked_for_and_once() -> None:
    store = Store([10, 20])
    drop = Maildrop(store)
    assert store.ids_made == 0
    assert [drop.unique_id(1), drop.unique_id(2)] == ["d98c1dd404b2008f", "~"]
    assert store.ids_made == 1


def test_what_the_store_has_to_say_of_its_ids_is_passed_on() -> None:
    class Troubled(Store):
        @property
        def trouble(self) -> str:
            return "a full disk"

    assert Maildrop(Troubled([10])).trouble == "a full disk"


def test_update_without_marks_does_not_touch_the_store() -> None:
    store = Store([10, 20])
    drop = Maildrop(store)
    drop.update()
    drop.mark_deleted(1)
    drop.unmark_all()
    drop.update()
    assert store.removed == []


def test_update_removes_what_is_marked() -> None:
    store = Store([10, 20, 30])
    drop = Maildrop(store)
    drop.mark_deleted(3)
    drop.mark_deleted(1)
    drop.update()
    assert store.removed == [b"\1\0\1"]


def test_what_only_some_stores_need_has_defaults() -> None:
    store = maildrop.Store()
    assert store.prefetch(0) == b""
    assert not store.still_valid()
    assert store.trouble == ""
    assert store.recovery is None
    store.finish(wait=True)  # nothing to do
    for missing in (lambda: store.content(0), store.unique_ids, lambda: store.remove(bytearray(1))):
        with pytest.raises(NotImplementedError):
            missing()
