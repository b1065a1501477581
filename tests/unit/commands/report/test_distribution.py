"""commands/report/distribution.py: two digits of each value."""

from hypothesis import given
from hypothesis import strategies as st

from popad.commands.report.distribution import LARGEST, Distribution, two_digits

values = st.integers(0, LARGEST)


@given(values)
def test_two_digits_are_kept_rounded_up(value: int) -> None:
    rounded = two_digits(value)
    assert value <= rounded <= value * 1.1
    assert rounded == 0 or set(str(rounded)[2:]) <= {"0"}


@given(st.lists(values, min_size=1), st.sampled_from([1, 50, 90, 99, 100]))
def test_a_percentile_is_hardly_above_the_real_one(given: list[int], percent: int) -> None:
    found = Distribution()
    for value in given:
        found.add(value)
    real = sorted(given)[-(-len(given) * percent // 100) - 1]
    assert real <= found.percentile(percent) <= real * 1.1
    assert (found.number, found.total, found.largest) == (len(given), sum(given), max(given))


@given(st.lists(values), st.sampled_from([0, 5, 25, 1000, 250_000, 10**9]))
def test_what_is_not_above_a_round_number_is_exact(given: list[int], bound: int) -> None:
    found = Distribution()
    for value in given:
        found.add(value)
    assert found.up_to(bound) == sum(value <= bound for value in given)


def test_the_memory_is_bounded() -> None:
    found = Distribution()
    for value in range(0, LARGEST, LARGEST // 50_000):
        found.add(value)
    assert len(found.counts) < 100 * 15


def test_what_cannot_be_is_left_out() -> None:
    found = Distribution()
    for value in (-1, LARGEST + 1):
        found.add(value)
    assert found.number == 0
    assert found.percentile(50) == 0
