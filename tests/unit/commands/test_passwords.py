"""commands/passwords.py: lines of NAME:PASSWORD, and that they can be forgotten."""

import io
from pathlib import Path

import pytest

from popad.auth.credentials import FileWrong
from popad.commands import passwords
from popad.commands.passwords import Passwords


def test_lines() -> None:
    known = Passwords("alice:a:b c \r\n\nbob:\njörg:ß\n".encode())
    assert [known.of(name) for name in ("alice", "bob", "jörg", "carol")] == [b"a:b c ", b"", "ß".encode(), None]
    known = Passwords(b"*:masters\nbob:own")
    assert [known.of(name) for name in ("alice", "bob")] == [b"masters", b"own"]


@pytest.mark.parametrize("text", [b"alice\n", b":x\n", b"a:1\nb:2\na:3\n", b"\xff:x\n"])
def test_what_is_no_such_line(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"line [13]: "):
        Passwords(text)


def test_they_are_forgotten() -> None:
    known = Passwords(b"alice:secret\n")
    known.forget()
    assert b"secret" not in known.text
    assert known.of("alice") == bytes(6)


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
