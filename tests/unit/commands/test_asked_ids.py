"""commands/asked_ids.py: popad is the old server, with ids of another one; what it says is paired and kept."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.commands.asked_ids import NOT_PAIRED, by_asking
from popad.commands.known_ids import NOT_WRITTEN, UNCHANGED, WRITTEN, Found, Host
from popad.commands.old_server import Asked, NotAnswered
from popad.commands.old_server import Server as Old
from popad.settings import Settings
from tests.support.box import Box
from tests.support.daemon import daemon
from tests.support.maildirs import Mail, ids
from tests.support.serving import NAME, OWNER, PASSWORD, Server

EACH = {"POPAD_MAX_SESSIONS_PER_SOURCE": "100", "POPAD_GUESS_DELAY": "0", "POPAD_UIDL": "qpopper"}


def message(number: int, *, header: str = "", body: str = "") -> bytes:
    named = header or f"Message-ID: <{number}@example.org>\nDate: {number}\n"
    return f"From m Thu Jan  1 00:00:01 1970\n{named}\n{body or f'body {number}'}\n\n".encode()


def known(number: int, text: bytes) -> bytes:
    """The same, as clients of the old server know it."""
    return text.replace(b"1970\n", f"1970\nX-UIDL: {name(number)}\nStatus: RO\n".encode(), 1)


def name(number: int) -> str:
    return f"known-as-{number:04}"


class OldServer:
    """The old server, and how it is asked."""

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.port = port
        self.sessions = 0

    def ask(self) -> Asked:
        self.sessions += 1
        return Asked(Old("127.0.0.1", self.port), NAME, PASSWORD.encode())

    def serves(self, *messages: bytes) -> None:
        """These, known as 0, 1, ..."""
        self.server.deliver(b"".join(known(number, text) for number, text in enumerate(messages)))
        for left in self.server.state.glob("*.list"):
            left.unlink()


@pytest.fixture
def old(server: Server) -> Iterator[OldServer]:
    with daemon(server, EACH) as running:
        yield OldServer(server, running.ports[0])


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    box = Box(tmp_path, None)
    yield box
    box.close()


def asked(place: Path, old: OldServer, *, dry_run: bool = False, maildrop: str = "") -> Found:
    host = Host(Settings({"POPAD_STATE": f"{place}/state", "POPAD_CACHE": ""}))
    return by_asking(maildrop or f"mbox:{place}/mailbox", host, old.ask, dry_run, lambda done, of: None)


def shown(box: Box) -> list[str]:
    listed = box.open().unique_ids()
    return [listed[index] for index in range(len(listed))]


def test_each_message_gets_its_id(box: Box, tmp_path: Path, old: OldServer) -> None:
    """Wherever it stands here, without what the old server has written into it."""
    old.serves(*(message(number) for number in range(5)))
    box.append(*(message(number) for number in (3, 0, 1, 4, 2)))
    own = shown(box)
    found = asked(tmp_path, old, dry_run=True)
    assert (found.messages, found.stay, found.change, found.missing, found.list) == (5, 5, [], [], NOT_WRITTEN)
    assert shown(box) == own
    assert asked(tmp_path, old).list == WRITTEN
    assert shown(box) == [name(number) for number in (3, 0, 1, 4, 2)]
    assert asked(tmp_path, old).list == UNCHANGED
    assert old.sessions == 3, "no message had to be fetched"


def test_mail_that_arrives_meanwhile_is_new(box: Box, tmp_path: Path, old: OldServer) -> None:
    old.serves(message(0), message(1))
    box.append(message(0), message(1), message(2))
    found = asked(tmp_path, old)
    assert (found.stay, found.new, found.change, found.missing) == (2, 1, [], [])
    assert shown(box)[:2] == [name(0), name(1)]


def test_mail_that_is_not_here(box: Box, tmp_path: Path, old: OldServer) -> None:
    """Then nobody knows which of what is here is new."""
    old.serves(message(0), message(1))
    box.append(message(1), message(2))
    found = asked(tmp_path, old)
    assert (found.stay, found.new, found.missing) == (1, 0, [(1, name(0))])
    assert found.change == [(2, shown(box)[1], NOT_PAIRED)]


def test_twins_and_exact_copies(box: Box, tmp_path: Path, old: OldServer) -> None:
    """Messages that no header tells apart are fetched; copies are paired in their order."""
    header = "Date: 1\nSubject: x\n"
    first, second, third = (message(0, header=header, body=body) for body in ("body a", "body b", "body c"))
    old.serves(first, second, second, third)
    box.append(third, second, second, first)
    assert asked(tmp_path, old).stay == 4
    assert old.sessions == 2
    assert shown(box) == [name(3), name(1), name(2), name(0)]


def test_one_of_two_twins_is_another(box: Box, tmp_path: Path, old: OldServer) -> None:
    """Same header, same size: which is not certain is not paired, or a client would never see it."""
    header = "Date: 1\nSubject: x\n"
    old.serves(message(0, header=header, body="body a"))
    box.append(message(0, header=header, body="body b"))
    found = asked(tmp_path, old)
    assert (found.stay, found.missing) == (0, [(1, name(0))])
    assert shown(box) != [name(0)]


def test_a_size_that_is_counted_otherwise(box: Box, tmp_path: Path, old: OldServer) -> None:
    """CRLF in the mailbox here, and blank lines behind a message: the content is the same."""
    old.serves(message(0))
    box.append(message(0).replace(b"body 0\n", b"body 0\n\n\n"))
    assert asked(tmp_path, old).stay == 1
    assert old.sessions == 2
    box.fill(message(0).replace(b"\n", b"\r\n"))
    assert asked(tmp_path, old).stay == 1


def test_ids_that_popad_cannot_show(box: Box, tmp_path: Path, old: OldServer, monkeypatch: pytest.MonkeyPatch) -> None:
    old.serves(message(0), message(1), message(2))
    box.append(message(0), message(1), message(2))
    monkeypatch.setattr(Asked, "ids", lambda self, most: {1: "x" * 71, 2: "twice", 3: "twice"})
    found = asked(tmp_path, old)
    assert found.stay == 1
    assert [(number, why.partition(" ")[2]) for number, _, why in found.change] == [
        (1, "is not fit for the protocol"),
        (3, "2 has the same id, twice"),
    ]
    assert shown(box)[1] == "twice"


def test_what_the_server_does_not_list_has_no_id(
    box: Box, tmp_path: Path, old: OldServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LIST and UIDL that do not agree."""
    old.serves(message(0), message(1))
    box.append(message(0), message(1))
    monkeypatch.setattr(Asked, "ids", lambda self, most: {1: "first", 7: "seventh"})
    found = asked(tmp_path, old)
    assert (found.stay, found.new) == (1, 1)
    assert shown(box)[0] == "first"


