"""maildrop/mbox/ids.py: what is remembered of unique-ids, in its file, with two sessions, deaths and full disks.

Whole histories are in tests/uids.
"""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from popad.errors import MaildropUnavailable, MaildropUnreadable
from popad.maildrop import sealed, uidl
from popad.maildrop.mbox import copying, ids, twins, update
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.private import KEY
from tests.support.box import Box, marks

# The example of a real client: dma delivers two different messages within a second, and no header tells them apart.
SDA = b"From m Thu Jan  1 00:00:01 1970\nDate: 1\nSubject: sda\n\nfull\n\n"
SDB = SDA.replace(b"sda", b"sdb")
OTHER = b"From m Thu Jan  1 00:00:01 1970\nDate: 2\n\nbody\n\n"
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
POPA3D = 0xE3ADA8857FE9EBCF  # of SDA and SDB


@pytest.fixture
def box(tmp_path: Path, still_clock: None) -> Iterator[Box]:
    box = Box(tmp_path, None)
    yield box
    box.close()


def test_an_id_does_not_pass_on_to_a_twin(box: Box) -> None:
    """Complaint: a client that leaves mail on the server says "no new messages", and deletes what it never fetched."""
    box.append(SDA)
    assert box.unique_ids() == [POPA3D]
    box.append(SDB)
    box.delete(1)
    (left,) = box.unique_ids()
    assert left != POPA3D
    assert box.unique_ids() == [left]


def test_neither_to_one_that_comes_later(box: Box) -> None:
    box.append(SDA)
    box.delete(1)
    box.append(SDB)
    assert box.unique_ids() != [POPA3D]


def test_the_second_may_go(box: Box) -> None:
    box.append(SDA, SDB, SDB)
    _, second, third = box.unique_ids()
    box.delete(2)
    assert box.unique_ids() == [POPA3D, third]
    box.append(SDB)
    assert set(box.unique_ids()[2:]).isdisjoint({POPA3D, second, third})


def test_a_mail_reader_removes_the_first_of_those_that_were_listed(box: Box) -> None:
    box.append(SDA, SDB)
    _, second = box.unique_ids()
    box.path.write_bytes(SDB)
    assert box.unique_ids() == [second]


def test_distinct_messages_write_nothing(box: Box) -> None:
    box.append(SDA, OTHER)
    assert box.unique_ids() == box.unique_ids()
    assert not box.ids.exists()


