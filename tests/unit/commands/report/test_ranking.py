"""commands/report/ranking.py: names that anybody can make up."""

from hypothesis import given
from hypothesis import strategies as st

from popad.commands.report.ranking import KEPT, NAME, Longest, Ranking


def test_those_with_the_most_come_first() -> None:
    ranking = Ranking()
    for name, amount in (("b", 1), ("a", 1), ("c", 5), ("b", 2)):
        ranking.add(name, amount, 1)
    assert ranking.first(2) == [("c", [5, 1]), ("b", [3, 2])]
    assert not ranking.has_forgotten


def test_a_flood_of_names_does_not_hide_who_has_many() -> None:
    ranking = Ranking()
    for number in range(20 * KEPT):
        ranking.add(f"made up {number}", 1)
        if number % 100 == 0:
            ranking.add("real", 1)
    assert len(ranking.rows) <= 2 * KEPT
    (name, [count]), *_ = ranking.first(1)
    assert name == "real"
    assert count <= 20 * KEPT // 100 <= count + ranking.forgotten


@given(st.lists(st.integers(0, 8 * KEPT), max_size=20).map(lambda seeds: [seed * 7919 for seed in seeds]))
def test_no_row_lacks_more_than_is_told(seeds: list[int]) -> None:
    ranking, real = Ranking(), dict[str, int]()
    for seed in seeds:
        for number in range(KEPT // 2):
            name = str((seed + number * number) % (5 * KEPT))
            ranking.add(name, 1)
            real[name] = real.get(name, 0) + 1
    for name, count in real.items():
        shown = ranking.rows.get(name, [0])[0]
        assert shown <= count <= shown + ranking.forgotten


def test_a_long_name_is_cut() -> None:
    ranking = Ranking()
    ranking.add("x" * 70_000, 1)
    ((name, _),) = ranking.first(1)
    assert len(name) == NAME


def test_the_longest_counts() -> None:
    slow = Longest()
    for name, took in (("a", 5), ("a", 9), ("a", 1), ("b", 7)):
        slow.add(name, took, took, 1)
    assert slow.first(9) == [("a", [9, 15, 3]), ("b", [7, 7, 1])]
    for number in range(2 * KEPT):
        slow.add(str(number), 8, 8, 1)
    assert slow.first(1) == [("a", [9, 15, 3])]
    assert slow.forgotten == 8
