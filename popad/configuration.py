"""popad.conf read by popad itself: systemd reads it for the units, but not again when the daemon is to reload it.

One assignment a line, comments, perhaps quotes around a value. What systemd would read in some other way (continued
lines, escapes, quotes within a value, what does not print) is an error here: the same file must not mean two things.
"""

from popad.errors import SettingWrong

CONFIGURATION = "/etc/popad/popad.conf"  # what the units read (EnvironmentFile=)
QUOTES = "'\""
COMMENT = ("#", ";")
BLANK = " \t"  # what systemd takes for white space, but for the line ends


def configuration(path: str) -> dict[str, str]:
    """The assignments of a file written as popad.conf is; none where there is no file.

    Raises SettingWrong that names a line, OSError and UnicodeDecodeError where the file cannot be read.
    """
    found = {}
    for number, line in enumerate(lines_of(path), 1):
        try:
            if assigned := assignment(line):
                found[assigned[0]] = assigned[1]
        except ValueError as wrong:
            raise SettingWrong(f"{path}:{number}", str(wrong)) from None
    return found


def lines_of(path: str) -> list[str]:
    """The lines of the file; none where there is no file. Raises OSError and UnicodeDecodeError."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().split("\n")
    except FileNotFoundError:
        return []


def assignment(line: str) -> tuple[str, str] | None:
    """A line's name and value, if it is an assignment; systemd says nothing of a line that is none, either.

    Raises ValueError for what systemd would read in some other way.
    """
    line = line.strip(BLANK)
    if line.startswith(COMMENT):
        if line.endswith("\\"):
            raise ValueError("a backslash at the end of a comment hides the next line from systemd")
        return None
    name, equals, value = (part.strip(BLANK) for part in line.partition("="))
    if not equals:
        return None
    if not name:
        raise ValueError("no name before the equals sign")
    if "\\" in line:
        raise ValueError("a backslash cannot be used")
    if not line.replace("\t", " ").isprintable():
        raise ValueError("a character that does not print")
    if len(value) > 1 and value[0] == value[-1] and value[0] in QUOTES:
        value = value[1:-1]
    if any(quote in value for quote in QUOTES):
        raise ValueError("a quote that does not stand around the whole value")
    return name, value
