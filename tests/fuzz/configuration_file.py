"""What popad.conf says to popad is what it says to systemd, or an error; and what is read are settings, or the name of
the one that is wrong.
"""

import os
from pathlib import Path

from popad.configuration import configuration
from popad.errors import SettingWrong
from popad.settings import PREFIX, TABLE, Settings
from tests.fuzz.cutting import Octets

NAMES = sorted(TABLE)
NEWLINE, BLANK = "\n\r", " \t\n\r"
FILE = f"/proc/self/fd/{os.memfd_create('popad-fuzz')}"


def systemd(text: str) -> dict[str, str]:
    """parse_env_file_internal() of systemd's src/basic/env-file.c, state by state. A value has no backslash here."""
    found: dict[str, str] = {}
    state, key, value, keep = "before key", "", "", 0
    for mark in [*text, "\n"]:
        if state == "before key":
            if mark in "#;":
                state = "comment"
            elif mark not in BLANK:
                state, key = "key", mark
        elif state == "comment":
            if mark in NEWLINE:
                state = "before key"
            elif mark == "\\":
                state = "comment, escape"
        elif state == "comment, escape":
            state = "comment"
        elif state == "key":
            if mark in NEWLINE:
                state = "before key"
            elif mark == "=":
                state, value, keep = "before value", "", 0
            else:
                key += mark
        elif state in ("'", '"'):
            if mark == state:
                state = "before value"
            else:
                value += mark
        elif mark in NEWLINE:
            found[key.rstrip(BLANK)] = value[:keep] if state == "value" and keep else value
            state = "before key"
        elif state == "before value" and mark in "'\"":
            state = mark
        elif state == "before value" and mark in BLANK:
            pass
        else:
            value += mark
            keep = len(value) if mark not in BLANK else keep
            state = "value"
    if state in ("'", '"'):
        found[key.rstrip(BLANK)] = value[:-1]
    return found


def try_one(data: bytes) -> None:
    octets = Octets(data)
    text = octets.rest().decode("utf-8", "ignore")
    for number, name in enumerate(NAMES):
        text = text.replace(chr(0x100 + number), f"{name}=")  # two octets of the input each
    Path(FILE).write_bytes(text.encode("utf-8"))
    try:
        found = configuration(FILE)
    except SettingWrong as wrong:
        assert str(wrong).startswith(FILE)
        return
    assert found == systemd(text)
    try:
        Settings(found)
    except SettingWrong as wrong:
        assert wrong.name.startswith(PREFIX)
        return
    assert not any("\0" in value for name, value in found.items() if name in TABLE)
