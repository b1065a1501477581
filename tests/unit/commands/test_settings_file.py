"""commands/settings_file.py: each line of popad.conf that is wrong, or does nothing."""

from pathlib import Path

import pytest

from popad.commands.settings_file import SettingsFile, nearest


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("", []),
        ("# POPAD_TIMEOUT=5\n; more\n\n  \nPOPAD_TIMEOUT = 700\n", []),
        ("popad_timeout=600\n", ["1: 'popad_timeout' is no setting of popad, and does nothing (POPAD_TIMEOUT?)"]),
        ("MAILDROP=x\n", ["1: 'MAILDROP' is no setting of popad, and does nothing (POPAD_MAILDROP?)"]),
        ("HOME=/\n", ["1: 'HOME' is no setting of popad, and does nothing"]),
        ("no such thing\n", ["1: 'no such thing' is no assignment, and does nothing"]),
        ("POPAD_TIMEOUT\n", ["1: 'POPAD_TIMEOUT' is no assignment, and does nothing"]),
        ("POPAD_TIMEOUT=5\n\nPOPAD_TIMEOUT=6\n", ["3: POPAD_TIMEOUT stands in line 1 as well, and this line counts"]),
        ("=5\n", ["1: no name before the equals sign"]),
        ("POPAD_USER=a\\\n", ["1: a backslash cannot be used"]),
        ("# to be continued \\\nPOPAD_TIMEOUT=5\n", ["1: a backslash at the end of a comment hides the next line"]),
        ("POPAD_USER='a'b\n", ["1: a quote that does not stand around the whole value"]),
        ("POPAD_USER=a\x07b\n", ["1: a character that does not print"]),
        ("x\ny=1\n", ["1: 'x' is no", "2: 'y' is no"]),
    ],
)
def test_lines(tmp_path: Path, text: str, complaints: list[str]) -> None:
    path = tmp_path / "popad.conf"
    path.write_text(text)
    found = SettingsFile(str(path)).wrong
    assert len(found) == len(complaints), found
    for said, start in zip(found, complaints, strict=True):
        assert said.startswith(f"{path}:{start}"), said


def test_the_last_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "popad.conf"
    path.write_text("POPAD_TIMEOUT=5\nPOPAD_TIMEOUT='6'\n")
    file = SettingsFile(str(path))
    assert (file.values, file.where("POPAD_TIMEOUT")) == ({"POPAD_TIMEOUT": "6"}, f"{path}:2")


def test_no_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "popad.conf"
    assert SettingsFile(str(path)).wrong == []
    path.write_bytes(b"POPAD_USER=\xff\n")
    (complaint,) = SettingsFile(str(path)).wrong
    assert "can't decode byte 0xff" in complaint


@pytest.mark.parametrize(
    ("name", "guess"), [("POPAD_TIMEOT", " (POPAD_TIMEOUT?)"), ("POPAD_TIMEOUT", ""), ("POPAD_XYZ", ""), ("HOME", "")]
)
def test_the_setting_that_was_meant(name: str, guess: str) -> None:
    assert nearest(name) == guess
