"""commands/credentials_file.py: what stays as it was when one line changes, and what is not changed at all."""

import errno
import os
import threading
from pathlib import Path

import pytest

from popad.auth.credentials import FileWrong
from popad.commands import credentials_file
from popad.commands.credentials_file import ADDED, DELETED, REPLACED, change, with_line
from tests.support.marks import needs_root

OLD = "# of the office\n\njane X mbox:/srv/jane\n  john   Y\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "credentials"
    path.write_text(OLD)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("text", "line", "becomes", "what"),
    [
        (OLD, "jane Z", OLD.replace("jane X", "jane Z"), REPLACED),
        (OLD, "amy Z", OLD + "amy Z\n", ADDED),
        (OLD.rstrip("\n"), "amy Z", OLD + "amy Z\n", ADDED),
        ("", "amy Z", "amy Z\n", ADDED),
        (OLD, None, OLD.replace("jane X mbox:/srv/jane\n", ""), DELETED),
        ("amy X\n", None, "amy X\n", ""),
        ("#jane X\n", "jane Z", "#jane X\njane Z\n", ADDED),
        ("jane X\njohn Y\njane W\n", "jane Z", "jane Z\njohn Y\n", REPLACED),
        ("jane X\njohn Y\njane W\n", None, "john Y\n", DELETED),
        ("a\u2028jane X\njane X\n", "jane Z", "a\u2028jane X\njane Z\n", REPLACED),
        ("jane\n", "jane Z", "jane Z\n", REPLACED),
    ],
)
def test_one_line_changes(text: str, line: str | None, becomes: str, what: str) -> None:
    name = line.split()[0] if line else "jane"
    assert with_line(text, name, line) == (becomes, what)


def test_the_mode_stays_and_nothing_is_left_behind(file: Path) -> None:
    file.chmod(0o400)
    assert change(str(file), {"jane": "jane Z"}) == {"jane": REPLACED}
    assert file.stat().st_mode & 0o7777 == 0o400
    assert os.listdir(file.parent) == [file.name]


@needs_root
def test_the_owner_stays(file: Path) -> None:
    os.chown(file, 0, 12)
    change(str(file), {"jane": "jane Z"})
    assert (file.stat().st_uid, file.stat().st_gid) == (0, 12)


def test_a_new_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert change(str(tmp_path / "new"), {"jane": "jane Z"}) == {"jane": ADDED}
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o7777 == 0o600


def test_to_delete_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        change(str(tmp_path / "new"), {"jane": None})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_file_that_others_may_read_is_not_changed(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(FileWrong, match="chmod 0600"):
        change(str(file), {"jane": "jane Z"})
    assert file.read_text() == OLD


def test_a_symbolic_link_is_not_followed(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    with pytest.raises(OSError, match="symbolic links"):
        change(str(link), {"jane": "jane Z"})
    assert file.read_text() == OLD


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    with pytest.raises(FileWrong, match="not a regular file"):
        change(str(tmp_path / "fifo"), {"jane": "jane Z"})


def test_a_full_disk_leaves_the_old_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        change(str(file), {"jane": "jane Z"})
    assert file.read_text() == OLD
    assert os.listdir(file.parent) == [file.name]


def test_a_file_that_was_replaced_while_the_lock_was_waited_for(file: Path) -> None:
    """The lock of the old file says nothing about the new one: it is taken again."""
    with credentials_file.locked(str(file), make=False):
        waiting = threading.Thread(target=change, args=(str(file), {"amy": "amy Z"}))
        waiting.start()
        credentials_file.replace(str(file), OLD + "bob Z\n", file.stat())
    waiting.join()
    assert file.read_text() == OLD + "bob Z\namy Z\n"
