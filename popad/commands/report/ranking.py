"""Names and what each amounts to, in bounded memory: anybody who connects can make up names and addresses."""

KEPT = 2000  # rows that stay when there are twice as many; a report shows the first of them
NAME = 200  # characters of a name: more than any user, address or mailbox of a real host has


class Ranking:
    """Rows by name, the first amount of each deciding its rank.

    Where there are too many rows, those with the least are forgotten. What a row has lost by that is at most
    `forgotten`: 0 where nothing was.
    """

    def __init__(self) -> None:
        self.rows: dict[str, list[int]] = {}
        self.forgotten = 0
        self.has_forgotten = False

    def add(self, name: str, *amounts: int) -> None:
        """Add to a row. All calls for one ranking have the same number of amounts."""
        name = name if len(name) <= NAME else name[: NAME - 1] + "…"
        row = self.rows.get(name)
        if row is not None:
            row[:] = self.sums(row, amounts)
            return
        if len(self.rows) >= 2 * KEPT:
            self.forget()
        self.rows[name] = [*amounts]

    def sums(self, row: list[int], amounts: tuple[int, ...]) -> list[int]:
        """What a row is with more."""
        return [old + new for old, new in zip(row, amounts, strict=True)]

    def forget(self) -> None:
        """Keep the rows with the most."""
        ranked = sorted(self.rows.items(), key=lambda item: item[1][0], reverse=True)
        self.forgotten = self.lost(ranked[KEPT][1][0])
        self.has_forgotten = True
        self.rows = dict(ranked[:KEPT])

    def lost(self, most: int) -> int:
        """What a row may have lost by now, when one with `most` is forgotten."""
        return self.forgotten + most

    def first(self, number: int) -> list[tuple[str, list[int]]]:
        """So many rows, those with the most first; equal ones by name."""
        return sorted(self.rows.items(), key=lambda item: (-item[1][0], item[0]))[:number]


class Longest(Ranking):
    """A ranking by the largest of the first amounts; the others are sums."""

    def sums(self, row: list[int], amounts: tuple[int, ...]) -> list[int]:
        """What a row is with more."""
        return [max(row[0], amounts[0]), *super().sums(row, amounts)[1:]]

    def lost(self, most: int) -> int:
        """What the largest of a row that was forgotten is at most."""
        return max(self.forgotten, most)
