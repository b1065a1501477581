"""Times or sizes, of which two digits are kept: enough for percentiles, and bounded however many there are."""

LARGEST = 10**15  # octets, or microseconds (31 years): what is more is no session of ours


class Distribution:
    """How often each value came, with all but its first two digits rounded up: at most 10 % too much."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.number = 0
        self.total = 0
        self.largest = 0

    def add(self, value: int) -> None:
        """Count one; what cannot be is left out."""
        if not 0 <= value <= LARGEST:
            return
        rounded = two_digits(value)
        self.counts[rounded] = self.counts.get(rounded, 0) + 1
        self.number += 1
        self.total += value
        self.largest = max(self.largest, value)

    def percentile(self, percent: float) -> int:
        """The least value that so many percent do not exceed; 0 where there is none."""
        wanted, seen = self.number * percent / 100, 0
        for value in sorted(self.counts):
            seen += self.counts[value]
            if seen >= wanted:
                return min(value, self.largest)
        return 0

    def up_to(self, bound: int) -> int:
        """How many are not above `bound`: exact where that has two digits and zeros."""
        return sum(count for value, count in self.counts.items() if value <= bound)


def two_digits(value: int) -> int:
    """The number of two digits and zeros that is not below `value`."""
    unit: int = 10 ** max(0, len(str(value)) - 2)
    return -(-value // unit) * unit
