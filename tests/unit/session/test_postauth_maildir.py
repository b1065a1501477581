"""session/postauth.py with a Maildir: whole sessions, and what client and journal hear of what others do."""

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.maildirs import Mail
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE
from tests.support.serving import NAME, OWNER, PASSWORD, Client, Server


@pytest.fixture
def mail(server: Server) -> Mail:
    place = server.path / "maildirs"
    place.mkdir()
    return Mail(place)


@contextmanager
def logged_in(server: Server, mail: Mail, **settings: str) -> Iterator[Client]:
    owner = pwd.getpwnam(OWNER)
    for path in (mail.path, *mail.path.rglob("*")) if mail.path.exists() else ():
        os.chown(path, owner.pw_uid, owner.pw_gid)
    given = {"POPAD_MAILDROP": f"maildir:{mail.path}", **settings}
    with server.session(given) as (client, process):
        client.line()
        client.ask(f"USER {NAME}")
        yield client
        client.close()
        assert process.wait(PATIENCE) == 0


def test_a_session(server: Server, mail: Mail) -> None:
    mail.deliver(b"Subject: 1\n\n.dot\n", "1600000001.a.h")
    mail.deliver(b"Subject: 2\r\n\r\nx", "1600000002.a.h,S=15:2,R", cur=True)
    with logged_in(server, mail) as client:
        assert client.ask(f"PASS {PASSWORD}") == b"+OK 2 messages (37 octets)"
        assert client.ask("UIDL 2") == b"+OK 2 1600000002.a.h,S=15"
        client.send(b"RETR 1\r\nTOP 2 0\r\nDELE 2\r\nQUIT\r\n")
        said = client.rest()
    assert said.startswith(b"+OK 20 octets\r\nSubject: 1\r\n\r\n..dot\r\n.\r\n+OK")
    assert said.endswith(b"\r\nSubject: 2\r\n\r\n.\r\n+OK message 2 deleted\r\n+OK bye\r\n")
    assert mail.there() == {"new": [], "cur": ["1600000001.a.h:2,S"]}
    closed = server.log[-1]
    assert (closed["event"], closed["deleted"], closed["left"]) == ("session-closed", "1", "1")


def test_a_message_that_has_gone_is_an_error_of_that_message(server: Server, mail: Mail) -> None:
    names = [mail.deliver(b"%d\n" % number) for number in range(2)]
    with logged_in(server, mail) as client:
        client.ask(f"PASS {PASSWORD}")
        (mail.path / "new" / names[0]).unlink()
        assert client.ask("RETR 1") == b"-ERR [SYS/TEMP] another program has removed the message"
        assert client.ask("RETR 2") == b"+OK 3 octets"
        client.send(b"DELE 1\r\nQUIT\r\n")
        assert client.rest().endswith(b"+OK bye\r\n")
    gone = [entry for entry in server.log if entry["event"] == "message-gone"]
    assert [entry["reason"] for entry in gone] == ["message 1 is gone"]
    assert mail.there() == {"new": [], "cur": [f"{names[1]}:2,S"]}


def test_a_size_that_was_wrong_is_in_the_journal(server: Server, mail: Mail) -> None:
    mail.deliver(b"x\n", "1600000001.a.h,W=99")
    with logged_in(server, mail) as client:
        assert client.ask(f"PASS {PASSWORD}") == b"+OK 1 messages (99 octets)"
        client.send(b"RETR 1\r\nQUIT\r\n")
        client.rest()
    (entry,) = (entry for entry in server.log if entry["event"] == "size-wrong")
    assert entry["reason"] == "1600000001.a.h,W=99: 3 octets, not 99"


def test_one_that_cannot_be_opened(server: Server, mail: Mail) -> None:
    (mail.path / "cur").rmdir()
    with logged_in(server, mail) as client:
        client.send(f"PASS {PASSWORD}\r\n".encode())
        assert client.rest() == b"-ERR [SYS/TEMP] the mailbox is not available\r\n"
    assert server.log[-1]["event"] == "maildrop-refused"


def test_one_that_is_missing(server: Server, mail: Mail) -> None:
    mail.path = server.path / "none"
    with logged_in(server, mail) as client:
        assert client.ask(f"PASS {PASSWORD}") == b"+OK 0 messages (0 octets)"
        client.ask("QUIT")
    with logged_in(server, mail, POPAD_MAILDIR_MISSING="refused") as client:
        client.send(f"PASS {PASSWORD}\r\n".encode())
        assert client.rest().startswith(b"-ERR [SYS/TEMP]")


@needs_root
def test_everything_is_done_as_the_user(server: Server, mail: Mail) -> None:
    """Whose files these are: a directory of root's is read, and nothing in it removed or renamed."""
    name = mail.deliver(b"x\n")
    with logged_in(server, mail) as client:
        for path in (mail.path, *mail.path.rglob("*")):
            os.chown(path, 0, 0)
            path.chmod(0o755)
        assert client.ask(f"PASS {PASSWORD}") == b"+OK 1 messages (3 octets)"
        assert client.ask("RETR 1") == b"+OK 3 octets"
        client.send(b"DELE 1\r\nQUIT\r\n")
        assert b"-ERR [SYS/PERM] some deleted messages not removed" in client.rest()
    assert mail.there()["new"] == [name]
    assert "maildrop-read-only" in server.events
