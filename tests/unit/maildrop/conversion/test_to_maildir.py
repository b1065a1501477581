"""maildrop/conversion/to_maildir.py: what becomes of the messages of an mbox, and what keeps them from it."""

import fcntl
import os
import time
from pathlib import Path

import pytest

from popad.maildrop import id_list
from popad.maildrop.conversion import to_maildir
from popad.maildrop.conversion.building import NotConverted
from popad.maildrop.maildir.names import WIRE_SIZE, base_of, flags_of, size_in
from popad.maildrop.mbox.store import Mbox
from tests.support.conversions import Mails

ONE = b"From a@b Thu Jan  1 10:00:02 2015\nDate: 1\nStatus: RO\n\nbody 1\n.\n\n"
TWO = b"From b Thu Jan  1 10:00:01 2015\nDate: 2\nX-Status: AFD\n\nbody\r\n>From 2\n\n"
THREE = b"From c\nDate: 3\n\nno line end"
MBOX = ONE + TWO + THREE


@pytest.fixture
def mails(tmp_path: Path) -> Mails:
    mails = Mails(tmp_path)
    mails.mbox.write_bytes(MBOX)
    return mails


def test_clients_find_what_they_knew(mails: Mails) -> None:
    before = mails.shown(mails.mbox)
    report = mails.to_maildir()
    assert (report.messages, report.octets, report.flags) == (3, sum(message.size for message in before), 2)
    assert mails.shown(mails.maildir) == before
    assert mails.mbox.read_bytes() == MBOX
    assert mails.left() == {"mbox", "maildir"}
    assert {path.name for path in mails.maildir.iterdir()} == {"cur", "new", "tmp", id_list.NAME}


def test_names_have_flags_sizes_and_times_that_do_not_go_back(mails: Mails) -> None:
    mails.to_maildir()
    paths = sorted((mails.maildir / "cur").iterdir())
    assert [flags_of(path.name) for path in paths] == ["S", "FR", ""]
    assert [path.stat().st_size for path in paths] == [size_in(base_of(path.name), "S=") for path in paths]
    assert [size_in(base_of(path.name), WIRE_SIZE) for path in paths] == [
        message.size for message in mails.shown(mails.mbox)
    ]
    first = int(time.mktime((2015, 1, 1, 10, 0, 2, 0, 0, -1)))
    assert [int(path.stat().st_mtime) for path in paths] == [first, first - 1, first - 1]
    assert {path.name.partition(".")[0] for path in paths} == {str(first)}


def test_a_message_from_the_future_comes_before_what_is_delivered_next(mails: Mails) -> None:
    mails.mbox.write_bytes(ONE.replace(b"2015", b"2199") + TWO)
    mails.to_maildir()
    paths = sorted((mails.maildir / "cur").iterdir())
    assert all(int(path.name.partition(".")[0]) <= time.time() for path in paths)
    assert time.localtime(paths[0].stat().st_mtime).tm_year == 2199


def test_the_list_that_there_was_counts(mails: Mails) -> None:
    """And ids of messages that are gone pass on to none."""
    own = [message.unique_id for message in mails.shown(mails.mbox)]
    id_list.store_for_mbox(mails.state.files_of(str(mails.mbox)), {own[1]: "UID7-9", "gone": "UID8-9"})
    mails.to_maildir()
    assert [message.unique_id for message in mails.shown(mails.maildir)] == [own[0], "UID7-9", own[2]]
    assert id_list.unpack((mails.maildir / id_list.NAME).read_bytes())["gone"] == "UID8-9"


def test_ids_that_another_server_has_left_in_headers_count(tmp_path: Path) -> None:
    """Though no session has listed them yet."""
    mails = Mails(tmp_path, POPAD_UIDL="qpopper")
    mails.mbox.write_bytes(ONE.replace(b"Date: 1", b"Date: 1\nX-UIDL: abcdefghijkl"))
    mails.to_maildir()
    assert [message.unique_id for message in mails.shown(mails.maildir)] == ["abcdefghijkl"]


def test_ids_of_removed_messages_stay_taken(mails: Mails) -> None:
    first = mails.shown(mails.mbox)[0].unique_id
    with mails.opened(mails.mbox) as store:
        store.remove(bytearray([1, 0, 0]))
    mails.to_maildir()
    assert first in id_list.unpack((mails.maildir / id_list.NAME).read_bytes()).values()


