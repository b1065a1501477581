"""maildrop/mbox/header_ids.py: ids that another server has left in headers, and that they are believed once."""

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popad.errors import MaildropUnreadable
from popad.maildrop import id_list, sealed
from popad.maildrop.maildrop import is_id
from popad.maildrop.mbox import header_ids, ids
from popad.maildrop.mbox.header_ids import of_dovecot, of_qpopper
from popad.maildrop.mbox.store import LARGE, Mbox
from popad.maildrop.private import PrivateFiles
from popad.maildrop.uidl import header_pieces
from popad.values import DOVECOTS_FORMAT
from tests.support.box import Box, marks

QPOPPER = "qpopper", ""
DOVECOT = "dovecot", DOVECOTS_FORMAT
OLD, NEW = "0123456789abcdef0123456789abcdef", '5"!!Oj"!<$T"!8D["!~x'


def message(number: int, *header: str) -> bytes:
    lines = "".join(f"{line}\n" for line in (*header, f"Date: {number}"))
    return f"From m Thu Jan  1 00:00:01 1970\n{lines}\nbody {number}\n\n".encode()


def pieces(*headers: str) -> list[list[bytes]]:
    return [list(header_pieces([header.encode()])) for header in headers]


@pytest.fixture
def box(tmp_path: Path, still_clock: None) -> Iterator[Box]:
    box = Box(tmp_path, None)
    yield box
    box.close()


def shown(store: Mbox) -> list[str]:
    listed = store.unique_ids()
    return [listed[index] for index in range(len(listed))]


# -- what a header says


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (f"X-UIDL: {OLD}\n\n", OLD),
        (f"X-UIDL:{NEW}\r\n\r\n", NEW),
        (f"Status: RO\nx-uidl: \t {OLD} \n\n", OLD),
        (f"X-UIDL: {OLD}", OLD),
        (f"X-UIDL: {'x' * 10}\nX-UIDL: {OLD}\nX-UIDL: {NEW}\n\n", OLD),
        (f"X-UIDL: {'x' * 33}\n\n", ""),
        (f"X-UIDL: {'x' * 11}\n\n", "x" * 11),
        (f"Subject: x\n X-UIDL: {OLD}\n\n", ""),
        (f"Subject: x\n\nX-UIDL: {OLD}\n\n", ""),
        (f"X-UIDL:\n {OLD}\n\n", ""),
        ("X-UIDL: two words in it\n\n", "two words in it"),
        ("\n", ""),
    ],
)
def test_qpoppers(header: str, said: str) -> None:
    assert list(of_qpopper(pieces(header))) == [said]


def dovecots(*headers: str, template: str = "%u-%v") -> list[str]:
    return list(of_dovecot(pieces(*headers), template))


BASE = "X-IMAPbase: 1795845088 0000000009\n"


def test_dovecots() -> None:
    first = f"Status: RO\n{BASE}X-UID: 2     \n\n"
    assert dovecots(first, "x-uid:3\n\n", "Subject: x\n\n", "X-UID: 9\n\n") == [
        "2-1795845088",
        "3-1795845088",
        "",
        "9-1795845088",
    ]
    assert dovecots(first, template=DOVECOTS_FORMAT) == ["000000026b0a6be0"]
    assert dovecots(first, template="%08Xv%08Xu") == ["6b0a6be000000002"]  # UW ipop3d


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (("X-UID: 1\n\n",), [""]),  # no validity
        (("X-IMAPbase: x 9\nX-UID: 1\n\n",), [""]),
        (("X-IMAPbase: 7\nX-UID: 1\n\n",), [""]),
        (("X-IMAPbase: 0 9\nX-UID: 1\n\n",), [""]),
        ((f"X-UID: 1\n{BASE}X-UID: 2\n\n",), ["2-1795845088"]),  # none before it
        ((f"{BASE}X-IMAPbase: 7 99\nX-UID: 10\nX-UID: 1\n\n",), ["1-1795845088"]),  # larger than the last one
        (("Subject: x\n\n", f"{BASE}X-UID: 1\n\n"), ["", ""]),  # not in the first
        ((f"{BASE}X-UID: 4\n\n", "X-UID: 4\n\n", "X-UID: 3\nX-UID: 5\n\n"), ["4-1795845088", "", "5-1795845088"]),
        ((f"{BASE}X-UID: 1x\n\n", "X-UID: -1\n\n", "X-UID: 99999999999\n\n"), ["", "", ""]),
        (("X-IMAP: 7 9 Junk\nX-UID: 1\n\n",), ["1-7"]),
    ],
)
def test_numbers_that_the_server_cannot_have_given(headers: Sequence[str], said: list[str]) -> None:
    assert dovecots(*headers) == said


