"""maildrop/id_list.py: ids that clients know from before a move, and what becomes of the others."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.errors import MaildropUnreadable
from popad.maildrop import id_list
from popad.maildrop.maildir.former_ids import COURIER
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.private import PrivateFiles, SharedDirectory
from tests.support.box import Box, marks
from tests.support.maildirs import Mail, ids

LIST = {"own-1": "known-1", "own-2": "known-2"}
IDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=70)
MESSAGES = [b"From m Thu Jan  1 00:00:01 1970\nDate: %d\n\nbody\n\n" % number for number in range(3)]


@pytest.fixture
def files(tmp_path: Path) -> Iterator[PrivateFiles]:
    state = SharedDirectory(str(tmp_path))
    yield state.files_of("/m")
    state.close()


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@given(st.dictionaries(IDS, IDS))
def test_there_and_back(found: dict[str, str]) -> None:
    unique = {given: own for own, given in found.items()}
    wanted = {own: given for given, own in unique.items()}
    assert id_list.unpack(id_list.pack(wanted)) == wanted


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"popad ids 2\n",
        b"popad ids 1",
        b"popad ids 1\na b",
        b"popad ids 1\na\n",
        b"popad ids 1\na b c\n",
        b"popad ids 1\na b\n\n",
        b"popad ids 1\na \x7f\n",
        b"popad ids 1\na \xff\n",
        b"popad ids 1\na b\nc b\n",
        b"popad ids 1\na b\na c\n",
        b"popad ids 1\n%b b\n" % (b"a" * 71),
    ],
)
def test_what_is_no_list(content: bytes, directory: int, tmp_path: Path) -> None:
    """None of it is left out: with other ids a client would fetch all its mail again."""
    (tmp_path / id_list.NAME).write_bytes(content)
    with pytest.raises(MaildropUnreadable) as refused:
        id_list.of_maildir(directory)
    assert refused.value.code == "SYS/PERM"


def test_of_an_mbox(files: PrivateFiles, tmp_path: Path) -> None:
    assert id_list.of_mbox(files) == {}
    id_list.store_for_mbox(files, {})
    id_list.store_for_mbox(files, LIST)
    assert id_list.of_mbox(files) == LIST
    (tmp_path / files.list).write_bytes((tmp_path / files.list).read_bytes().replace(b"known-1", b"known-3"))
    with pytest.raises(MaildropUnreadable):
        id_list.of_mbox(files)
    (tmp_path / files.list).chmod(0o666)
    with pytest.raises(MaildropUnreadable):
        id_list.of_mbox(files)


def test_of_a_maildir(directory: int, tmp_path: Path) -> None:
    assert id_list.of_maildir(directory) == {}
    id_list.store_in_maildir(directory, {})
    id_list.store_in_maildir(directory, LIST)
    assert id_list.of_maildir(directory) == LIST
    assert [path.name for path in tmp_path.iterdir()] == [id_list.NAME]


def test_a_maildirs_list_is_a_file_of_a_lists_size(directory: int, tmp_path: Path) -> None:
    path = tmp_path / id_list.NAME
    os.mkfifo(path)
    with pytest.raises(MaildropUnreadable):
        id_list.of_maildir(directory)
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(MaildropUnreadable):
        id_list.of_maildir(directory)
    path.unlink()
    path.touch()
    os.truncate(path, id_list.LARGEST + 1)
    with pytest.raises(MaildropUnreadable):
        id_list.of_maildir(directory)


def test_a_list_that_cannot_be_put_in_place_leaves_nothing(directory: int, tmp_path: Path) -> None:
    (tmp_path / id_list.NAME).mkdir()
    with pytest.raises(IsADirectoryError):
        id_list.store_in_maildir(directory, LIST)
    assert [path.name for path in tmp_path.iterdir()] == [id_list.NAME]


def test_an_id_is_given_to_one_message_alone() -> None:
    """Popad's own id of another may be the same; it stays taken when the message that had it is gone."""
    listed = id_list.Replaced(["a", "b", "c"], {"a": "b", "gone": "c"})
    first, second, third = (listed[index] for index in range(len(listed)))
    assert first == "b"
    assert len({first, second, third, "c"}) == 4
    assert [id_list.Replaced(["b", "c"], listed.given)[index] for index in (0, 1)] == [second, third]


def test_two_lists() -> None:
    found = {"a": "1"}
    id_list.add(found, {"a": "2", "b": "1", "c": "3"})
    assert found == {"a": "1", "c": "3"}


def shown(store: Mbox) -> list[str]:
    listed = store.unique_ids()
    return [listed[index] for index in range(len(listed))]


def test_an_mbox_with_a_list(tmp_path: Path, still_clock: None) -> None:
    box = Box(tmp_path, None)
    box.append(*MESSAGES[:2])
    store = box.open()
    own = shown(store)
    id_list.store_for_mbox(store.files, {own[1]: "known", "gone": own[0]})
    box.append(MESSAGES[2])
    store = box.open()
    first, second, third = shown(store)
    assert second == "known"
    assert len({first, second, third, own[0]}) == 4
    store.remove(marks(store, 2))
    assert shown(box.open()) == [first, third]
    box.close()


def test_a_maildir_with_a_list(tmp_path: Path) -> None:
    """The list counts before what the former server has left."""
    mail = Mail(tmp_path)
    for name in ("1600000001.a", "1600000002.b", "1600000003.c"):
        mail.deliver(name=name)
    with mail.opened() as store:
        id_list.store_in_maildir(store.directories.top, {"1600000002.b": "UID7-9"})
        assert ids(store) == ["1600000001.a", "UID7-9", "1600000003.c"]
    (mail.path / "courierpop3dsizelist").write_text("/2 5 9\n1600000001.a 5 7:9:0\n1600000003.c 5 8:9:0\n")
    with mail.opened(former=(COURIER, "")) as store:
        assert ids(store) == ["1600000001.a", "UID7-9", "UID8-9"]
        (mail.path / id_list.NAME).write_text("popad ids 1\nx\n")
        with pytest.raises(MaildropUnreadable):
            ids(store)
