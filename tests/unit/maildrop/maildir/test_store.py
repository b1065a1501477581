"""maildrop/maildir/store.py: messages, their sizes and ids, what others do meanwhile, and what a session leaves."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popad.errors import MaildropUnavailable, MaildropUnreadable, MessageGone
from popad.maildrop.maildir import store as stores
from popad.maildrop.maildir.directories import Directories
from popad.maildrop.maildir.sizes import BLOCK, FEW, Row
from tests.support.maildirs import Mail, as_nobody, ids, octets, text
from tests.support.marks import needs_root


@pytest.fixture
def mail(tmp_path: Path) -> Mail:
    return Mail(tmp_path)


def test_messages_in_the_order_of_delivery(mail: Mail) -> None:
    mail.deliver(b"second\n", "1600000002.a.h:2,S", cur=True)
    mail.deliver(b"third\r\n", "1600000003.a.h")
    mail.deliver(b"first", "1600000001.a.h")
    with mail.opened() as store:
        assert [text(store, index) for index in range(3)] == [b"first\r\n", b"second\r\n", b"third\r\n"]
        assert list(store.sizes) == [7, 8, 7]
        assert ids(store) == ["1600000001.a.h", "1600000002.a.h", "1600000003.a.h"]
        assert not store.mended


def test_an_empty_one_and_one_that_is_missing(mail: Mail, tmp_path: Path) -> None:
    with mail.opened() as store:
        assert (list(store.sizes), len(store.unique_ids())) == ([], 0)
        store.remove(bytearray())
    mail.path = tmp_path / "none"
    with mail.opened() as store:
        assert list(store.sizes) == []
        assert store.read_only == ""
        store.finish(wait=True)
    with pytest.raises(MaildropUnavailable), mail.opened(missing_is_empty=False):
        pass


def test_what_was_retrieved_is_seen(mail: Mail) -> None:
    """In cur/, with the flags that it had; what was not read to its end stays as it was."""
    mail.deliver(name="1.a.h")
    mail.deliver(name="2.a.h:2,RF", cur=True)
    mail.deliver(name="3.a.h:2,S", cur=True)
    mail.deliver(b"x" * (BLOCK + 1), name="4.a.h")
    with mail.opened() as store:
        for index in range(3):
            octets(store, index)
        next(store.content(3))
        for index in range(3):
            octets(store, index)  # under its new name
    assert mail.there() == {"new": ["4.a.h"], "cur": ["1.a.h:2,S", "2.a.h:2,FRS", "3.a.h:2,S"]}


def test_what_was_retrieved_stays_where_it_was_if_that_is_wanted(mail: Mail) -> None:
    mail.deliver(name="1.a.h")
    with mail.opened(marks_seen=False) as store:
        octets(store, 0)
    assert mail.there() == {"new": ["1.a.h"], "cur": []}


def test_a_message_that_others_rename(mail: Mail) -> None:
    """It is found again by what stays the same of its name: read, removed, and its id the same."""
    names = [mail.deliver(b"%d\n" % number) for number in range(3)]
    with mail.opened() as store:
        for name in names:
            (mail.path / "new" / name).rename(mail.path / "cur" / f"{name}:2,R")
        assert octets(store, 1) == b"1\n"
        assert ids(store) == names
        (mail.path / "cur" / f"{names[2]}:2,R").rename(mail.path / "cur" / f"{names[2]}:2,RF")
        store.remove(bytearray([1, 0, 1]))
    assert mail.there() == {"new": [], "cur": [f"{names[1]}:2,RS"]}


def test_a_message_that_others_remove(mail: Mail) -> None:
    """An error of that message; all others are as they were, and its removal is what was asked for."""
    names = [mail.deliver(b"%d\n" % number) for number in range(3)]
    with mail.opened() as store:
        (mail.path / "new" / names[1]).unlink()
        with pytest.raises(MessageGone, match="message 2 is gone"):
            octets(store, 1)
        assert octets(store, 2) == b"2\n"
        store.remove(bytearray([1, 1, 0]))
    assert mail.there() == {"new": [], "cur": [f"{names[2]}:2,S"]}


@pytest.mark.parametrize("what", ["link", "fifo", "directory"])
def test_a_message_that_others_replace(mail: Mail, what: str) -> None:
    name = mail.deliver()
    with mail.opened() as store:
        path = mail.path / "new" / name
        path.unlink()
        if what == "link":
            path.symlink_to("/etc/passwd")
        elif what == "fifo":
            os.mkfifo(path)
        else:
            path.mkdir()
        with pytest.raises((MessageGone, MaildropUnreadable)):
            octets(store, 0)


def test_mail_that_arrives_is_the_next_sessions(mail: Mail) -> None:
    mail.deliver()
    with mail.opened() as store:
        other = mail.deliver()
        assert len(store.sizes) == 1
        store.remove(bytearray([1]))
    assert mail.there()["new"] == [other]
    with mail.opened() as store:
        assert ids(store) == [other]


def test_two_sessions_at_once(mail: Mail) -> None:
    names = [mail.deliver(b"%d\n" % number) for number in range(4)]
    with mail.opened() as one, mail.opened() as other:
        assert octets(one, 0) == octets(other, 0) == b"0\n"
        one.remove(bytearray([1, 0, 0, 0]))
        assert octets(other, 3) == b"3\n"
        other.remove(bytearray([1, 1, 0, 0]))
        assert octets(one, 2) == b"2\n"
    assert mail.there() == {"new": [], "cur": [f"{name}:2,S" for name in names[2:]]}


# -- sizes


def test_a_size_in_the_name_needs_no_look(mail: Mail) -> None:
    mail.deliver(b"a\nb\n", "1.a.h,S=4,W=6")
    mail.deliver(b"a\nb\n", "2.a.h,S=4")
    with mail.opened() as store:
        assert (list(store.sizes), store.learnt) == ([6, 6], 1)


def test_a_wrong_size_in_the_name_is_told_once(mail: Mail) -> None:
    """To the octet from then on, in later sessions too, as soon as there are so many that it is remembered."""
    for number in range(FEW):
        mail.deliver(b"a\nb\n", f"{number}.a.h,W=99")
    with mail.opened(cached=True) as store:
        assert store.sizes[0] == 99
        for index in range(FEW):
            octets(store, index)
        assert list(store.sizes) == [99] * FEW  # as this session tells them
        assert store.wrong_sizes.startswith("0.a.h,W=99: 6 octets, not 99; 1.a.h")
        assert store.wrong_sizes.endswith(f"; and {FEW - 3} more")
    with mail.opened(cached=True) as store:
        assert (list(store.sizes), store.learnt) == ([6] * FEW, 0)
        octets(store, 0)
        assert store.wrong_sizes == ""


def test_no_message_is_read_twice_for_its_size(mail: Mail) -> None:
    """Nor is one that has been moved since; what is new, or was written to, is."""
    names = [mail.deliver(b"%d\n" % number) for number in range(FEW)]
    with mail.opened(cached=True) as store:
        assert store.learnt == FEW
        octets(store, 0)
    (mail.path / "new" / names[1]).write_bytes(b"another\n")
    mail.deliver(b"more\n")
    with mail.opened(cached=True) as store:
        assert store.learnt == 2
        assert [store.sizes[0], store.sizes[1], store.sizes[FEW]] == [3, 9, 6]
    for path in mail.cache_path.iterdir():
        if path.name != ".key":
            path.unlink()  # POPAD_CACHE may be emptied at any time
    with mail.opened(cached=True) as store:
        assert (store.learnt, store.sizes[1]) == (FEW + 1, 9)


def test_a_file_size_in_the_name_spares_the_look_at_the_file(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(FEW):
        mail.deliver(b"a\nb\n", f"{number}.a.h,S=4")
    with mail.opened(cached=True):
        pass
    monkeypatch.setattr(stores.Maildir, "is_as_remembered", None)
    mail.deliver(b"", "99.a.h")
    with mail.opened(cached=True) as store:
        assert (list(store.sizes)[:FEW], store.learnt) == ([6] * FEW, 1)


def rest(mail: Mail) -> None:
    """Have the directories look as if nothing had happened for a while."""
    for part in ("new", "cur"):
        status = (mail.path / part).stat()
        os.utime(mail.path / part, ns=(status.st_atime_ns, status.st_mtime_ns - 3_000_000_000))


def test_nothing_is_looked_at_where_nothing_has_happened(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of the session before is believed: not one message is looked at, and no name before it is needed; and
    what is wrong of it is mended.
    """
    for number in range(FEW):
        mail.deliver(b"a\nb\n", f"{number}.a.h" + (",W=99" if number == 1 else ""))
    rest(mail)
    with mail.opened(cached=True) as store:
        assert store.learnt == FEW - 1
    with monkeypatch.context() as patched, mail.opened(cached=True, marks_seen=False) as store:
        patched.setattr(Directories, "listing", None)
        assert store.known.packed
        assert (list(store.sizes)[:3], store.learnt, len(ids(store))) == ([6, 99, 6], 0, FEW)
        assert octets(store, 1) == b"a\nb\n"
    with mail.opened(cached=True) as store:
        assert (list(store.sizes), store.learnt, store.wrong_sizes) == ([6] * FEW, 0, "")


