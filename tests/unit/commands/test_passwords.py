"""commands/passwords.py: lines of NAME:PASSWORD, and that they can be forgotten."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from popad.auth.credentials import FileWrong
from popad.commands import passwords
from popad.commands.passwords import Passwords
from tests.support.here import CHECKOUT


def test_lines() -> None:
    known = Passwords(bytearray("alice:a:b c \r\n\nbob:\njörg:ß\n".encode()))
    assert [known.of(name) for name in ("alice", "bob", "jörg", "carol")] == [b"a:b c ", b"", "ß".encode(), None]
    known = Passwords(bytearray(b"*:masters\nbob:own"))
    assert [known.of(name) for name in ("alice", "bob")] == [b"masters", b"own"]


@pytest.mark.parametrize("text", [b"alice\n", b":x\n", b"a:1\nb:2\na:3\n", b"\xff:x\n"])
def test_what_is_no_such_line(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"line [13]: "):
        Passwords(bytearray(text))


def test_they_are_forgotten() -> None:
    known = Passwords(bytearray(b"alice:secret\n"))
    known.forget()
    assert b"secret" not in known.text
    assert known.of("alice") == bytes(6)


LEFT_IN_MEMORY = r"""
import os, re, sys
from popad.commands import passwords

passwords.read(sys.argv[1] if len(sys.argv) > 1 else None).forget()
found = set()
for line in open("/proc/self/maps"):
    begin, end = (int(each, 16) for each in line.split()[0].split("-"))
    if line.split()[1].startswith("rw"):
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            found |= {*re.findall(rb"secret-[0-9]{5}", os.pread(memory.fileno(), end - begin, begin))}
print(len(found))
"""


@pytest.mark.parametrize("is_typed", [False, True])
def test_no_copy_is_left_in_memory(tmp_path: Path, is_typed: bool) -> None:
    """That of a child would have it, and is a user's."""
    file = tmp_path / "passwords"
    file.write_text("".join(f"user{number}:secret-{number:05}\n" for number in range(1000)))
    file.chmod(0o600)
    with open(file) as typed:
        command = [sys.executable, "-c", LEFT_IN_MEMORY, *([] if is_typed else [str(file)])]
        said = subprocess.check_output(command, cwd=CHECKOUT, stdin=typed)
    assert said == b"0\n"


def test_where_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "passwords"
    file.write_text("alice:secret\n")
    file.chmod(0o644)
    with pytest.raises(FileWrong, match="others may read"):
        passwords.read(str(file))
    file.chmod(0o600)
    assert passwords.read(str(file)).of("alice") == b"secret"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"bob:other\n")))
    assert passwords.read(None).of("bob") == b"other"
    monkeypatch.setattr(passwords, "LARGEST", 4)
    with pytest.raises(ValueError, match="more than 4 octets"):
        passwords.read(str(file))
