"""popad.conf line by line, for `popad check`: each line that is wrong, and each that does nothing."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

from popad.configuration import BLANK, COMMENT, assignment, lines_of
from popad.settings import PREFIX, TABLE, is_unknown


class SettingsFile:
    """What the file assigns, where, and what is wrong with its lines."""

    def __init__(self, path: str) -> None:
        """Nothing where there is no file."""
        self.path = path
        self.values: dict[str, str] = {}
        self.places: dict[str, int] = {}  # the line that counts
        self.wrong: list[str] = []
        try:
            lines = lines_of(path)
        except (OSError, UnicodeDecodeError) as error:
            self.wrong.append(f"{path}: {error}")
            return
        for number, line in enumerate(lines, 1):
            self.wrong += [f"{path}:{number}: {complaint}" for complaint in self.take(number, line)]

    def take(self, number: int, line: str) -> "Iterator[str]":
        """One line. What is wrong with it."""
        try:
            assigned = assignment(line)
        except ValueError as wrong:
            yield str(wrong)
            return
        stripped = line.strip(BLANK)
        if not assigned:
            if stripped and not stripped.startswith(COMMENT):
                yield f"{stripped[:40]!a} is no assignment, and does nothing"
            return
        name, value = assigned
        if not name.startswith(PREFIX):
            yield f"{name[:40]!a} is no setting of popad, and does nothing{meant(name)}"
            return
        if name in self.places:
            yield f"{name} stands in line {self.places[name]} as well, and this line counts"
        self.values[name] = value
        self.places[name] = number

    def where(self, name: str) -> str:
        """PATH:LINE of the assignment that counts."""
        return f"{self.path}:{self.places[name]}"


def meant(name: str) -> str:
    """The setting that somebody had in mind, if it can be told, as a question."""
    candidate = name.upper()
    for guess in (candidate, PREFIX + candidate):
        if guess in TABLE:
            return f" ({guess}?)"
    return ""


def nearest(name: str) -> str:
    """The setting whose name is most like an unknown one, as a question; "" where none is."""
    import difflib

    close = difflib.get_close_matches(name, TABLE, 1, 0.8) if is_unknown(name) else []
    return f" ({close[0]}?)" if close else ""
