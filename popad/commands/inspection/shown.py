"""What was found of a maildrop, as it comes: lines for people, or one object of JSON. Nothing of a list is kept."""

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Row = Mapping[str, int | str]

from popad.commands.report.shown import count as grouped
from popad.commands.report.shown import cut, plain

NAME_WIDTH = 15
HEADINGS = {
    "locks": "locks, as they were at the first look",
    "messages": "messages",
    "text_lines": "lines that begin with `From ` and are text",
    "twins": "messages that popa3d's id does not tell apart",
    "renamed": "files with the name of an older message, to which the next session gives one of their own",
    "others": "files that are no messages",
}
ALWAYS = ("messages", "text_lines")  # also where they have no row


class Findings:
    """What both have in common: whether all is well."""

    def __init__(self) -> None:
        self.problems = 0
        self.is_served = False

    def end(self) -> int:
        """The exit status."""
        return 0 if self.is_served and not self.problems else 1


class AsText(Findings):
    """Lines; a list under its heading."""

    def __init__(self) -> None:
        super().__init__()
        self.list = ""
        self.rows = 0

    def begin(self, maildrop: str, user: str) -> None:
        print(f"{plain(maildrop)}, of {plain(user)}")

    def fact(self, name: str, text: str) -> None:
        print(f"  {name:{NAME_WIDTH}} {plain(text)}")

    def count(self, name: str, number: int) -> None:
        self.fact(name, grouped(number))

    def note(self, text: str) -> None:
        print(f"note: {plain(text)}")

    def wrong(self, text: str) -> None:
        self.problems += 1
        print(f"wrong: {plain(text)}")

    def row(self, name: str, row: "Row") -> None:
        if name != self.list:
            self.list, self.rows = name, 0
            print(f"{HEADINGS[name]}:")
        self.rows += 1
        print(f"  {line_of(name, row)}")

    def listed(self, name: str, number: int) -> None:
        shown = self.rows if name == self.list else 0
        self.list = ""
        if not number and name in ALWAYS:
            print(f"{HEADINGS[name]}: none")
        elif number > shown:
            print(f"  … {grouped(number - shown)} more (--all)")

    def verdict(self, code: str, reason: str) -> None:
        self.is_served = not reason
        print(f"refused: [{plain(code)}] {plain(reason)}" if reason else "served: a session lists this")


def line_of(name: str, row: "Row") -> str:
    """A row of a list."""
    cells = {column: cut(value, 120) if isinstance(value, str) else value for column, value in row.items()}
    if name == "locks":
        waits = "a session waits for it" if row["bars"] else "a session does not wait for it"
        return f"{cells['kind']}: {cells['says']}; {waits}"
    if name == "messages":
        place = f" at {row['offset']:>11}" if "/" not in str(row["line"])[:4] else ""
        return f"{row['number']:>6} {row['octets']:>10} octets  {cells['id']}{place}  {cells['line']}"
    if name == "text_lines":
        return f"at {row['offset']:>11}  {cells['line']!s}  ({cells['why']})"
    if name == "twins":
        return f"{row['number']:>6} has {cells['id']}; popa3d's {cells['digest']} is first that of {row['first']}"
    if name == "renamed":
        return f"{row['number']:>6} has {cells['id']}: {cells['name']}"
    return f"{cells['name']}: {cells['why']}"


class AsJson(Findings):
    """One object, written as it comes; what is not a list is at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: dict[str, int | str] = {}
        self.notes: list[str] = []
        self.wrongs: list[str] = []
        self.numbers: dict[str, int] = {}
        self.is_open = False

    def begin(self, maildrop: str, user: str) -> None:
        print(json.dumps({"maildrop": maildrop, "user": user})[:-1], end="")

    def fact(self, name: str, text: str) -> None:
        self.facts[name.replace(" ", "_")] = text

    def count(self, name: str, number: int) -> None:
        self.facts[name.replace(" ", "_")] = number

    def note(self, text: str) -> None:
        self.notes.append(text)

    def wrong(self, text: str) -> None:
        self.problems += 1
        self.wrongs.append(text)

    def row(self, name: str, row: "Row") -> None:
        print(f',\n"{name}": [' if not self.is_open else ",", end="\n ")
        self.is_open = True
        print(json.dumps(row), end="")

    def listed(self, name: str, number: int) -> None:
        print("]" if self.is_open else f',\n"{name}": []', end="")
        self.is_open = False
        self.numbers[name] = number

    def verdict(self, code: str, reason: str) -> None:
        self.is_served = not reason
        rest = {
            "facts": self.facts,
            "in_all": self.numbers,
            "notes": self.notes,
            "wrong": self.wrongs,
            "served": self.is_served,
            "code": code or None,
            "reason": reason or None,
        }
        print(f",\n{json.dumps(rest)[1:]}")