@pytest.mark.parametrize("what", ["deliver", "remove", "rename", "replace"])
def test_whatever_happens_to_a_name_is_noticed(mail: Mail, what: str) -> None:
    names = [mail.deliver(b"%d\n" % number) for number in range(FEW + 1)]
    rest(mail)
    with mail.opened(cached=True):
        pass
    path = mail.path / "new" / names[0]
    if what == "deliver":
        names.append(mail.deliver(b"x\n"))
    elif what == "rename":
        path.rename(mail.path / "cur" / f"{names[0]}:2,F")
    else:
        path.unlink()
        if what == "replace":
            mail.deliver(b"x\n", names[0])
        else:
            names.pop(0)
    with mail.opened(cached=True) as store:
        assert ids(store) == names
        assert octets(store, 0) == {"remove": b"1\n", "replace": b"x\n"}.get(what, b"0\n")


def test_limits(mail: Mail) -> None:
    for _ in range(3):
        mail.deliver(b"x\n")
    with mail.opened(max_messages=3, max_octets=9) as store:
        assert len(store.sizes) == 3
    with pytest.raises(MaildropUnavailable, match="more than 2 messages"), mail.opened(max_messages=2):
        pass
    with pytest.raises(MaildropUnavailable, match="9 octets, the limit is 8"), mail.opened(max_octets=8):
        pass


