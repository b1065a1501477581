"""commands/known_ids.py: what clients know of one maildrop by what a server has left there, and what popad lists."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.commands import known_ids
from popad.commands.known_ids import NOT_NEEDED, NOT_WRITTEN, UNCHANGED, WRITTEN, Drop, Found, Host, by_traces
from popad.errors import MaildropChanged, MaildropUnavailable, MaildropUnreadable, MessageGone
from popad.maildrop import id_list
from popad.maildrop.id_list import UNKNOWN
from popad.maildrop.mbox import header_ids
from popad.maildrop.mbox.store import Mbox
from popad.settings import Settings
from popad.values import DOVECOTS_FORMAT
from tests.support.box import Box
from tests.support.maildirs import Mail

SERVERS = ("qpopper", "dovecot", "courier", "popa3d")
QPOPPER, DOVECOT, COURIER, POPA3D = ((server, DOVECOTS_FORMAT) for server in SERVERS)
OLD, NEW = "0123456789abcdef0123456789abcdef", '5"!!Oj"!<$T"!8D["!~x'


def message(number: int, *header: str, date: int | None = None) -> bytes:
    lines = "".join(f"{line}\n" for line in (*header, f"Date: {number if date is None else date}"))
    return f"From m Thu Jan  1 00:00:01 1970\n{lines}\nbody {number}\n\n".encode()


@pytest.fixture
def box(tmp_path: Path, still_clock: None) -> Iterator[Box]:
    box = Box(tmp_path, None)
    yield box
    box.close()


def host(place: Path, **more: str) -> Host:
    given = {"STATE": f"{place}/state", "CACHE": ""} | more
    return Host(Settings({f"POPAD_{name}": value for name, value in given.items()}))


def looked(place: Path, former: tuple[str, str], *, dry_run: bool = False, maildrop: str = "") -> Found:
    return by_traces(maildrop or f"mbox:{place}/mailbox", host(place), former, dry_run, lambda done, of: None)


def shown(box: Box) -> list[str]:
    listed = box.open().unique_ids()
    return [listed[index] for index in range(len(listed))]


def test_a_list_is_made_of_headers(box: Box, tmp_path: Path) -> None:
    box.append(
        message(1, f"X-UIDL: {OLD}"),
        message(2, f"X-UIDL: {NEW}"),
        message(3),
        message(4, f"X-UIDL: {OLD}"),
        message(5, "X-UIDL: not an id at all"),
    )
    own = shown(box)
    for dry_run, what in ((True, NOT_WRITTEN), (False, WRITTEN), (False, UNCHANGED), (True, UNCHANGED)):
        found = looked(tmp_path, QPOPPER, dry_run=dry_run)
        assert (found.messages, found.stay, found.new, found.missing, found.list) == (5, 2, 0, [], what)
        assert found.change == [
            (3, own[2], UNKNOWN),
            (4, own[3], f"message 1 has the same id, {OLD}"),
            (5, own[4], "'not an id at all' is not fit for the protocol"),
        ]
        assert shown(box) == (own if what == NOT_WRITTEN else [OLD, NEW, *own[2:]])


def test_an_id_of_popads_own_does_not_pass_on(box: Box, tmp_path: Path) -> None:
    """Not to a message whose sender has written the id of another into its header, when a list is made once more."""
    box.append(message(1, f"X-UIDL: {OLD}"), message(2))
    looked(tmp_path, QPOPPER)
    before = shown(box)
    box.append(message(3, f"X-UIDL: {before[1]}"))
    before = shown(box)
    assert looked(tmp_path, QPOPPER).list == UNCHANGED
    assert shown(box) == before


def test_dovecots_headers(box: Box, tmp_path: Path) -> None:
    box.append(message(1, "X-IMAPbase: 9 7", "X-UID: 5"), message(2), message(3, "X-UID: 7"))
    found = looked(tmp_path, DOVECOT)
    assert (found.stay, [row[0] for row in found.change]) == (2, [2])
    assert shown(box)[::2] == ["0000000500000009", "0000000700000009"]


def test_mail_that_has_come_behind_the_last_session_is_new(box: Box, tmp_path: Path) -> None:
    """Unless nothing has an id: then the server has left none."""
    box.append(message(1, f"X-UIDL: {OLD}"), message(2), message(3, f"X-UIDL: {NEW}"), message(4), message(5))
    found = looked(tmp_path, QPOPPER)
    assert (found.stay, found.new, [row[0] for row in found.change]) == (2, 2, [2])
    box.fill(message(1) + message(2))
    found = looked(tmp_path, QPOPPER)
    assert (found.new, [row[0] for row in found.change]) == (0, [1, 2])


def test_once_more_while_the_old_server_serves(box: Box, tmp_path: Path) -> None:
    """Mail has come, and a message has gone whose id somebody else claims now."""
    box.append(message(1, f"X-UIDL: {OLD}"), message(2, f"X-UIDL: {NEW}"))
    looked(tmp_path, QPOPPER)
    box.delete(1)
    box.append(message(3, "X-UIDL: third-of-them"), message(4, f"X-UIDL: {OLD}"))
    found = looked(tmp_path, QPOPPER)
    assert (found.stay, found.list) == (2, WRITTEN)
    assert [(number, why) for number, _, why in found.change] == [(3, f"a message that is gone had {OLD}")]
    assert shown(box)[:2] == [NEW, "third-of-them"]
    assert OLD not in shown(box)
    assert OLD in id_list.of_mbox(box.files).values()


def test_popads_own_id_of_another_message_may_be_the_same(box: Box, tmp_path: Path) -> None:
    """Clients know the one that has it from before."""
    box.append(message(1), message(2))
    own = shown(box)
    box.fill(message(1) + message(2, f"X-UIDL: {own[0]}"))
    found = looked(tmp_path, QPOPPER)
    assert (found.stay, [row[0] for row in found.change]) == (1, [1])
    assert shown(box)[1] == own[0] != shown(box)[0]


def test_popa3d(box: Box, tmp_path: Path) -> None:
    """Twins, and messages without the headers that its ids are made of."""
    box.append(message(1), message(2), message(3, date=2), b"From m Thu Jan  1 00:00:01 1970\nSubject: x\n\nx\n\n")
    found = looked(tmp_path, POPA3D)
    assert (found.messages, found.stay, found.list) == (4, 2, NOT_NEEDED)
    assert [(number, why) for number, _, why in found.change] == [
        (3, f"message 2 has the same id, {shown(box)[1]}"),
        (4, "it has none of the header lines that popa3d makes an id of"),
    ]
    first = shown(box)[0]
    box.delete(1)
    box.append(message(5, date=1))
    found = looked(tmp_path, POPA3D)
    assert (4, f"another message had {first}") in [(number, why) for number, _, why in found.change]
    assert not box.files.directory.has(box.files.list)


def test_a_maildir_is_reported(tmp_path: Path) -> None:
    """What is in it is read again at each listing: no list is made."""
    mail = Mail(tmp_path)
    (tmp_path / "state").mkdir()
    names = [mail.deliver() for _ in range(3)]
    (mail.path / "courierpop3dsizelist").write_text(f"/2 5 9\n{names[0]} 5 1:9\n{names[1]} 5 2:9\n")
    (mail.path / "dovecot-uidlist").write_text(f"3 V9 N9 G1\n4 :{names[0]}\n")
    where = f"maildir:{mail.path}"
    found = looked(tmp_path, COURIER, maildrop=where)
    assert (found.stay, found.change, found.list) == (2, [(3, names[2], UNKNOWN)], NOT_NEEDED)
    assert looked(tmp_path, DOVECOT, maildrop=where).stay == 1
    assert mail.there() == {"new": names, "cur": []}, "nobody has read them"
    assert not (mail.path / id_list.NAME).exists()
    with mail.opened() as store:
        id_list.store_in_maildir(store.directories.top, {names[2]: "known"})
    assert looked(tmp_path, COURIER, maildrop=where).stay == 3


@pytest.mark.parametrize(("server", "store"), [(QPOPPER, "maildir"), (POPA3D, "maildir"), (COURIER, "mbox")])
def test_what_leaves_nothing_there(box: Box, tmp_path: Path, server: tuple[str, str], store: str) -> None:
    (tmp_path / "other").mkdir()
    mail = Mail(tmp_path / "other")
    box.append(message(1))
    where = {"maildir": f"maildir:{mail.path}", "mbox": f"mbox:{box.path}"}[store]
    with pytest.raises(MaildropUnavailable, match=f"{server[0]} leaves no ids in"):
        looked(tmp_path, server, maildrop=where)


def test_a_mailbox_that_others_write_to_meanwhile(box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at again, as a whole; not for ever."""
    box.append(message(1, f"X-UIDL: {OLD}"))
    times: list[int] = []
    said = header_ids.said

    def slow(store: Mbox, former: tuple[str, str]) -> Iterator[str]:
        times.append(1)
        if len(times) < at_rest:
            box.append(message(1 + len(times), f"X-UIDL: {OLD[:-1]}{len(times)}"))
        yield from said(store, former)

    monkeypatch.setattr(header_ids, "said", slow)
    at_rest = 3
    found = looked(tmp_path, QPOPPER)
    assert (len(times), found.messages, found.stay) == (3, 3, 3)
    times.clear()
    at_rest = 99
    with pytest.raises(MaildropChanged):
        looked(tmp_path, QPOPPER)