def test_a_maildir(tmp_path: Path, old: OldServer) -> None:
    """The list is in it, and nothing was read there by anybody."""
    (tmp_path / "state").mkdir()
    mail = Mail(tmp_path)
    old.serves(message(0), message(1))
    names = [mail.deliver(message(number).partition(b"\n")[2].removesuffix(b"\n")) for number in (1, 0, 2)]
    found = asked(tmp_path, old, maildrop=f"maildir:{mail.path}")
    assert (found.stay, found.new, found.list) == (2, 1, WRITTEN)
    assert mail.there() == {"new": names, "cur": []}
    with mail.opened() as store:
        assert ids(store) == [name(1), name(0), names[2]]


def test_the_same_mailbox_while_the_old_server_serves_it(tmp_path: Path, old: OldServer) -> None:
    """It is not open here while the server is asked."""
    server = old.server
    header = "Date: 1\nSubject: x\n"
    old.serves(message(0), message(1, header=header, body="a"), message(2, header=header, body="b"))
    (tmp_path / "state").mkdir()
    found = asked(tmp_path, old, maildrop=f"mbox:{server.mailbox}")
    assert (found.messages, found.stay, found.list) == (3, 3, WRITTEN)
    assert os.stat(server.mailbox).st_uid == pwd.getpwnam(OWNER).pw_uid


def test_who_cannot_be_asked(box: Box, tmp_path: Path, old: OldServer) -> None:
    old.port = 1
    with pytest.raises(NotAnswered, match=r"127\.0\.0\.1:1: "):
        asked(tmp_path, old)
