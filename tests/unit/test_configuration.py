"""configuration.py: popad.conf, as the daemon reads it."""

from pathlib import Path

import pytest

from popad.configuration import configuration
from popad.errors import SettingWrong
from popad.settings import TABLE, Settings
from tests.support.here import CHECKOUT


def read(path: Path, text: str | bytes) -> dict[str, str]:
    (path / "popad.conf").write_bytes(text.encode() if isinstance(text, str) else text)
    return configuration(str(path / "popad.conf"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# A=1\n; B=2\n\n   \n", {}),
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("A=\n", {"A": ""}),
        ("A=x=y\n", {"A": "x=y"}),
        ("  A=1  \r\n", {"A": "1"}),
        ("A='one two'\nB=\"three\"\n", {"A": "one two", "B": "three"}),
        ("A=one two # three\n", {"A": "one two # three"}),
        ("A\t=\tone\ttwo\t\n", {"A": "one\ttwo"}),
        ("# a \\ in the middle\nno assignment \\\nA=''\n", {"A": ""}),
        ("A=mbox:{home}/m\u00e4il\n", {"A": "mbox:{home}/m\u00e4il"}),
    ],
)
def test_read(tmp_path: Path, text: str, expected: dict[str, str]) -> None:
    assert read(tmp_path, text) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=one \\\ntwo\n", 1),
        ("A=1\nB=one\\ttwo\n", 2),
        ("# one \\\nA=1\n", 1),
        ("=1\n", 1),
        ("A='one\ntwo'\n", 1),
        ("A=one'two'\n", 1),
        ('A="one" "two"\n', 1),
        ("A='\n", 1),
        ("A=1\0\n", 1),
        ("A=1\u00a0\n", 1),
        ("\u2003A=1\n", 1),
        ("\x0b#A=1\n", 1),
    ],
)
def test_what_systemd_would_read_otherwise_is_an_error(tmp_path: Path, text: str, line: int) -> None:
    with pytest.raises(SettingWrong) as wrong:
        read(tmp_path, text)
    assert wrong.value.name == f"{tmp_path}/popad.conf:{line}"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert configuration(str(tmp_path / "popad.conf")) == {}


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        configuration(str(tmp_path))
    with pytest.raises(UnicodeDecodeError):
        read(tmp_path, b"A=\xff\n")


def test_the_file_that_is_shipped() -> None:
    """All of it is comments, and what they show is what they say it is: the defaults."""
    text = (CHECKOUT / "packaging/popad.conf").read_text()
    assert configuration(str(CHECKOUT / "packaging/popad.conf")) == {}
    shown = dict(line[1:].split("=", 1) for line in text.splitlines() if line.startswith("#POPAD_"))
    assert shown
    for name, value in shown.items():
        assert value == TABLE[name].default, name
    Settings(shown)