def test_what_a_format_of_maildirs_says() -> None:
    assert dovecots(f"{BASE}X-UID: 1\n\n", template="%f") == [""]
    assert dovecots(f"{BASE}X-UID: 1\n\n", template="%u.%g") == [""]


@given(st.lists(st.binary(max_size=60).map(lambda octets: [b"X-UID" + octets, octets]), max_size=5))
def test_any_octets(headers: list[list[bytes]]) -> None:
    cut = [list(header_pieces(blocks)) for blocks in headers]
    assert len(list(of_qpopper(cut))) == len(list(of_dovecot(cut, "%u"))) == len(headers)


# -- believed once


def test_the_first_listing_makes_the_list(box: Box) -> None:
    box.append(message(1, f"X-UIDL: {OLD}"), message(2), message(3, f"X-UIDL: {NEW}"))
    own = shown(box.open())
    assert shown(box.open(former=QPOPPER)) == [OLD, own[1], NEW]
    assert id_list.of_mbox(box.files) == {own[0]: OLD, own[2]: NEW}
    assert shown(box.open()) == [OLD, own[1], NEW], "it counts without the setting"


def test_headers_are_not_read_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two messages with one id: the second does not get it when the first is gone. And nobody can forge one later."""
    box.append(message(1, f"X-UIDL: {OLD}"), message(2, f"X-UIDL: {OLD}"))
    own = shown(box.open())
    store = box.open(former=QPOPPER)
    assert shown(store) == [OLD, own[1]]
    store.remove(marks(store, 1))
    box.append(message(3, f"X-UIDL: {NEW}"), message(4, f"X-UIDL: {OLD}"))
    third, fourth = shown(box.open())[1:]
    assert shown(box.open(former=QPOPPER)) == [own[1], third, fourth]
    assert not {third, fourth} & {OLD, NEW}
    monkeypatch.setattr(header_ids, "said", None)
    assert shown(box.open(former=QPOPPER)) == [own[1], third, fourth]


def test_what_comes_into_an_empty_mailbox_is_not_believed(box: Box) -> None:
    box.append(b"")
    assert shown(box.open(former=QPOPPER)) == []
    box.append(message(1, f"X-UIDL: {OLD}"))
    assert shown(box.open(former=QPOPPER)) == shown(box.open()) != [OLD]


def test_a_mailbox_that_is_not_there_yet(box: Box) -> None:
    """It may still be moved here."""
    assert shown(box.open(former=QPOPPER)) == []
    box.append(message(1, f"X-UIDL: {OLD}"))
    assert shown(box.open(former=QPOPPER)) == [OLD]


def test_a_list_that_is_there_counts(box: Box) -> None:
    box.append(message(1, f"X-UIDL: {OLD}"))
    id_list.store_for_mbox(box.files, {})
    assert shown(box.open(former=QPOPPER)) == shown(box.open()) != [OLD]


def test_two_sessions_make_one_list(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is quicker, and has seen a message more."""
    box.append(message(1, f"X-UIDL: {OLD}"))
    early = box.open(former=QPOPPER)
    said = header_ids.said
    lists: list[list[str]] = []

    def slow(mbox: Mbox, former: tuple[str, str]) -> Iterator[str]:
        found = list(said(mbox, former))
        if mbox is early and not lists:
            box.append(message(2, f"X-UIDL: {NEW}"))
            lists.append(shown(box.open(former=QPOPPER)))
            found = ["x" * 20]  # what it would have said
        return iter(found)

    monkeypatch.setattr(header_ids, "said", slow)
    assert shown(early) == [OLD]
    assert lists == [[OLD, NEW]] == [shown(box.open())]


def test_what_is_read_while_others_write_is_read_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.append(message(1, f"X-UIDL: {OLD}"))
    said = header_ids.said
    times = []

    def touched(mbox: Mbox, former: tuple[str, str]) -> Iterator[str]:
        times.append(1)
        if len(times) == 1:
            box.append(message(2))
            return iter(["x" * 20])
        return said(mbox, former)

    monkeypatch.setattr(header_ids, "said", touched)
    assert shown(box.open(former=QPOPPER)) == [OLD]
    assert len(times) == 2


