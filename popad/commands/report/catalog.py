"""What each entry means and what to do, as the journal's catalog has it (journalctl -x)."""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

CATALOG = "/usr/lib/systemd/catalog/popad.catalog"
ENTRY = re.compile(r"^-- ([0-9a-f]{32})\nSubject: (.*)\n(?:.+\n)*\n((?:(?!-- [0-9a-f]{32}).*\n?)*)", re.M)
FIELD = re.compile(r"@POPAD_(\w+)@")
SHOWN = 300  # characters of a field in a text


def read(path: str = CATALOG) -> dict[str, tuple[str, str]]:
    """Subject and text by MESSAGE_ID; nothing where the file is not there."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, ValueError):
        return {}
    return {found[1]: (found[2], found[3].strip()) for found in ENTRY.finditer(text)}


def filled(text: str, fields: "Mapping[str, str]") -> str:
    """The text with the fields of an entry in it; one that the entry has not is unknown."""
    return FIELD.sub(lambda found: fields.get(found[1].lower(), "unknown")[:SHOWN], text)
