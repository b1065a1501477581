"""commands/inspection/look.py: the look itself, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from popad.commands.inspection.look import Places, look
from popad.commands.inspection.said import Telling
from popad.errors import MaildropChanged
from popad.maildrop.maildir.sizes import FEW
from popad.maildrop.mbox import looked_at
from popad.settings import Settings
from tests.support.box import ALL, ONE, THREE, TWO, Box
from tests.support.maildirs import Mail
from tests.support.trees import tree
from tests.support.updates import MESSAGES, dies, spans_of


class Heard(Telling):
    """What is said, kept."""

    def __init__(self) -> None:
        self.most = None
        self.all: list[tuple[Any, ...]] = []

    def say(self, kind: bytes, *fields: str | int | bytes) -> None:
        self.all.append((kind.decode(), *fields))

    def step(self, done: int, of: int) -> None:
        pass

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [said[1:] for said in self.all if said[0] == kind]

    @property
    def facts(self) -> dict[str, str]:
        return dict(self.of("fact"))

    @property
    def complaints(self) -> list[str]:
        return [text for (text,) in self.of("wrong")]


@pytest.fixture
def box(tmp_path: Path, still_clock: None) -> Iterator[Box]:
    box = Box(tmp_path, cached=True)
    box.path.chmod(0o600)
    yield box
    box.close()


def looked(maildrop: str, place: Path, **settings: str) -> Heard:
    given = {"POPAD_STATE": f"{place}/state", "POPAD_CACHE": f"{place}/cache", "POPAD_LOCK_TIMEOUT": "1"}
    read = Settings(given | {f"POPAD_{name}": value for name, value in settings.items()})
    heard = Heard()
    before = tree(place)
    look(maildrop, read, Places(read), heard)
    assert tree(place) == before
    return heard


def of(box: Box, **settings: str) -> Heard:
    return looked(f"mbox:{box.path}", box.path.parent, **settings)


def test_the_end_is_a_verdict(box: Box) -> None:
    assert of(box).all[-1] == ("served",)
    assert of(box, MAX_MESSAGES="2").all[-1] == ("refused", "SYS/PERM", "more than 2 messages")
    assert of(box, MAX_OCTETS="3").all[-1] == ("refused", "SYS/PERM", f"{len(ALL)} octets, the limit is 3")


def test_an_update_that_was_cut_short(box: Box) -> None:
    """It is told and not finished; of its messages nothing is told, as they are half moved."""
    heard, death = of(box), 0
    while heard.of("listed") != [("locks", 0)]:
        box.fill(b"".join(MESSAGES))
        assert dies(lambda: box.remove(spans_of(MESSAGES, {1})), death)
        heard, death = of(box), death + 1
    gone, size = len(MESSAGES[1]), len(b"".join(MESSAGES))
    assert f"an update that takes {gone} of {size} octets was cut short at octet" in heard.facts["redo log"]
    assert heard.complaints == [
        "an update was cut short: messages are listed when a session has finished it (a login does)"
    ]
    box.write(b"#", 9)
    heard = of(box)
    assert heard.complaints[0].startswith(
        "a redo log is not of this mailbox: the mailbox was changed before the part that"
    )
    assert heard.complaints[0].endswith(f"the next session renames it to {box.files.names[0]}.kept1")
    recovery = box.open().recovery
    assert recovery
    assert recovery.kept == f"{box.files.names[0]}.kept1"


def test_ids_that_are_not_kept(box: Box) -> None:
    box.fill(ONE * 2)
    box.open().id_numbers()
    assert of(box).facts["remembered ids"] == "0 of messages that are gone, 1 of twins"
    box.ids.write_bytes(b"x")
    box.ids.chmod(0o600)
    (wrong,) = of(box).complaints
    assert wrong == f"unique-ids are not kept: {box.ids.name} is damaged, or of another version of popad"


def test_a_list_of_ids(box: Box) -> None:
    """Of a former server: read from the headers, and not written."""
    box.fill(b"From a\nX-UIDL: 0123456789abcdef0123\nDate: 1\n\nbody\n\n" + TWO)
    heard = of(box, UIDL="qpopper")
    assert heard.of("messages")[0][2] == "0123456789abcdef0123"
    assert heard.facts["list of ids"] == "1 ids from before a move"
    box.open(former=("qpopper", "")).unique_ids()
    assert of(box).of("messages")[0][2] == "0123456789abcdef0123"


def test_twins(box: Box) -> None:
    """Who has the same digest as whom, the first among them; and those without one."""
    nothing = b"From x Thu Jan  1 00:00:00 1970\n\nno header\n\n"
    box.fill(ONE + TWO + ONE + nothing + THREE + ONE)
    rows = of(box).of("twins")
    assert [(number, first) for number, _, _, first in rows] == [(1, 1), (3, 1), (4, 4), (6, 1)]
    assert len({id_ for _, id_, _, _ in rows}) == 4
    assert len({digest for _, _, digest, _ in rows}) == 2


def test_data_of_a_mail_reader(box: Box) -> None:
    internal = b"From a\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\ntext\n\n"
    box.fill(internal + ALL)
    heard = of(box)
    assert heard.of("note") == [(f"the first {len(internal)} octets are data of a mail reader, and no message",)]
    assert len(heard.of("messages")) == 3


@pytest.mark.parametrize(("most", "messages", "notes"), [(1, 4, 0), (100, 5, 1)])
def test_a_mailbox_that_grows_meanwhile(
    box: Box, monkeypatch: pytest.MonkeyPatch, most: int, messages: int, notes: int
) -> None:
    """It is looked at again; who is written to all the time is told as it was, with a word about that."""
    real = looked_at.SeenMbox.unique_ids
    times = 0

    def unique_ids(seen: looked_at.SeenMbox) -> Any:
        nonlocal times
        times += 1
        if times <= most:
            box.append(TWO)
        return real(seen)

    monkeypatch.setattr(looked_at.SeenMbox, "unique_ids", unique_ids)
    heard = Heard()
    settings = Settings({"POPAD_STATE": str(box.state_path), "POPAD_CACHE": ""})
    look(f"mbox:{box.path}", settings, Places(settings), heard)
    assert (len(heard.of("messages")), len(heard.of("note"))) == (messages, notes)
    assert heard.all[-1] == ("served",)


def test_a_mailbox_that_is_rewritten_meanwhile(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(_: looked_at.SeenMbox) -> bool:
        raise MaildropChanged("its messages were rewritten")

    monkeypatch.setattr(looked_at.SeenMbox, "check", check)
    refused = ("refused", "SYS/TEMP", "it is written to all the time: its messages were rewritten")
    assert of(box).all[-1] == refused


def test_directories_that_no_session_has_used(tmp_path: Path) -> None:
    """And one that is none."""
    for name in ("state", "cache"):
        (tmp_path / name).mkdir()
    (tmp_path / "mailbox").write_bytes(ALL)
    heard = looked(f"mbox:{tmp_path}/mailbox", tmp_path)
    assert heard.all[-1] == ("served",)
    assert heard.facts["redo log"] == "none: no update was cut short"
    heard = looked(f"mbox:{tmp_path}/mailbox", tmp_path, STATE="/nonexistent")
    assert heard.all[-1][2].startswith("POPAD_STATE: [Errno 2]")


def spoiled_names(mail: Mail) -> None:
    mail.deliver(name="1600000001.M1P1.host")
    mail.deliver(name="1600000001.M1P1.host:2,S", cur=True)
    (mail.path / "cur" / ".nfs1").touch()


@pytest.mark.parametrize(
    ("prepare", "lists"),
    [
        (lambda mail: [mail.deliver() for _ in range(FEW)], {"messages": FEW, "renamed": 0, "others": 0}),
        (spoiled_names, {"messages": 2, "renamed": 1, "others": 1}),
    ],
)
def test_a_maildir(tmp_path: Path, prepare: Callable[[Mail], object], lists: dict[str, int]) -> None:
    mail = Mail(tmp_path)
    (tmp_path / "state").mkdir()
    prepare(mail)
    heard = looked(f"maildir:{mail.path}", tmp_path)
    assert dict(heard.of("listed")) == lists
    assert heard.all[-1] == ("served",)
    names = {bytes(row[4], "ascii") if isinstance(row[4], str) else row[4] for row in heard.of("messages")}
    assert names == {
        os.fsencode(f"{part}/{name}") for part in ("new", "cur") for name in mail.there()[part] if name[0] != "."
    }


def test_no_maildir(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    assert looked(f"maildir:{tmp_path}/none", tmp_path).of("note") == [
        ("there is no Maildir: it is served as one without a message",)
    ]
    refused = looked(f"maildir:{tmp_path}/none", tmp_path, MAILDIR_MISSING="refused").all[-1]
    assert refused[:2] == ("refused", "SYS/TEMP")