@pytest.mark.parametrize("what", ["message", "file", "link", "another maildir"])
def test_a_target_that_is_there(mails: Mails, what: str) -> None:
    if what == "message":
        mails.make_maildir()
        mails.deliver("1.a.b", b"x\n")
    elif what == "file":
        mails.maildir.write_bytes(b"")
    elif what == "link":
        mails.maildir.symlink_to(mails.place)
    else:
        (mails.maildir / "cur").mkdir(parents=True)
    before = sorted(path.name for path in mails.place.rglob("maildir/*"))
    with pytest.raises(NotConverted, match=str(mails.maildir)):
        mails.to_maildir()
    assert sorted(path.name for path in mails.place.rglob("maildir/*")) == before
    assert mails.left() == {"mbox", "maildir"}


def test_a_maildir_without_a_message_keeps_what_else_it_has(mails: Mails) -> None:
    mails.make_maildir()
    (mails.maildir / ".Sent" / "cur").mkdir(parents=True)
    (mails.maildir / "cur").chmod(0o750)
    directory = os.open(mails.maildir, os.O_RDONLY)
    id_list.store_in_maildir(directory, {"old": "UID1-1"})
    os.close(directory)
    before = mails.shown(mails.mbox)
    mails.to_maildir()
    assert mails.shown(mails.maildir) == before
    assert (mails.maildir / ".Sent" / "cur").is_dir()
    assert (mails.maildir / "cur").stat().st_mode & 0o7777 == 0o750
    assert "UID1-1" in id_list.unpack((mails.maildir / id_list.NAME).read_bytes()).values()
    assert mails.left() == {"mbox", "maildir"}


def test_a_session_of_the_maildir_that_gets_its_messages(mails: Mails) -> None:
    """It knows what it has seen, and takes nothing away."""
    mails.make_maildir()
    before = mails.shown(mails.mbox)
    with mails.opened(mails.maildir) as store:
        mails.to_maildir()
        assert list(store.sizes) == []
    mails.deliver("9000000000.a.h", b"Date: 4\n\nbody\n")
    assert mails.shown(mails.maildir)[:3] == before
    with mails.opened(mails.maildir) as store:
        store.remove(bytearray([0, 0, 0, 1]))
    assert mails.shown(mails.maildir) == before


def test_the_mailbox_is_locked_for_all_of_it(mails: Mails, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = to_maildir.put_in_place
    seen = []

    def looks(*arguments: object) -> None:
        if not (pid := os.fork()):
            with mails.mbox.open("r+b") as file:
                try:
                    fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    os._exit(7)
            os._exit(0)
        seen.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        usual(*arguments)  # type: ignore[arg-type]  # what it was called with

    monkeypatch.setattr(to_maildir, "put_in_place", looks)
    mails.to_maildir()
    assert seen == [7]


def test_mail_that_comes_before_the_lock_is_converted(mails: Mails, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Mbox.know_crc
    mails.mbox.write_bytes(ONE + TWO)
    late = [THREE]

    def know(self: Mbox) -> None:
        usual(self)
        if late:
            with mails.mbox.open("ab") as file:
                file.write(late.pop())

    monkeypatch.setattr(Mbox, "know_crc", know)
    assert mails.to_maildir().messages == 3


def test_who_writes_without_a_lock_is_noticed(mails: Mails, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = to_maildir.Copy.run

    def run(self: to_maildir.Copy) -> list[str]:
        done = usual(self)
        with mails.mbox.open("ab") as file:
            file.write(b"\n\n" + ONE)
        return done

    monkeypatch.setattr(to_maildir.Copy, "run", run)
    with pytest.raises(NotConverted, match="does not lock"):
        mails.to_maildir()
    assert mails.left() == {"mbox"}


def test_it_can_be_set_aside(mails: Mails) -> None:
    """Under the lock: a session that has it open removes nothing behind it."""
    with mails.opened(mails.mbox) as store:
        report = mails.to_maildir(renames=True)
        assert Path(report.renamed).read_bytes() == MBOX
        assert mails.left() == {"maildir", Path(report.renamed).name}
        with pytest.raises(Exception, match="it is gone"):
            store.remove(bytearray([1, 0, 0]))


def test_nothing_there(mails: Mails) -> None:
    mails.mbox.unlink()
    with pytest.raises(NotConverted, match="is not there"):
        mails.to_maildir()
    assert mails.left() == set()


def test_an_empty_one(mails: Mails) -> None:
    mails.mbox.write_bytes(b"")
    assert mails.to_maildir().messages == 0
    assert mails.shown(mails.maildir) == []