def test_a_full_disk(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail is listed, an administrator hears of it, and the next listing tries again."""
    box.append(message(1, f"X-UIDL: {OLD}"))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(id_list, "store_for_mbox", full)
        store = box.open(former=QPOPPER)
        assert shown(store) == [OLD]
        assert store.trouble == "the list of ids: [Errno 28] No space left on device"
    assert id_list.of_mbox(box.files) == {}
    store = box.open(former=QPOPPER)
    assert (shown(store), store.trouble) == ([OLD], "")
    assert list(id_list.of_mbox(box.files).values()) == [OLD]


def test_no_list_is_made_of_ids_that_may_change(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which of two twins has which of popad's own could not be written down."""
    twin = message(1, f"X-UIDL: {OLD}")
    box.append(twin, twin.replace(OLD.encode(), NEW.encode()))
    create = sealed.create

    def full(files: PrivateFiles, name: str) -> int:
        if name.endswith(f"{ids.SUFFIX}{sealed.NEW}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return create(files, name)

    with monkeypatch.context() as broken:
        broken.setattr(sealed, "create", full)
        store = box.open(former=QPOPPER)
        assert shown(store) == [OLD, NEW]
        assert store.trouble
    assert not box.files.directory.has(box.files.list)


def test_a_mailbox_that_cannot_be_looked_at(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.append(message(1, f"X-UIDL: {OLD}"))
    store = box.open(former=QPOPPER)
    monkeypatch.setattr(store, "looks_different", lambda: (_ for _ in ()).throw(OSError(5, "unreadable")))
    with pytest.raises(MaildropUnreadable):
        store.unique_ids()
    assert not box.files.directory.has(box.files.list)


def test_the_first_message_has_the_validity(box: Box) -> None:
    box.append(b"")
    assert shown(box.open(former=DOVECOT)) == []
    box.fill(message(1, "X-IMAPbase: 1795845088 0000000009", "X-UID: 4") + message(2, "X-UID: 5"))
    assert shown(box.open(former=DOVECOT)) == ["000000046b0a6be0", "000000056b0a6be0"]


def test_internal_data_has_the_validity(box: Box) -> None:
    """c-client's first message, which is none."""
    internal = (
        b"From MAILER-DAEMON Thu Jan  1 00:00:01 1970\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n"
        b"X-IMAP: 1795845088 0000000009\nStatus: RO\n\nx\n\n"
    )
    box.append(internal, message(1, "X-UID: 4"), message(2, "X-IMAPbase: 7 99", "X-UID: 5"))
    assert shown(box.open(former=DOVECOT)) == ["000000046b0a6be0", "000000056b0a6be0"]
    box.fill(internal + message(1, "X-UID: 4"))
    assert shown(box.open(former=DOVECOT)) == ["000000046b0a6be0"]


def test_a_mailbox_that_is_remembered(tmp_path: Path, still_clock: None) -> None:
    """Its messages are looked at before their headers are believed."""
    box = Box(tmp_path, message(1, f"X-UIDL: {OLD}") + message(2, f"X: {'x' * LARGE}", f"X-UIDL: {NEW}"), cached=True)
    box.learn()
    store = box.open(former=QPOPPER)
    assert store.messages.remembered
    assert shown(store) == [OLD, NEW]
    box.close()


@given(st.lists(st.sampled_from([OLD, NEW, "two words in it", ""]), max_size=6))
def test_ids_of_all_messages(said: list[str]) -> None:
    """Those of the list are fit and different, and who has none is told why."""
    own = [f"own-{index}" for index in range(len(said))]
    given, why = id_list.of_messages(own, said)
    assert len(set(given.values())) == len(given)
    assert all(map(is_id, given.values()))
    assert {own.index(each) for each in given} | why.keys() == set(range(len(said)))
    assert not {own.index(each) for each in given} & why.keys()
    for index, reason in why.items():
        assert ("no id" in reason) == (not said[index]), reason
        if said[index] in (OLD, NEW):
            assert reason == f"message {said.index(said[index]) + 1} has the same id, {said[index]}"
