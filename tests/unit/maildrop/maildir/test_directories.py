"""maildrop/maildir/directories.py: what is a message, what is no Maildir, and renames while it is read."""

import os
import socket
import time
from pathlib import Path

import pytest

from popad.errors import MaildropUnavailable
from popad.maildrop.maildir import directories
from popad.maildrop.maildir.directories import Directories
from tests.support.descriptors import descriptors
from tests.support.maildirs import MOST, Mail, as_nobody
from tests.support.marks import needs_root


def names(path: Path, most: int = MOST) -> list[str]:
    there = Directories(str(path), missing_is_empty=True)
    try:
        found, in_new = there.listing(most)
        assert in_new == {name for name in found if (path / "new" / name).exists()}
        return sorted(found)
    finally:
        there.close()


def test_regular_files_alone(tmp_path: Path) -> None:
    mail = Mail(tmp_path)
    good = [
        mail.deliver(),
        mail.deliver(name="a b\n\udcff".encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")),
    ]
    good += [mail.deliver(name="x" * 255), mail.deliver(name="1.M1P1.h:2,S", cur=True)]
    for part in ("new", "cur"):
        place = mail.path / part
        (place / ".hidden").write_bytes(b"x")
        (place / "directory").mkdir()
        (place / "link").symlink_to("/etc/passwd")
        (place / "dangling").symlink_to("/nowhere")
        os.mkfifo(place / "fifo")
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(os.path.relpath(place / "socket"))
    (mail.path / "tmp/1.M1P1.h").write_bytes(b"x")
    (mail.path / ".Sent").mkdir()
    assert names(mail.path) == sorted(good)


def test_what_is_marked_as_trashed_is_none(tmp_path: Path) -> None:
    mail = Mail(tmp_path)
    mail.deliver(name="1.a.h:2,ST", cur=True)
    mail.deliver(name="2.a.h:2,S", cur=True)
    assert names(mail.path) == ["2.a.h:2,S"]


def test_a_message_under_two_names_is_one(tmp_path: Path) -> None:
    """Who moves it with link(2) and unlink(2) has it in both for a moment."""
    mail = Mail(tmp_path)
    mail.deliver(name="1.a.h")
    mail.deliver(name="1.a.h:2,S", cur=True)
    assert names(mail.path) == ["1.a.h:2,S"]


def test_a_message_under_two_names_of_one_directory_is_one(tmp_path: Path) -> None:
    """A look in the middle of link(2) and unlink(2), or at two halves of a rename."""
    mail = Mail(tmp_path)
    mail.deliver(name="1600000001.a.h:2,", cur=True)
    mail.deliver(name="1600000001.a.h:2,S", cur=True)
    mail.deliver(name="1600000001.ab.h:2,S", cur=True)
    assert len(names(mail.path)) == 2


def test_a_rename_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be listed under neither name: the directory is read again."""
    mail = Mail(tmp_path)
    mail.deliver(name="1.a.h:2,", cur=True)
    usual, turns = directories.messages, []

    def messages(fd: int, most: int) -> list[str]:
        turns.append(fd)
        found = usual(fd, most)
        if len(turns) == 2:  # the first look at cur/
            os.utime(mail.path / "cur", ns=(1, 1))
            (mail.path / "cur/1.a.h:2,").rename(mail.path / "cur/1.a.h:2,S")
            return []
        return found

    monkeypatch.setattr(directories, "messages", messages)
    assert names(mail.path) == ["1.a.h:2,S"]
    assert len(turns) == 4


def test_a_directory_that_never_stays_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mail = Mail(tmp_path)
    name, looks = mail.deliver(), iter(range(100))
    monkeypatch.setattr(Directories, "look", lambda _: (next(looks),) * 4)
    assert names(mail.path) == [name]


def test_a_look_counts_when_another_change_must_look_different(tmp_path: Path) -> None:
    mail = Mail(tmp_path)
    mail.deliver()
    there = Directories(str(mail.path), missing_is_empty=False)
    assert there.reliable_look() is None  # it was delivered just now
    for age, counts in ((1_100_000_000, True), (800_000_000, False)):  # the clock of a file server may be behind
        for part, more in (("new", 0), ("cur", 3_000_000_000)):
            os.utime(mail.path / part, ns=(1, time.time_ns() // 1000 * 1000 + 1 - age - more))
        assert there.reliable_look() == (there.look() if counts else None)
    os.utime(mail.path / "new", ns=(1, (time.time_ns() // 1_000_000_000 - 2) * 1_000_000_000))
    assert there.reliable_look() is None  # a file system that keeps whole seconds
    os.utime(mail.path / "new", ns=(1, time.time_ns() + 10**12))
    assert there.reliable_look() is None  # of the future
    there.close()
    assert Directories(str(tmp_path / "none"), missing_is_empty=True).reliable_look() is None


def test_too_many(tmp_path: Path) -> None:
    mail = Mail(tmp_path)
    for _ in range(10):
        mail.deliver()
    assert len(names(mail.path, 10)) == 10
    for most in (9, 4):
        with pytest.raises(MaildropUnavailable, match=f"more than {most} messages"):
            names(mail.path, most)


def test_a_maildir_that_is_missing(tmp_path: Path) -> None:
    """Empty where its parent is there, if that is wanted; made by nobody."""
    assert names(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()
    with pytest.raises(MaildropUnavailable) as failure:
        Directories(str(tmp_path / "none"), missing_is_empty=False)
    assert failure.value.code == "SYS/TEMP"
    with pytest.raises(MaildropUnavailable):
        Directories(str(tmp_path / "none/none"), missing_is_empty=True)


@pytest.mark.parametrize("what", ["file", "link", "dangling", "fifo", "no cur", "cur is a link", "new is a file"])
def test_what_is_no_maildir(tmp_path: Path, what: str) -> None:
    mail = Mail(tmp_path)
    path = mail.path
    if what in ("file", "link", "dangling", "fifo"):
        path = tmp_path / "other"
        if what == "file":
            path.write_bytes(b"x")
        elif what == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to(mail.path if what == "link" else "/nowhere")
    elif what == "new is a file":
        (mail.path / "new").rmdir()
        (mail.path / "new").write_bytes(b"")
    else:
        (mail.path / "cur").rmdir()
        if what == "cur is a link":
            (mail.path / "cur").symlink_to("new")
    before = len(descriptors())
    with pytest.raises(MaildropUnavailable):
        Directories(str(path), missing_is_empty=True)
    assert len(os.listdir("/proc/self/fd")) == before


@needs_root
def test_why_nothing_can_be_removed(tmp_path: Path) -> None:
    mail = Mail(tmp_path)
    why = as_nobody(tmp_path, lambda: Directories(str(mail.path), missing_is_empty=False).why_read_only())
    assert why.startswith(f"{mail.path}/new: ")
    there = Directories(str(mail.path), missing_is_empty=False)
    assert there.why_read_only() == ""
    there.close()


@needs_root
def test_a_directory_that_cannot_be_searched(tmp_path: Path) -> None:
    """Its names could be read, and no message."""
    mail = Mail(tmp_path)
    (mail.path / "cur").chmod(0o744)

    def opened() -> str:
        try:
            Directories(str(mail.path), missing_is_empty=False)
        except MaildropUnavailable as failure:
            return f"{failure.code} {failure.reason}"
        return "opened"

    assert as_nobody(tmp_path, opened) == f"SYS/PERM {mail.path}: no Maildir: cur: no right to search it"


def test_a_link_is_not_followed_for_a_slash_behind_it(tmp_path: Path) -> None:
    mail = Mail(tmp_path)
    (tmp_path / "link").symlink_to(mail.path)
    with pytest.raises(MaildropUnavailable):
        Directories(f"{tmp_path}/link/", missing_is_empty=False)
