"""maildrop/conversion/ids.py: lists for maildrops that were converted."""

from popad.maildrop.conversion.ids import merged, of_gone
from popad.maildrop.id_list import Replaced


def test_what_is_shown_is_what_clients_know() -> None:
    own, shown = ["a", "b", "c"], ["b", "2", "c"]
    given = merged(own, shown)
    assert given == {"a": "b", "b": "2"}
    assert [Replaced(own, given)[index] for index in range(3)] == shown


def test_earlier_lists() -> None:
    """They add what is gone, and change nothing of what is there: not even where both ids are one."""
    own, shown = ["a", "b"], ["a", "2"]
    given = merged(own, shown, {"gone": "3", "a": "4", "other": "2"}, {"gone": "5", "more": "6", "less": "3"})
    assert [Replaced(own, given)[index] for index in range(2)] == shown
    assert {"3", "6"} <= set(given.values())
    assert "2" not in {said for one, said in given.items() if one != "b"}


def test_what_is_gone() -> None:
    """Each id once, whoever remembers it."""
    there, gone, both = (f"{number:016x}" for number in (7, 8, 9))
    given = {"a": "1", "b": "2", "c": both}
    assert of_gone(["1", there], given, [7, 8, 9]) == {"b": "2", "c": both, f"gone-{gone}": gone}
