"""popad.conf read by popad itself: systemd reads it for the units, but not again when the daemon is to reload it.

One assignment a line, comments, perhaps quotes around a value. What systemd would read in some other way (continued
lines, escapes, quotes within a value, what does not print) is an error here: the same file must not mean two things.
"""

from popad.errors import SettingWrong

CONFIGURATION = "/etc/popad/popad.conf"  # what the units read (EnvironmentFile=)
QUOTES = "'\""
BLANK = " \t"  # what systemd takes for white space, but for the line ends


def configuration(path: str) -> dict[str, str]:
    """The assignments of a file written as popad.conf is; none where there is no file.

    Raises SettingWrong that names a line, OSError and UnicodeDecodeError where the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")
    except FileNotFoundError:
        return {}
    found = {}
    for number, line in enumerate((line.strip(BLANK) for line in lines), 1):
        where = f"{path}:{number}"
        if line.startswith(("#", ";")):
            if line.endswith("\\"):
                raise SettingWrong(where, "a backslash at the end of a comment hides the next line from systemd")
            continue
        name, equals, value = (part.strip(BLANK) for part in line.partition("="))
        if equals:
            if not name:
                raise SettingWrong(where, "no name before the equals sign")
            if "\\" in line:
                raise SettingWrong(where, "a backslash cannot be used")
            if not line.replace("\t", " ").isprintable():
                raise SettingWrong(where, "a character that does not print")
            if len(value) > 1 and value[0] == value[-1] and value[0] in QUOTES:
                value = value[1:-1]
            if any(quote in value for quote in QUOTES):
                raise SettingWrong(where, "a quote that does not stand around the whole value")
            found[name] = value
    return found