def test_a_message_that_goes_while_its_size_is_learnt(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [mail.deliver() for _ in range(2)]
    usual = stores.Maildir.find_sizes

    def find(self: stores.Maildir, remembered: Iterator[Row | None]) -> None:
        (mail.path / "new" / names[0]).unlink()
        usual(self, remembered)

    monkeypatch.setattr(stores.Maildir, "find_sizes", find)
    with mail.opened() as store:
        assert store.sizes[0] == 0
        with pytest.raises(MessageGone):
            octets(store, 0)
        assert octets(store, 1)


# -- updates


def test_what_cannot_be_removed_is_told(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [mail.deliver() for _ in range(2)]
    usual = os.unlink

    def unlink(path: str, *, dir_fd: int | None = None) -> None:
        if path == names[1]:
            raise PermissionError(13, "no", path)
        usual(path, dir_fd=dir_fd)

    with mail.opened() as store:
        monkeypatch.setattr(os, "unlink", unlink)
        with pytest.raises(MaildropUnavailable) as failure:
            store.remove(bytearray([1, 1]))
        monkeypatch.undo()
    assert failure.value.code == "SYS/PERM"
    assert mail.there()["new"] == [names[1]]


def test_what_is_removed_is_gone_for_good(mail: Mail, monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync(2) of both directories, behind the last one."""
    mail.deliver()
    calls: list[str] = []
    unlink, fsync = os.unlink, os.fsync

    def noted_unlink(path: str, *, dir_fd: int) -> None:
        calls.append("unlink")
        unlink(path, dir_fd=dir_fd)

    def noted_fsync(fd: int) -> None:
        calls.append("fsync")
        fsync(fd)

    monkeypatch.setattr(os, "unlink", noted_unlink)
    monkeypatch.setattr(os, "fsync", noted_fsync)
    with mail.opened() as store:
        store.remove(bytearray([1]))
    assert calls == ["unlink", "fsync", "fsync"]


@pytest.mark.parametrize("call", range(1, 8))
def test_a_session_that_dies_in_the_middle(mail: Mail, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """At any call that changes something (rename, unlink, fsync): what is left is whole, what is gone was marked."""
    names = [mail.deliver(b"%d\n" % number) for number in range(4)]
    if not (pid := os.fork()):
        calls = iter(range(1, 100))

        def dies(usual: Callable[..., object]) -> Callable[..., object]:
            def wrapped(*arguments: object, **more: object) -> object:
                if next(calls) == call:
                    os.kill(os.getpid(), signal.SIGKILL)
                return usual(*arguments, **more)

            return wrapped

        try:
            for name in ("rename", "unlink", "fsync"):
                monkeypatch.setattr(os, name, dies(getattr(os, name)))
            with mail.opened() as store:
                for index in range(3):
                    octets(store, index)
                store.remove(bytearray([1, 1, 0, 0]))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    with mail.opened() as store:
        left = ids(store)
        assert left[-2:] == names[2:]
        assert set(left) <= set(names)
        assert len(left) == 4 - min(max(call - 4, 0), 2)
        assert [octets(store, index) for index in range(len(left))] == [b"%d\n" % names.index(each) for each in left]


@needs_root
def test_a_read_only_one_can_be_read(mail: Mail, tmp_path: Path) -> None:
    name = mail.deliver(b"x\n")

    def read() -> str:
        with mail.opened() as store:
            return octets(store, 0).decode() + store.read_only

    assert as_nobody(tmp_path, read).startswith(f"x\n{mail.path}")
    assert mail.there()["new"] == [name]


# -- histories

STEPS = ["deliver", "deliver", "session", "delete", "retrieve", "rename", "remove", "to cur", "empty cache", "wrong W"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 50)), max_size=25))
def test_any_history(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    """Deliveries, renames, flags, deletions by others, an emptied cache: ids and sizes are those of the messages."""
    mail = Mail(tmp_path_factory.mktemp("history"))
    there: dict[str, bytes] = {}  # by base
    for step, number in steps:
        files = sorted(path for part in ("new", "cur") for path in (mail.path / part).iterdir())
        if step in ("deliver", "wrong W"):
            content = b"line\n" * (number % 7) + b"x" * (number % 3)
            base = f"{1_600_000_000 + mail.number % 5}.{mail.number}.h" + (",W=77" if step == "wrong W" else "")
            there[mail.deliver(content, base)] = content
        elif step == "empty cache":
            for path in mail.cache_path.iterdir():
                path.unlink()
        elif step in ("rename", "remove", "to cur") and files:
            path = files[number % len(files)]
            base = path.name.partition(":")[0]
            if step == "remove":
                path.unlink()
                del there[base]
            elif step == "rename" and path.parent.name == "cur":
                path.rename(path.with_name(base + (":2,R", ":2,", ":2,FS", "")[number % 4]))
            else:
                path.rename(mail.path / "cur" / (base + ":2,"))
        elif step in ("session", "delete", "retrieve"):
            with mail.opened(cached=True) as store:
                said = ids(store)
                assert sorted(said) == sorted(there)
                if said and step == "retrieve":
                    index = number % len(said)
                    assert octets(store, index) == there[said[index]]
                for index, base in enumerate(said):
                    if "W=" not in base:
                        assert store.sizes[index] == len(text(store, index)) if number % 2 else True
                if said and step == "delete":
                    marks = bytearray(len(said))
                    marks[number % len(said)] = 1
                    store.remove(marks)
                    del there[said[number % len(said)]]


@pytest.mark.parametrize("listed", ["1600000001.a:2,", "1600000001.a:1,x", "1600000001.a:2,F"])
def test_two_messages_with_one_base_are_two(mail: Mail, listed: str) -> None:
    """The older keeps its id; nothing that is done to one is done to the other."""
    older = "1600000001.a:2,FS" if "F" in listed else "1600000001.a:2,S"
    mail.deliver(b"one\n", older, cur=True)
    mail.deliver(b"two\n", listed, cur=True)
    os.utime(mail.path / "cur" / older, (1, 1))
    with mail.opened() as store:
        known = ids(store)
        assert known[0] == "1600000001.a"
        assert len(set(known)) == 2
        assert [octets(store, index) for index in range(2)] == [b"one\n", b"two\n"]
        store.remove(bytearray([1, 0]))
    with mail.opened() as store:
        assert ids(store) == known[1:]
        assert octets(store, 0) == b"two\n"


def test_one_message_with_two_names_is_one(mail: Mail) -> None:
    name = mail.deliver(b"one\n")
    os.link(mail.path / "new" / name, mail.path / "cur" / f"{name}:2,S")
    with mail.opened() as store:
        assert len(store.sizes) == 1
    assert mail.there() == {"new": [name], "cur": [f"{name}:2,S"]}


def test_a_message_of_the_same_base_that_comes_meanwhile(mail: Mail) -> None:
    """It is not overwritten by marking the other as seen, nor read or removed in its place."""
    mail.deliver(b"one\n", "1600000001.a")
    mail.deliver(b"gone\n", "1600000002.b")
    with mail.opened() as store:
        mail.deliver(b"another one\n", "1600000001.a:2,S", cur=True)
        assert octets(store, 0) == b"one\n"
        (mail.path / "new" / "1600000002.b").unlink()
        mail.deliver(b"another gone\n", "1600000002.b:2,S", cur=True)
        with pytest.raises(MessageGone):
            octets(store, 1)
        store.remove(bytearray([1, 1]))
    with mail.opened() as store:
        assert [octets(store, index) for index in range(2)] == [b"another one\n", b"another gone\n"]


def test_names_whose_times_are_the_same_number(mail: Mail) -> None:
    for name in ("3.x:2,S", "03.x:2,F", "003.x"):
        mail.deliver(name.encode(), name, cur=":" in name)
    for _ in range(2):
        with mail.opened() as store:
            assert {ids(store)[index]: text(store, index) for index in range(3)} == {
                "3.x": b"3.x:2,S\r\n",
                "03.x": b"03.x:2,F\r\n",
                "003.x": b"003.x\r\n",
            }


@pytest.mark.parametrize("seconds", [9_300_000_000, -9_000_000])
def test_a_time_of_change_that_nobody_expects(mail: Mail, seconds: int) -> None:
    """Behind the year 2262, and before 1970: remembered as any other."""
    for number in range(FEW):
        name = mail.deliver(b"%d\n" % number)
        os.utime(mail.path / "new" / name, ns=(0, seconds * 10**9))
    with mail.opened(cached=True) as store:
        assert text(store, 3) == b"3\r\n"
    with mail.opened(cached=True) as store:
        assert store.learnt == 0
        assert [len(text(store, index)) for index in range(FEW)] == list(store.sizes)


def test_sizes_are_the_same_for_a_whole_session(mail: Mail) -> None:
    mail.deliver(b"hello\n", "1600000001.a,W=0")
    with mail.opened() as store:
        octets(store, 0)
        assert (list(store.sizes), store.wrong_sizes) == ([0], "1600000001.a,W=0: 7 octets, not 0")


def test_what_cannot_be_removed_keeps_no_other(mail: Mail) -> None:
    names = [mail.deliver(b"%d\n" % number) for number in range(3)]
    with mail.opened() as store:
        (mail.path / "new" / names[1]).unlink()
        (mail.path / "new" / names[1]).mkdir()
        with pytest.raises(MaildropUnavailable):
            store.remove(bytearray([1, 1, 1]))
    assert mail.there()["new"] == [names[1]]


@pytest.mark.parametrize("removes", [True, False])
def test_a_listing_that_has_neither_name(mail: Mail, monkeypatch: pytest.MonkeyPatch, removes: bool) -> None:
    """As where a file is renamed while the directory is read: it is looked for again, and is not taken for gone."""
    name = mail.deliver(b"one\n")
    with mail.opened() as store:
        (mail.path / "new" / name).rename(mail.path / "cur" / f"{name}:2,F")
        whole = store.directories.listing
        answers: list[tuple[list[str], set[str]]] = [([], set()), ([], set())]
        monkeypatch.setattr(store.directories, "listing", lambda most: answers.pop() if answers else whole(most))
        if removes:
            store.remove(bytearray([1]))
            assert mail.there() == {"new": [], "cur": []}
        else:
            assert octets(store, 0) == b"one\n"
        assert not answers


def test_a_message_that_is_gone_stays_where_it_was_known(mail: Mail) -> None:
    """It is looked for once where nobody renames anything, not again under another directory."""
    name = mail.deliver(b"one\n")
    mail.deliver(b"two\n")
    with mail.opened() as store:
        (mail.path / "new" / name).unlink()
        for part in ("new", "cur"):
            os.utime(mail.path / part, (1, 1))  # at rest
        assert store.find_again()
        assert list(store.in_new) == [1, 1]


def test_a_renamed_message_whose_time_of_change_is_another_than_remembered(mail: Mail) -> None:
    """As behind a restored backup: the size in the name was believed, so the time says nothing."""
    for number in range(FEW):
        mail.deliver(b"one\n", f"16000000{number:02}.a,S=4")
    with mail.opened(cached=True):
        pass
    for path in (mail.path / "new").iterdir():
        os.utime(path, (1, 1))
    mail.deliver(b"two\n", "1700000000.b,S=4")
    with mail.opened(cached=True) as store:
        assert store.learnt == 1
        (mail.path / "new" / "1600000000.a,S=4").rename(mail.path / "cur" / "1600000000.a,S=4:2,F")
        assert octets(store, 0) == b"one\n"


def test_a_message_that_is_read_ahead(tmp_path: Path) -> None:
    """It is marked when there is time, and mended if its name has a wrong size."""
    mail = Mail(tmp_path)
    for number in (1, 2, 3):
        mail.deliver(b"Subject: x\n\nx\n", f"160000000{number}.a,W=99")
    with mail.opened() as store:
        assert store.prefetch(0) == b"Subject: x\n\nx\n"
        assert store.still_valid()
        assert mail.there()["cur"] == []
        store.prefetch(1)
        assert mail.there()["cur"] == ["1600000001.a,W=99:2,S"]
        assert store.still_valid()
        store.finish(wait=False)
        assert mail.there()["cur"] == ["1600000001.a,W=99:2,S", "1600000002.a,W=99:2,S"]
        assert "1600000002.a" in store.wrong_sizes
        assert store.prefetch(2)
        assert store.still_valid()
        store.remove(bytearray([0, 0, 1]))
    assert mail.there() == {"new": [], "cur": ["1600000001.a,W=99:2,S", "1600000002.a,W=99:2,S"]}


@pytest.mark.parametrize("content", [b"x" * (BLOCK + 1), b""], ids=["too large", "empty"])
def test_what_is_not_read_ahead(tmp_path: Path, content: bytes) -> None:
    mail = Mail(tmp_path)
    mail.deliver(content)
    with mail.opened() as store:
        assert store.prefetch(0) == b""
        assert b"".join(store.content(0)) == content


def test_a_message_that_goes_before_it_is_marked(tmp_path: Path) -> None:
    mail = Mail(tmp_path)
    name = mail.deliver()
    with mail.opened() as store:
        store.prefetch(0)
        store.still_valid()
        (mail.path / "new" / name).unlink()
        store.finish(wait=False)
        with pytest.raises(MessageGone):
            store.prefetch(0)
    assert mail.there() == {"new": [], "cur": []}
