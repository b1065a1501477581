"""commands/report/scraped.py: requests as octets, and over a socket what no good client does."""

import os
import select
import socket
import subprocess
import threading
import time
from email import message_from_bytes
from email.message import Message
from http import HTTPStatus
from pathlib import Path

import pytest

from popad.commands.command import main
from popad.commands.report import scraped
from popad.commands.report.scraped import LARGEST, OPENMETRICS, Answer, serve
from popad.errors import NotInvokedRight
from tests.support.entries import REMOTE, as_journal, history
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serving import POPAD, connection, handed_over, reset

TEXT = "# EOF\n"
GOOD = b"GET /metrics HTTP/1.1\r\nHost: localhost:19110\r\n\r\n"


def parts(answer: bytes) -> tuple[int, Message, bytes]:
    """Status, header and content of what is one whole answer."""
    head, _, content = answer.partition(b"\r\n\r\n")
    line, _, header = head.partition(b"\r\n")
    version, status, _ = line.split(b" ", 2)
    assert version == b"HTTP/1.0"
    return int(status), message_from_bytes(header), content


def said_to(request: bytes) -> tuple[int, Message, bytes]:
    return parts(Answer(request, lambda: TEXT).octets)


def test_metrics() -> None:
    status, header, content = said_to(GOOD)
    assert (status, content.decode()) == (200, TEXT)
    assert (header["Content-Type"], header["Content-Length"]) == (OPENMETRICS, str(len(TEXT)))
    assert (header["Server"], header["Connection"]) == ("popad", "close")


def test_head_says_how_much_it_would_be() -> None:
    status, header, content = said_to(GOOD.replace(b"GET", b"HEAD"))
    assert (status, header["Content-Length"], content) == (200, str(len(TEXT)), b"")


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /metrics?name[]=x HTTP/1.0", 200),
        (b"GET /metrics", 200),
        (b"GET / HTTP/1.1", 404),
        (b"GET /metrics/ HTTP/1.1", 404),
        (b"GET /metrics/../../etc/passwd HTTP/1.1", 404),
        (b"GET http://example.org/metrics HTTP/1.1", 404),
        (b"POST /metrics HTTP/1.1", 405),
        (b"PUT / HTTP/1.1", 405),
        (b"say /metrics HTTP/1.1", 405),
        (b"__class__ /metrics HTTP/1.1", 405),
        (b"GET /metrics HTTP/2.0", 505),
        (b"GET /metrics HTTP/x", 400),
        (b"GET /a b c HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"<script>", 400),
    ],
)
def test_a_line_of_a_request(line: bytes, status: int) -> None:
    found, header, content = said_to(line + b"\r\n\r\n")
    assert found == status
    assert (header["Allow"] == "GET, HEAD") is (status == 405)
    assert (content.decode() == TEXT) is (status == 200)
    assert status == 200 or content.startswith(b"%d " % status)
    assert len(content.splitlines()) == 1  # one answer, in which nothing of the request is


def test_an_error_of_the_journal_is_told() -> None:
    def unreadable() -> str:
        raise OSError("no journal")

    answer = Answer(GOOD, unreadable, (OSError,))
    status, _, content = parts(answer.octets)
    assert (status, content) == (503, b"no journal\n")
    assert isinstance(answer.failure, OSError)


def exchange(*sent: bytes, then_close: bool = False) -> tuple[bytes, float]:
    """What a client gets for what it sends, and the seconds that it takes."""
    ours, theirs = connection()

    def serve_and_leave() -> None:
        with theirs:
            serve(theirs, lambda: TEXT, ())

    with ours:
        began = time.monotonic()
        server = threading.Thread(target=serve_and_leave)
        server.start()
        for part in sent:
            ours.sendall(part)
        if then_close:
            ours.shutdown(socket.SHUT_WR)
        server.join()
        took = time.monotonic() - began
        return ours.makefile("rb").read(), took


def test_a_request_in_pieces() -> None:
    assert parts(exchange(*(GOOD[place : place + 1] for place in range(len(GOOD))))[0])[0] == 200