def test_what_depends_on_it_is_durable_first(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def watched(name: str) -> Callable[..., None]:
        real = getattr(os, name)

        def call(*arguments: object, **more: object) -> None:
            calls.append(name)
            real(*arguments, **more)

        return call

    for name in ("fsync", "rename", "ftruncate"):
        monkeypatch.setattr(os, name, watched(name))
    box.append(SDA, SDB)
    box.unique_ids()
    assert calls == ["fsync", "rename", "fsync"]
    calls.clear()
    box.delete(2)
    assert calls[:4] == ["fsync", "rename", "fsync", "ftruncate"]


# -- updates that do not happen


@pytest.mark.parametrize("appended", [b"", OTHER, SDB])
@pytest.mark.parametrize("listed", [False, True])
def test_an_update_that_fails_takes_nothing(
    box: Box, monkeypatch: pytest.MonkeyPatch, appended: bytes, listed: bool
) -> None:
    box.append(SDA, SDB, OTHER)
    before = box.unique_ids() if listed else []
    with monkeypatch.context() as patch:
        patch.setattr(update, "remove", fails)
        with pytest.raises(MaildropUnavailable):
            box.delete(1, 2)
    box.append(appended)
    after = box.unique_ids()
    assert after[0] == POPA3D
    assert not listed or after[:3] == before
    box.delete(1)
    assert box.unique_ids() == after[1:]


def fails(*_: object, **__: object) -> None:
    raise FULL


@pytest.mark.parametrize("appended", [b"", OTHER * 9, SDB * 9])
def test_an_update_counts_though_nobody_has_said_that_it_has_happened(
    box: Box, monkeypatch: pytest.MonkeyPatch, appended: bytes
) -> None:
    """The session died behind it, or the power went."""
    box.append(OTHER, SDA, SDB)
    (*_, last) = box.unique_ids()
    with monkeypatch.context() as patch:
        patch.setattr(ids.Ids, "done", lambda self: None)
        box.delete(2)
    box.append(appended)
    assert box.unique_ids()[1] == last
    assert POPA3D not in box.unique_ids()


@pytest.mark.parametrize("asks", [False, True])
def test_a_session_beside_an_update_that_died_before_it_moved_anything(
    box: Box, monkeypatch: pytest.MonkeyPatch, asks: bool
) -> None:
    """To that session the mailbox is what it was: it must not write over what the update takes, which comes yet."""
    box.append(SDA, OTHER, *(OTHER + b"twin\n\n",) * asks)
    beside, dying = box.open(), box.open()
    with monkeypatch.context() as patch:
        patch.setattr(update, "copy", fails)
        patch.setattr(update, "write", dies_of_a_window(copying.write, dying))
        with pytest.raises(MaildropUnavailable):
            dying.remove(marks(dying, 1))
    assert box.path.stat().st_size == beside.messages.end
    with pytest.raises(MaildropUnreadable if asks else MaildropUnavailable, match="not been finished"):
        if asks:
            beside.id_numbers()
        else:
            beside.remove(marks(beside, 2))
    after = box.open()
    assert after.recovery
    assert after.recovery.finished
    box.append(SDB)
    assert POPA3D not in box.unique_ids()


def dies_of_a_window(write: Callable[..., None], store: Mbox) -> Callable[..., None]:
    """rewrite.write() that cannot write a window into the mailbox. (The octet that it looks for room with is one.)"""

    def dies(fd: int, data: bytes, place: int) -> None:
        if fd == store.fd and len(data) > 1:
            fails()
        write(fd, data, place)

    return dies


def test_the_same_octets_again_are_another_message(box: Box) -> None:
    """Whoever has removed them has said so."""
    box.append(SDA)
    box.delete(1)
    box.append(SDA)
    assert box.unique_ids() != [POPA3D]


# -- two sessions


def test_mail_that_a_session_does_not_know_keeps_its_ids(box: Box) -> None:
    """A session lists what was there when it began. What it writes must not take from those that came later."""
    box.append(OTHER, OTHER)
    early = box.open()
    box.append(SDA, SDB, SDB)
    before = box.unique_ids()
    box.delete(5)
    assert list(early.id_numbers()) == before[:2]
    assert box.unique_ids() == before[:4]


def test_a_listing_is_made_again_when_another_session_has_written(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.append(SDA, SDB)
    store = box.open()
    real = Mbox.alone
    others = []

    def alone(self: Mbox, work: Callable[[], bool]) -> bool:
        monkeypatch.setattr(Mbox, "alone", real)
        others.append(box.unique_ids())
        return self.alone(work)

    monkeypatch.setattr(Mbox, "alone", alone)
    assert list(store.id_numbers()) == others[0]


def test_a_mailbox_that_may_only_be_read(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only file system: the lock is one that two may have."""
    box.append(SDA, SDB)
    store = box.open()
    store.fd = os.open(box.path, os.O_RDONLY)
    with box.path.open() as reader:
        fcntl.lockf(reader, fcntl.LOCK_SH)
        first = list(store.id_numbers())
    assert box.unique_ids() == first
    assert box.ids.exists()
    os.close(store.fd)


# -- a file that cannot be written, or is not believed


def test_a_full_disk_keeps_nobody_from_mail(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.append(SDA, SDB)
    with monkeypatch.context() as patch:
        patch.setattr(sealed, "store", fails)
        store = box.open()
        listed = list(store.id_numbers())
        assert len(set(listed)) == 2
        assert not store.messages.ids  # no index may rely on them
        store.remove(marks(store, 1))
        assert "No space left" in store.trouble
    assert box.path.read_bytes() == SDB
    assert "No space" not in box.open().trouble


def test_an_update_may_make_the_room(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.append(SDA, SDB)
    (_, second) = box.unique_ids()
    real = sealed.store
    done: list[bool] = []

    def store(*arguments: Any, **more: Any) -> None:
        if not done:
            raise FULL
        real(*arguments, **more)

    def remove(*arguments: Any) -> None:
        real_remove(*arguments)
        done.append(True)

    real_remove = update.remove
    with monkeypatch.context() as patch:
        patch.setattr(sealed, "store", store)
        patch.setattr(update, "remove", remove)
        assert not box.delete(1).trouble
    assert box.unique_ids() == [second]
    box.append(SDA)
    assert POPA3D not in box.unique_ids()


@pytest.mark.parametrize("how", ["damaged", "cut", "empty", "open to others"])
def test_what_is_not_believed_is_said(box: Box, how: str) -> None:
    box.append(SDA, SDB)
    box.unique_ids()
    whole = box.ids.read_bytes()
    if how == "open to others":
        box.ids.chmod(0o666)
    else:
        box.ids.write_bytes({"damaged": whole[:-9] + b"?" + whole[-8:], "cut": whole[:-1], "empty": b""}[how])
    store = box.open()
    store.id_numbers()
    assert store.trouble
    again = box.open()
    again.id_numbers()
    assert not again.trouble


def test_what_cannot_be_read_now(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither listed nor removed: what is there would be lost."""
    box.append(SDA, SDB)
    real = sealed.load

    def load(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sealed, "load", load)
    with pytest.raises(MaildropUnreadable):
        box.unique_ids()
    with pytest.raises(MaildropUnavailable):
        box.delete(1)
    assert box.path.read_bytes() == SDA + SDB
    monkeypatch.setattr(sealed, "load", real)
    assert box.unique_ids()[0] == POPA3D


# -- how much


def message(number: int) -> bytes:
    return b"From m\nDate: %d\n\nbody\n\n" % number


def test_the_file_stays_small(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "MOST", 20)
    box.append(message(0), message(0))
    ids_there = box.unique_ids()
    sizes = []
    for number in range(40):
        box.append(*(message(1000 * number + each) for each in range(1, 6)))
        if number % 3:
            box.unique_ids()
        box.delete(3, 4, 5, 6, 7)
        sizes.append(box.ids.stat().st_size)
        assert box.unique_ids()[:2] == ids_there
    assert max(sizes) <= ids.HEADER + sealed.DIGEST + ids.NUMBER * 5 * 20 * 3
    box.delete(1, 2)
    assert max(sizes) >= box.ids.stat().st_size


def test_of_an_update_of_all_mail_the_last_are_looked_at(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twins, "MOST", 20)
    box.append(*map(message, range(100)))
    with monkeypatch.context() as patch:
        looked = headers_looked_at(patch)
        box.delete(*range(1, 101))
    assert looked == list(range(80, 100))
    box.append(message(99), message(1))
    assert [unique_id == first for unique_id, first in zip(box.unique_ids(), popa3ds(99, 1), strict=True)] == [
        False,
        True,
    ]


def headers_looked_at(patch: pytest.MonkeyPatch) -> list[int]:
    looked: list[int] = []
    real = Mbox.header_number

    def header_number(self: Mbox, index: int) -> int:
        looked.append(index)
        return real(self, index)

    patch.setattr(Mbox, "header_number", header_number)
    return looked


def popa3ds(*numbers: int) -> list[int]:
    return [uidl.number_of(uidl.header_digest([b"Date: %d\n" % number])) for number in numbers]


def test_an_update_looks_at_what_it_removes(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    box.append(*map(message, range(100)))
    looked = headers_looked_at(monkeypatch)
    box.delete(1, 50)
    assert looked == [0, 49]
    left = {path.suffix or path.name for path in box.ids.parent.iterdir()}
    assert left - {".reserve"} == {ids.SUFFIX, KEY, ".spare"}
