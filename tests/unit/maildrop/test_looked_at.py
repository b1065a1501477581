"""maildrop/looked_at.py: directories that all users share, for who only looks."""

import os
from pathlib import Path

import pytest

from popad.maildrop.looked_at import SeenDirectory
from popad.maildrop.private import ForeignFile, SharedDirectory
from tests.support.marks import needs_root
from tests.support.trees import tree


def test_the_same_names_as_a_sessions(tmp_path: Path) -> None:
    files = SharedDirectory(str(tmp_path)).files_of("/var/mail/jane")
    seen = SeenDirectory(str(tmp_path)).files_of("/var/mail/jane")
    assert (seen.names, seen.spare, seen.list) == (files.names, files.spare, files.list)
    assert seen.kept_name(seen.names[0]) == f"{seen.names[0]}.kept1"
    (tmp_path / seen.kept_name(seen.names[0])).touch()
    assert seen.kept_name(seen.names[0]) == f"{seen.names[0]}.kept2"


def test_no_key_is_made(tmp_path: Path) -> None:
    """A directory that no session has used yet: nothing is in it, and nothing is made."""
    before = tree(tmp_path)
    files = SeenDirectory(str(tmp_path)).files_of("/var/mail/jane")
    assert not files.directory.has(files.names[0])
    assert SeenDirectory(str(tmp_path)).files_of("/var/mail/jane").names != files.names  # which nobody can take
    with pytest.raises(FileNotFoundError):
        files.open(files.names[0])
    assert tree(tmp_path) == before


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SeenDirectory(str(tmp_path / "none"))


@needs_root
def test_a_key_that_a_user_has_put_there(tmp_path: Path) -> None:
    """A session of root would replace it."""
    (tmp_path / ".key").write_bytes(bytes(32))
    os.chown(tmp_path / ".key", 65534, 65534)
    before = tree(tmp_path)
    assert SeenDirectory(str(tmp_path)).key != bytes(32)
    assert tree(tmp_path) == before


def test_files_are_opened_to_be_read(tmp_path: Path) -> None:
    SharedDirectory(str(tmp_path)).close()
    seen = SeenDirectory(str(tmp_path)).files_of("/var/mail/jane")
    path = tmp_path / seen.names[0]
    path.write_bytes(b"x")
    path.chmod(0o600)
    fd = seen.open(seen.names[0])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(fd, b"y")
    os.close(fd)
    path.chmod(0o640)
    with pytest.raises(ForeignFile, match="others may read or write"):
        seen.open(seen.names[0])