def test_a_request_that_is_too_large() -> None:
    assert parts(exchange(GOOD[:-2] + b"X: " + b"x" * LARGEST)[0])[0] == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE


@pytest.mark.parametrize("sent", [b"", b"GET /metrics HTTP/1.1\r\n"])
def test_a_request_that_does_not_come(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraped, "TO_ASK", 0.2)
    answer, took = exchange(sent)
    assert parts(answer)[0] == HTTPStatus.REQUEST_TIMEOUT
    assert took >= 0.2


def test_octet_by_octet_it_has_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraped, "TO_ASK", 0.2)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = threading.Thread(target=serve, args=(theirs, lambda: TEXT, ()))
        server.start()
        for _ in range(50):
            ours.sendall(b"x")
            if select.select([ours], [], [], 0.1)[0]:
                break
        else:
            pytest.fail("5 seconds, with a time limit of 0.2")
        assert parts(ours.recv(65536))[0] == HTTPStatus.REQUEST_TIMEOUT
        ours.close()
        server.join()


def test_the_page_has_the_limits() -> None:
    page = (CHECKOUT / "packaging/man/popad.8").read_text()
    assert f"has {scraped.TO_ASK:.0f} seconds and {LARGEST} octets." in page


def test_no_more_is_read_than_a_request_may_have() -> None:
    ours, theirs = connection()
    with ours, theirs:
        ours.sendall(b"x" * 3 * LARGEST)
        with pytest.raises(scraped.Unfinished):
            scraped.read(theirs, time.monotonic() + PATIENCE)
        theirs.setblocking(False)
        assert len(theirs.recv(4 * LARGEST)) == 2 * LARGEST


def test_after_the_deadline_nothing_is_read() -> None:
    ours, theirs = connection()
    with ours, theirs:
        ours.sendall(b"x")
        with pytest.raises(TimeoutError):
            scraped.receive(theirs, 1, time.monotonic() - 1)


def test_who_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraped, "TO_TAKE", 0.2)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(GOOD)
        began = time.monotonic()
        assert serve(theirs, lambda: TEXT * 1_000_000, ()) is None
        assert 0.2 <= time.monotonic() - began < scraped.TO_ASK


def test_who_leaves_is_nobodys_failure() -> None:
    ours, theirs = connection()
    with theirs:
        ours.sendall(GOOD)
        reset(ours)
        assert serve(theirs, lambda: TEXT, ()) is None


def test_who_says_nothing_and_leaves_gets_nothing() -> None:
    assert exchange(then_close=True)[0] == b""


@pytest.mark.skipif(not os.path.exists(REMOTE), reason="needs systemd-journal-remote")
def test_the_command_on_a_connection_of_systemd(tmp_path: Path) -> None:
    as_journal(history(), tmp_path / "journal")
    options = ["--http", "--state", str(tmp_path / "state"), "--directory", str(tmp_path / "journal")]
    for expected in (200, 503):
        ours, theirs = connection()
        with ours, theirs:
            program = handed_over(theirs, *POPAD, "metrics", *options)
            started = subprocess.Popen(program, cwd=CHECKOUT, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE)
            theirs.close()
            ours.sendall(GOOD)
            answer = ours.makefile("rb").read()
            ours.shutdown(socket.SHUT_WR)
            _, complaint = started.communicate(timeout=PATIENCE)
        status, _, content = parts(answer)
        assert (status, started.returncode) == (expected, 0 if expected == 200 else 1)
        assert content.endswith(b"\n# EOF\n") is (expected == 200)
        assert complaint.startswith(b"popad metrics: ") is (expected != 200)
        (tmp_path / "state").write_text("{}")


def test_it_needs_a_connection(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metrics", "--http", "--output", "x"]) == 2
    assert "do not go together" in capsys.readouterr().err
    shown = subprocess.run([*POPAD, "metrics", "--http"], cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True)
    assert shown.returncode == 2
    assert NotInvokedRight.__name__ not in shown.stderr.decode()
