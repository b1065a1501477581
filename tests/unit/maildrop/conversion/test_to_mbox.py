"""maildrop/conversion/to_mbox.py: what becomes of the messages of a Maildir, whatever they are and others do."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popad.maildrop import id_list
from popad.maildrop.conversion import to_mbox
from popad.maildrop.conversion.building import NotConverted
from tests.support.conversions import Mails, wire

ONE = b"Return-Path: <a@b>\nDate: 1\n\nbody 1\n..\n"
TWO = b"Date: 1\r\n\r\nbody\r\n>From 2\r\n"
THREE = b"Date: 1\n\nno line end"
TEXTS = (
    b"From a Thu Jan  1 10:00:00 2015\n",
    b"From a\n",
    b"\n",
    b"A: b\n",
    b"text\n",
    b"\r\n",
    b"\r",
    b"x",
    b">From ",
)


@pytest.fixture
def mails(tmp_path: Path) -> Mails:
    mails = Mails(tmp_path)
    mails.make_maildir()
    mails.deliver("1600000001.a.h", ONE)
    mails.deliver("1600000002.a.h:2,RS", TWO, "cur")
    mails.deliver("1600000003.a.h:2,FD", THREE, "cur")
    return mails


def test_clients_find_what_they_knew(mails: Mails) -> None:
    before = mails.shown(mails.maildir)
    report = mails.to_mbox()
    assert (report.messages, report.octets, report.changed) == (3, sum(message.size for message in before), 0)
    assert report.listed == 3
    assert mails.shown(mails.mbox) == before
    assert mails.left() == {"mbox", "maildir"}
    assert mails.mbox.stat().st_mode & 0o7777 == 0o600


def test_a_server_that_leaves_no_ids_in_maildirs(tmp_path: Path) -> None:
    """But in mbox files: what headers have is not believed of messages that had other ids."""
    mails = Mails(tmp_path, POPAD_UIDL="qpopper")
    mails.make_maildir()
    mails.deliver("1600000001.a.h", b"X-UIDL: abcdefghijkl\n" + ONE)
    before = mails.shown(mails.maildir)
    mails.to_mbox()
    assert mails.shown(mails.mbox) == before


def test_it_is_only_read(mails: Mails) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in mails.maildir.rglob("*"))
    mails.to_mbox()
    assert sorted((path, path.stat().st_mtime_ns) for path in mails.maildir.rglob("*")) == before


def test_sender_and_time_of_the_from_line(mails: Mails) -> None:
    for path in mails.maildir.rglob("1*"):
        os.utime(path, (0, 1420106400))
    mails.to_mbox()
    lines = [line for line in mails.mbox.read_bytes().splitlines() if line.startswith(b"From ")]
    assert [line.split()[1] for line in lines] == [b"a@b", b"MAILER-DAEMON", b"MAILER-DAEMON"]
    assert all(b" 2015" in line for line in lines)


def test_flags_on_request(mails: Mails) -> None:
    """In place of what was there; the ids are the same all the same."""
    mails.deliver("1600000004.a.h:2,", b"Date: 4\nStatus: RO\nX-Status: A\n more\nX: y\n\nbody\n", "cur")
    before = mails.shown(mails.maildir)
    report = mails.to_mbox(writes_flags=True)
    after = mails.shown(mails.mbox)
    assert report.flags == 2
    assert [message.unique_id for message in after] == [message.unique_id for message in before]
    assert after[0] == before[0]
    assert after[1].wire.startswith(b"Status: RO\r\nX-Status: A\r\nDate: 1\r\n")
    assert after[2].wire.startswith(b"Status: O\r\nX-Status: FT\r\nDate: 1\r\n")
    assert after[3].wire == b"Status: O\r\nDate: 4\r\nX: y\r\n\r\nbody\r\n"


def test_lists_stay(mails: Mails) -> None:
    """Also that of a former server; ids of messages that are gone pass on to none."""
    mails.settings.uidl = ("courier", "")
    (mails.maildir / "courierpop3dsizelist").write_text("/2 5 9\n1600000001.a.h 5 7:9:0\n1600000000.a.h 5 8:9:0\n")
    mails.to_mbox()
    assert [message.unique_id for message in mails.shown(mails.mbox)] == ["UID7-9", "1600000002.a.h", "1600000003.a.h"]
    assert "UID8-9" in id_list.of_mbox(mails.state.files_of(str(mails.mbox))).values()


def test_a_list_of_an_earlier_mbox_does_not_count(mails: Mails) -> None:
    mails.to_mbox()
    files = mails.state.files_of(str(mails.mbox))
    own = [*id_list.of_mbox(files)]
    before = mails.shown(mails.mbox)
    id_list.store_for_mbox(files, {own[0]: "wrong", "gone": "UID8-9"})
    mails.mbox.unlink()
    mails.to_mbox()
    assert mails.shown(mails.mbox) == before
    assert "UID8-9" in id_list.of_mbox(files).values()


def test_what_an_mbox_cannot_hold_is_changed_as_little_as_can_be(mails: Mails) -> None:
    contents = {
        "header alone": b"Date: 1\n",
        "nothing": b"",
        "separator": b"Date: 1\n\nx\n\nFrom a Thu Jan  1 10:00:00 2015\nA: b\n\nFrom here\n",
        "first line": b"From a Thu Jan  1 10:00:00 2015\nDate: 1\n\nx\n",
        "text": b"Date: 1\n\nFrom here\n\nFrom there\n",
    }
    for number, content in enumerate(contents.values(), 4):
        mails.deliver(f"160000000{number}.a.h", content)
    before = mails.shown(mails.maildir)
    assert mails.to_mbox().changed == 4
    after = mails.shown(mails.mbox)
    assert [message.unique_id for message in after] == [message.unique_id for message in before]
    assert after[:3] == before[:3]
    assert after[7] == before[7]
    assert after[3].wire == b"Date: 1\r\n\r\n"
    assert after[4].wire == b"\r\n"
    assert after[5].wire == before[5].wire.replace(b"\nFrom ", b"\n>From ")
    assert after[6].wire == b">" + before[6].wire


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(TEXTS), max_size=12).map(b"".join), min_size=1, max_size=4))
def test_any_messages(quick_path: Path, contents: list[bytes]) -> None:
    """What is not changed has its octets, ids are all the same, and the number of messages is."""
    mails = fresh(quick_path)
    for number, content in enumerate(contents):
        mails.deliver(f"160000000{number}.a.h", content)
    before = mails.shown(mails.maildir)
    report = mails.to_mbox()
    after = mails.shown(mails.mbox)
    assert [message.unique_id for message in after] == [message.unique_id for message in before]
    differ = [(one, other) for one, other in zip(before, after, strict=True) if one != other]
    assert len(differ) == report.changed
    for one, other in differ:
        with_quotes = (b"\n" + one.wire).replace(b"\nFrom ", b"\n>From ")[1:]
        assert other.wire in (one.wire + b"\r\n", with_quotes, with_quotes + b"\r\n")
    mails.close()


def fresh(place: Path) -> Mails:
    directory = place / os.urandom(8).hex()
    directory.mkdir()
    mails = Mails(directory)
    mails.make_maildir()
    return mails


@pytest.mark.parametrize("size", range(1, 9))
def test_quotes_wherever_blocks_are_cut(size: int) -> None:
    text = b"From a\nFrom b\nFro\nFrom\n\n\nFrom c\n From d\n>From e\nFrom "
    blocks = [text[place : place + size] for place in range(0, len(text), size)]
    assert b"".join(to_mbox.quoted(blocks)) == (b"\n" + text).replace(b"\nFrom ", b"\n>From ")[1:]


@pytest.mark.parametrize("what", ["arrives", "arrives before", "goes", "is renamed", "moves to cur"])
def test_what_others_do_meanwhile(mails: Mails, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    usual = to_mbox.Copy.message
    once = [what]

    def message(self: to_mbox.Copy, store: to_mbox.Source, index: int, count: int) -> None:
        usual(self, store, index, count)
        if not once:
            return
        once.clear()
        if what == "arrives":
            mails.deliver("1600000009.a.h", b"Date: 9\n\n9\n")
        elif what == "arrives before":
            mails.deliver("1600000000.a.h", b"Date: 0\n\n0\n")
        elif what == "goes":
            (mails.maildir / "new" / "1600000001.a.h").unlink()
        elif what == "is renamed":
            (mails.maildir / "cur" / "1600000003.a.h:2,FD").rename(mails.maildir / "cur" / "1600000003.a.h:2,S")
        else:
            (mails.maildir / "new" / "1600000001.a.h").rename(mails.maildir / "cur" / "1600000001.a.h:2,S")

    monkeypatch.setattr(to_mbox.Copy, "message", message)
    report = mails.to_mbox()
    assert report.messages == 3 + {"arrives": 1, "arrives before": 1, "goes": -1}.get(what, 0)
    assert mails.shown(mails.mbox) == mails.shown(mails.maildir)


def test_what_comes_behind_the_last_look_is_told(mails: Mails, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = to_mbox.store_list

    def store(*arguments: object) -> None:
        usual(*arguments)  # type: ignore[arg-type]  # what it was called with
        mails.deliver("1600000009.a.h", b"Date: 9\n\n9\n")

    monkeypatch.setattr(to_mbox, "store_list", store)
    report = mails.to_mbox(renames=True)
    assert (report.messages, report.arrived) == (3, 1)
    assert (Path(report.renamed) / "new" / "1600000009.a.h").exists()
    assert mails.left() == {"mbox", Path(report.renamed).name}


def test_a_maildir_that_changes_all_the_time(mails: Mails, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = to_mbox.Copy.message
    number = iter(range(100))

    def message(self: to_mbox.Copy, store: to_mbox.Source, index: int, count: int) -> None:
        usual(self, store, index, count)
        if not index:
            mails.deliver(f"150000{next(number):04}.a.h", b"x\n")

    monkeypatch.setattr(to_mbox.Copy, "message", message)
    with pytest.raises(NotConverted, match="all the time"):
        mails.to_mbox()
    assert mails.left() == {"maildir"}


def test_a_session_meanwhile(mails: Mails) -> None:
    """It has the maildrop that it has opened, to its end."""
    before = mails.shown(mails.maildir)
    with mails.opened(mails.maildir) as store:
        mails.to_mbox()
        assert wire(store, 1) == before[1].wire
        store.remove(bytearray([1, 0, 0]))
    assert mails.shown(mails.maildir) == before[1:]
    assert mails.shown(mails.mbox) == before


def test_those_marked_as_deleted_are_no_messages(mails: Mails) -> None:
    mails.deliver("1600000009.a.h:2,ST", b"x\n", "cur")
    report = mails.to_mbox()
    assert (report.messages, report.left_out) == (3, 1)


def test_a_target_that_is_there(mails: Mails) -> None:
    """An empty one as well: somebody may have it open and wait for its lock."""
    mails.mbox.touch()
    with pytest.raises(NotConverted, match="mbox is there"):
        mails.to_mbox()
    assert mails.left() == {"mbox", "maildir"}
    assert mails.mbox.read_bytes() == b""


def test_a_target_that_comes_meanwhile_stays(mails: Mails, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = to_mbox.Copy.verify

    def verify(self: to_mbox.Copy) -> None:
        usual(self)
        mails.mbox.write_bytes(b"From x\n\nnew\n\n")

    monkeypatch.setattr(to_mbox.Copy, "verify", verify)
    with pytest.raises(NotConverted, match="exists"):
        mails.to_mbox()
    assert mails.mbox.read_bytes() == b"From x\n\nnew\n\n"
    assert mails.left() == {"mbox", "maildir"}


def test_a_first_message_that_nobody_would_see(mails: Mails) -> None:
    hidden = b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nx\n"
    mails.deliver("1500000000.a.h", hidden)
    with pytest.raises(NotConverted, match="for themselves"):
        mails.to_mbox()
    assert mails.left() == {"maildir"}


def test_a_directory_of_the_users_own_is_no_spool(mails: Mails) -> None:
    """Whatever its group: nobody else gets to read mail there."""
    mails.place.chmod(0o2755)
    mails.to_mbox()
    assert mails.mbox.stat().st_mode & 0o7777 == 0o600


def test_nothing_there(mails: Mails) -> None:
    with pytest.raises(NotConverted, match="is not there"):
        mails.convert(mails.place / "other", mails.mbox)
    assert mails.left() == {"maildir"}
