"""popad.conf read by popad itself: systemd reads it for the units, but not again when the daemon is to reload it.

One assignment a line, comments, perhaps quotes around a value. What systemd would read in some other way (continued
lines, escapes) is an error here: the same file must not mean two things.
"""

from popad.errors import SettingWrong

CONFIGURATION = "/etc/popad/popad.conf"  # what the units read (EnvironmentFile=)
QUOTES = "'\""


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
    for number, line in enumerate(map(str.strip, lines), 1):
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            if "\\" in line:
                raise SettingWrong(f"{path}:{number}", "a backslash cannot be used")
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in QUOTES:
                value = value[1:-1]
            found[name.strip()] = value
    return found
