"""maildrop/conversion/building.py: names beside a target, whose they are, and what a conversion that died has left."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.maildrop.conversion import building
from popad.maildrop.conversion.building import DIRECTORY, NotConverted, Place, rename_to_free
from tests.support.marks import needs_root

LEFT = "1600000001.R0123456789abcdefQ0.host,S=1,W=2:2,S"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(f"{tmp_path}/target/")
    yield place
    place.close()


def test_a_file_gets_the_name_of_the_target(place: Place, tmp_path: Path) -> None:
    fd = place.claim(directory=False)
    building.write_whole(fd, b"content")
    place.take_name()
    place.give_up(fd)  # does nothing to what has its name
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"target": b"content"}


def test_a_directory_gets_the_name_of_the_target(place: Place, tmp_path: Path) -> None:
    fd = place.claim(directory=True)
    os.mkdir("cur", dir_fd=fd)
    place.take_name()
    place.give_up(fd)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["target", "target/cur"]


@pytest.mark.parametrize("directory", [True, False])
def test_two_at_once(place: Place, directory: bool) -> None:
    fd = place.claim(directory=directory)
    if not (pid := os.fork()):
        try:
            place.claim(directory=directory)
        except NotConverted:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    place.give_up(fd)
    os.close(place.claim(directory=directory))


def test_what_a_conversion_has_left_is_used_again(place: Place, tmp_path: Path) -> None:
    cur = tmp_path / place.unfinished / "cur"
    cur.mkdir(parents=True)
    (cur / LEFT).touch()
    (cur.parent / "popad-uidlist.0123456789abcdef").touch()
    fd = place.claim(directory=True)
    assert os.listdir(fd) == []
    place.give_up(fd)
    (tmp_path / place.unfinished).write_bytes(b"From a\n")
    fd = place.claim(directory=False)
    assert os.fstat(fd).st_size == 0
    place.give_up(fd)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "what", ["cur/1600000001.a.h", "new/" + LEFT, "tmp/" + LEFT, "notes", "cur/x/y", "cur -> /etc"]
)
def test_what_no_conversion_has_left_stays(place: Place, tmp_path: Path, what: str) -> None:
    (tmp_path / place.unfinished / "cur").mkdir(parents=True)
    (tmp_path / place.unfinished / "cur" / LEFT).touch()
    if "->" in what:
        (tmp_path / place.unfinished / "new").symlink_to("/etc")
    else:
        path = tmp_path / place.unfinished / what
        path.parent.mkdir(exist_ok=True)
        path.touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((NotConverted, OSError)):
        place.claim(directory=True)
    assert sorted(tmp_path.rglob("*")) == before


@needs_root
@pytest.mark.parametrize("directory", [True, False])
def test_another_users_is_not_touched(place: Place, tmp_path: Path, directory: bool) -> None:
    path = tmp_path / place.unfinished
    if directory:
        path.mkdir()
        (path / "cur").mkdir()
    else:
        path.write_bytes(b"mail")
    os.chown(path, 65534, 65534)
    with pytest.raises(NotConverted, match="another user"):
        place.claim(directory=directory)
    assert path.exists()
    assert directory or path.read_bytes() == b"mail"


@pytest.mark.parametrize("what", ["link", "second name", "fifo"])
def test_a_file_that_is_something_else(place: Place, tmp_path: Path, what: str) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"mail")
    path = tmp_path / place.unfinished
    if what == "link":
        path.symlink_to(other)
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path.hardlink_to(other)
    with pytest.raises((NotConverted, OSError)):
        place.claim(directory=False)
    assert other.read_bytes() == b"mail"


@pytest.mark.parametrize("there", [True, False], ids=["kernel", "without RENAME_NOREPLACE"])
def test_nothing_is_replaced(tmp_path: Path, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not there:  # a flag that no kernel knows, as one that a file system does not know
        monkeypatch.setattr(building, "RENAME_NOREPLACE", 1 << 30)
    fd = os.open(tmp_path, DIRECTORY)
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    (tmp_path / "d").mkdir()
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "f").touch()
    for name, other in (("a", "b"), ("d", "e"), ("a", "e"), ("d", "b")):
        with pytest.raises(OSError) as failure:
            rename_to_free(name, other, fd)
        assert failure.value.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
    rename_to_free("a", "c", fd)
    rename_to_free("d", "g", fd)
    os.close(fd)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c", "e", "g"]
    assert (tmp_path / "c").read_bytes() == b"a"