def test_a_list_that_another_process_has_made_meanwhile(box: Box, tmp_path: Path) -> None:
    box.append(message(1, f"X-UIDL: {OLD}"))
    drop = Drop(f"mbox:{box.path}", host(tmp_path))
    id_list.store_for_mbox(box.files, {})
    drop.keep({})  # it is the list that was seen
    id_list.store_for_mbox(box.files, {"a": "b"})
    with pytest.raises(MaildropChanged):
        drop.keep({drop.own[0]: OLD})
    drop.close()
    assert id_list.of_mbox(box.files) == {"a": "b"}


def test_a_message_that_goes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").mkdir()
    mail = Mail(tmp_path)
    mail.deliver()
    tries: list[int] = []

    def work(drop: Drop) -> Found:
        tries.append(1)
        if len(tries) < 3:
            raise MessageGone("message 1 is gone")
        return Found()

    known_ids.with_drop(f"maildir:{mail.path}", host(tmp_path), work)
    assert len(tries) == 3


def test_what_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(tmp_path, b"no mbox\n")
    with pytest.raises(MaildropUnavailable, match="not an mbox"):
        looked(tmp_path, QPOPPER)
    with pytest.raises(MaildropUnavailable, match="POPAD_STATE"):
        by_traces(f"mbox:{box.path}", host(tmp_path, STATE="/nonexistent"), QPOPPER, True, lambda *_: None)
    box.fill(message(1) + message(2, date=1))
    monkeypatch.setattr("popad.maildrop.sealed.create", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(MaildropUnreadable, match="full"):
        looked(tmp_path, QPOPPER)
    box.close()


def test_a_mailbox_that_is_not_there(tmp_path: Path) -> None:
    box = Box(tmp_path, None)
    found = looked(tmp_path, QPOPPER)
    assert (found.messages, found.stay, found.change, found.list) == (0, 0, [], UNCHANGED)
    assert not box.files.directory.has(box.files.list)
    box.close()


def test_line_ends_and_places_wherever_blocks_are_cut() -> None:
    text = b"a\r\nb\n\r\r\nc\r"
    wanted = text.replace(b"\r\n", b"\n")
    for size in range(1, len(text) + 1):
        blocks = [text[place : place + size] for place in range(0, len(text), size)]
        assert b"".join(known_ids.with_lf(iter(blocks))) == wanted
        for place in range(len(text)):
            assert b"".join(known_ids.behind(iter(blocks), place)) == text[place:]
