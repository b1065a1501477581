"""maildrop/mbox/file.py: how a mailbox's file looks, and what is refused to be one."""

import os
import time
from pathlib import Path

import pytest

from popad.errors import MaildropUnavailable
from popad.maildrop.mbox import file


def test_the_wait_outlasts_the_tick_of_the_clock() -> None:
    """A change after wait_for_tick() must leave other times than those seen, however coarse the file's clock is."""
    now = time.time_ns()
    file.wait_for_tick((0, 0, 0, now, now))
    assert time.time_ns() >= now + file.FINE_TICK


def test_old_or_odd_times_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file from the future (a clock set back) must not keep a session waiting."""
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    now = time.time_ns()
    file.wait_for_tick((0, 0, 0, now - 10**9, now - 10**9))
    file.wait_for_tick((0, 0, 0, now + 3600 * 10**9 + 1, now))
    assert waits == []
    whole_second = time.time_ns() // 10**9 * 10**9
    file.wait_for_tick((0, 0, 0, whole_second, whole_second - 5))
    assert len(waits) == 1
    assert 0.5 < waits[0] <= 2


@pytest.mark.parametrize(
    ("kind", "code"), [("link", "SYS/PERM"), ("directory", "SYS/PERM"), ("pipe", "SYS/PERM"), ("no spool", "SYS/TEMP")]
)
def test_what_is_no_mailbox(tmp_path: Path, kind: str, code: str) -> None:
    path = tmp_path / "mailbox"
    if kind == "link":
        (tmp_path / "other").touch()
        path.symlink_to("other")
    elif kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path = tmp_path / "nowhere" / "mailbox"
    with pytest.raises(MaildropUnavailable) as refused:
        file.open_mailbox(str(path))
    assert refused.value.code == code


def test_a_mailbox_that_is_not_there_yet(tmp_path: Path) -> None:
    assert file.open_mailbox(str(tmp_path / "mailbox")) == -1


@pytest.mark.parametrize(
    ("row", "mounted"),
    [
        ("server:/mail {place} nfs _netdev 0 0", False),
        ("server:/mail {place}/ nfs noauto 0 0", False),
        ("\t/dev/sdb1 {place} ext4 defaults 0 0", False),
        ("/dev/sdb1 {place}", True),  # no line of fstab(5)
        ("#/dev/sdb1 {place} ext4 defaults 0 0", True),
        ("/srv/mail {place} none bind 0 0", True),  # nobody can tell
        ("/dev/sdb1 {place}x ext4 defaults 0 0", True),
        ("/dev/sda1 / ext4 defaults 0 1", True),
        ("proc /proc proc defaults 0 0", True),
    ],
)
def test_a_spool_that_is_not_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str, mounted: bool) -> None:
    """The directory below it is no spool with an empty mailbox; a mailbox that is there is believed."""
    monkeypatch.setattr(file, "FSTAB", str(tmp_path / "fstab"))
    (tmp_path / "fstab").write_text(f"# a comment\n\nUUID=1 none swap sw 0 0\n{row.format(place=tmp_path)}\n")
    path = tmp_path / "mailbox"
    if mounted:
        assert file.open_mailbox(str(path)) == -1
        return
    with pytest.raises(MaildropUnavailable, match=f"{tmp_path} is not mounted") as refused:
        file.open_mailbox(str(path))
    assert refused.value.code == "SYS/TEMP"
    path.touch()
    os.close(file.open_mailbox(str(path)))


def test_what_is_mounted_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(file, "FSTAB", str(tmp_path / "fstab"))
    (tmp_path / "fstab").write_text("proc /proc proc defaults 0 0\n")
    assert file.unmounted("/proc/mailbox") == ""
    monkeypatch.setattr(file, "FSTAB", str(tmp_path / "nothing"))
    assert file.unmounted(str(tmp_path / "mailbox")) == ""
