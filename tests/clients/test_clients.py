"""Real mail clients fetch, keep and delete against popad on loopback; what they store is compared octet for octet.

Each test also runs against Debian's popa3d, which shows that the client and this harness work. The clients' own state
(unique-ids they have seen) is kept over the runs of a test, over a change from popa3d to popad too.
"""

import poplib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.support.patience import PATIENCE
from tests.support.peers import Unavailable, require

from .programs import PROGRAMS, Program
from .server import Server

SERVERS = ("popad", "popa3d")


def message(subject: str, body: bytes, *header: str) -> bytes:
    """A message as MTAs store it; unique in what the unique-id is made of.

    No header line is longer than 78 octets: getmail folds it in its copy.
    """
    lines = (
        "Return-Path: <sender@example.org>",
        "Delivered-To: reader@example.org",
        f"Received: from mx.example.org\n\tby example.org with ESMTP id {subject.encode().hex()[:12]};",
        "\tThu, 1 Jan 1970 00:00:00 +0000",
        "Date: Thu, 1 Jan 1970 00:00:00 +0000",
        f"Message-ID: <{subject.encode().hex()}@example.org>",
        "From: Sender <sender@example.org>",
        "To: reader@example.org",
        f"Subject: {subject}",
        *header,
    )
    return "".join(line + "\n" for line in lines).encode() + b"\n" + body


MESSAGES = (
    message("plain", b"Hello.\n"),
    message("dots", b".\n..\n.hidden\n...\n .\ntext\n.\n"),
    message("blank lines", b"\n\nbetween\n\n\nand behind\n\n\n"),
    message("quoted From", b">From the start\nFrom here\n\n>From there\n"),
    message(
        "UTF-8",
        "Grüße aus Köln, 北京 и Москва\n".encode(),
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
    ),
    message("longest line of RFC 5322", b"x" * 998 + b"\n" + b"." * 998 + b"\n"),
    message("large", b"".join(b"line %d of many\n.%d\n" % (line, line) for line in range(6000))),
    message(
        "attachment",
        b'--b\nContent-Type: text/plain\n\nSee it.\n--b\nContent-Type: application/octet-stream; name="a.bin"\n'
        b"Content-Transfer-Encoding: base64\n\n"
        + b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v\n" * 300
        + b"--b--\n",
        "MIME-Version: 1.0",
        'Content-Type: multipart/mixed; boundary="b"',
    ),
    message("one empty line", b"\n"),
)
NEW = (message("new one", b"1\n"), message("new two", b"2\n"))


def mbox(*messages: bytes) -> bytes:
    return b"".join(b"From sender@example.org Thu Jan  1 00:00:00 1970\n" + each + b"\n" for each in messages)


@pytest.fixture(params=PROGRAMS, ids=lambda program: program.name)
def program(request: pytest.FixtureRequest, server: Server) -> Iterator[Program]:
    made: type[Program] = request.param
    if reason := made.missing():
        pytest.skip(reason)
    # Not below pytest's own directory, which nobody but root may enter.
    with TemporaryDirectory() as home:
        yield made(server, Path(home))


@pytest.fixture(scope="module")
def port() -> Iterator[Server]:
    try:
        require("unshare", "systemd-socket-activate")
    except Unavailable as reason:
        pytest.skip(str(reason))
    with Server() as server:
        yield server


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, port: Server) -> Server:
    port.serve(request.param)
    return port


def test_fetch_and_keep(program: Program, server: Server) -> None:
    server.mailbox = mbox(*MESSAGES)
    assert program.fetch(delete=False) == sorted(MESSAGES)
    assert server.mailbox == mbox(*MESSAGES)


def test_kept_mail_is_not_fetched_twice(program: Program, server: Server) -> None:
    server.mailbox = mbox(*MESSAGES)
    assert len(program.fetch(delete=False)) == len(MESSAGES)
    assert program.fetch(delete=False) == []
    server.mailbox = mbox(NEW[0], *MESSAGES[:5], NEW[1], *MESSAGES[5:])
    assert program.fetch(delete=False) == sorted(NEW)
    assert program.fetch(delete=False) == []


def test_fetch_and_delete(program: Program, server: Server) -> None:
    server.mailbox = mbox(*MESSAGES)
    assert program.fetch(delete=True) == sorted(MESSAGES)
    assert server.mailbox == b""
    assert program.fetch(delete=True) == []


def test_delete_what_is_new(program: Program, server: Server) -> None:
    server.mailbox = mbox(*MESSAGES)
    program.fetch(delete=False)
    server.mailbox = mbox(NEW[0], *MESSAGES[:5], NEW[1], *MESSAGES[5:])
    assert program.fetch(delete=True) == sorted(NEW)
    assert server.mailbox == (b"" if program.deletes_seen else mbox(*MESSAGES))


@pytest.mark.parametrize("server", ["popad"], indirect=True)
def test_a_twin_of_what_another_client_has_deleted_is_fetched(program: Program, server: Server) -> None:
    """Two messages that differ in nothing that popa3d looks at: there the second takes the id of the first, and a
    client that knows that one deletes what it has never fetched.
    """
    first = MESSAGES[0]
    twin = first.replace(b"Subject: plain", b"Subject: other")
    server.mailbox = mbox(first)
    assert program.fetch(delete=False) == [first]
    server.mailbox = mbox(first, twin)
    other = poplib.POP3("127.0.0.1", server.port, timeout=PATIENCE)
    other.user(server.user)
    other.pass_(server.password)
    other.dele(1)
    other.quit()
    assert server.mailbox == mbox(twin)
    assert program.fetch(delete=True) == [twin]
    assert server.mailbox == b""


@pytest.mark.parametrize("server", ["popa3d"], indirect=True)
def test_nothing_is_fetched_again_after_the_change_from_popa3d(program: Program, server: Server) -> None:
    server.mailbox = mbox(*MESSAGES)
    assert len(program.fetch(delete=False)) == len(MESSAGES)
    server.serve("popad")
    server.mailbox = mbox(*MESSAGES, *NEW)
    assert program.fetch(delete=False) == sorted(NEW)
