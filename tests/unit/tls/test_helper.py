"""tls/helper.py: a process of it has one connection, says how the handshake went, and can get at nothing else."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popad import journal
from popad.net.encryption import LIMITS, Encryption, unpack
from popad.privsep import spawn
from popad.privsep.channel import Channel
from popad.settings import Settings
from popad.tls import certificates, helper
from popad.tls.certificates import CertificateWrong
from popad.tls.helper import TlsHelper
from tests.support.certificates import HOST, Pair, end, make, settings
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE

NOBODY = 65534, 65534


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return make(tmp_path)


class Asked:
    """A process of the helper that has been asked, with the client's and the session's end."""

    def __init__(self, pair: Pair, serve: Callable[[Channel], None] | None = None, **more: str) -> None:
        def role(channel: Channel) -> None:
            made = TlsHelper(Settings(settings(pair) | more), NOBODY if os.geteuid() == 0 else None)
            (serve or made.serve)(channel)

        self.child = spawn.with_channel(role)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname(), PATIENCE)
            inside, _ = listener.accept()
        self.plain, theirs = socket.socketpair()
        self.plain.settimeout(PATIENCE)
        self.child.channel.send([b"192.0.2.7"], inside.fileno(), theirs.fileno())
        inside.close()
        theirs.close()
        self.context = ssl.create_default_context(cafile=str(pair.chain))

    def answer(self) -> Encryption:
        return unpack(self.child.channel.receive(LIMITS, PATIENCE))

    def close(self) -> int:
        """Its exit status, when both ends are closed."""
        for each in (self.client, self.plain):
            each.close()
        assert self.child.pid
        _, status = os.waitpid(self.child.pid, 0)
        self.child.pid = None
        self.child.end()
        return status


@contextlib.contextmanager
def asked(pair: Pair, **more: str) -> Iterator[Asked]:
    made = Asked(pair, None, **more)
    yield made
    assert made.close() == 0


def shaken(made: Asked, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    made.client = made.context.wrap_socket(made.client, server_hostname=HOST, session=session)
    return made.client


def test_a_connection(pair: Pair) -> None:
    with asked(pair) as made:
        client = shaken(made)
        answer = made.answer()
        assert (answer.is_up, answer.version, answer.name, answer.resumed) == (True, "TLSv1.3", HOST, False)
        client.sendall(b"USER x\r\n")
        assert made.plain.recv(100) == b"USER x\r\n"
        made.plain.sendall(b"+OK\r\n")
        assert client.recv(100) == b"+OK\r\n"


@needs_root
def test_what_a_process_of_it_can_do(pair: Pair) -> None:
    """No root, no descriptor but the two, no child, and nobody of its uid may look into it."""
    with asked(pair) as made:
        shaken(made)
        assert made.answer().is_up
        made.plain.sendall(b"x")
        made.client.recv(1)  # it relays by now
        process = Path(f"/proc/{made.child.pid}")
        status = dict(line.split(":\t") for line in (process / "status").read_text().splitlines() if ":\t" in line)
        assert status["Uid"].split() == ["65534"] * 4
        assert int(status["CapEff"], 16) == 0
        limits = {line[:26].strip(): line[26:].split()[0] for line in (process / "limits").read_text().splitlines()}
        assert (limits["Max processes"], limits["Max open files"], limits["Max file size"]) == ("0", "3", "0")
        assert len([fd for fd in (process / "fd").iterdir() if int(fd.name) > 2]) == 2
        assert (process / "mem").stat().st_uid == 0, "it is dumpable"

        def look() -> int:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            try:
                open(process / "mem", "rb").close()
            except PermissionError:
                return 0
            return 1

        assert os.waitpid(spawn.spawn(look), 0)[1] == 0


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"USER alice\r\nPASS secret\r\n", "wrong version number"),
        (b"GET / HTTP/1.0\r\n\r\n", "http request"),
        (b"\x16\x03\x01\x00\x05hello", ""),
        (b"", "the client left"),
        (b"\x80\x2e\x01\x00\x02" + bytes(41), ""),
    ],
    ids=["POP3", "HTTP", "rubbish", "nothing", "SSL 2"],
)
def test_what_is_no_handshake(pair: Pair, said: bytes, reason: str) -> None:
    with asked(pair) as made:
        made.client.sendall(said)
        made.client.shutdown(socket.SHUT_WR)
        answer = made.answer()
        assert not answer.is_up and answer.reason and reason in answer.reason
        with contextlib.suppress(ConnectionError):
            while made.client.recv(100):
                pass
        assert made.plain.recv(1) == b""


def test_a_client_that_does_not_believe_the_certificate(pair: Pair) -> None:
    with asked(pair) as made:
        made.context = ssl.create_default_context()
        with pytest.raises(ssl.SSLCertVerificationError):
            shaken(made)
        answer = made.answer()
        # In TLS 1.3 its alert comes behind the handshake.
        assert answer.is_up or "unknown ca" in answer.reason
        assert made.plain.recv(1) == b""


def test_a_handshake_has_its_time(pair: Pair) -> None:
    with asked(pair, POPAD_TLS_TIMEOUT="1") as made:
        assert made.answer().reason == "timed out"
        with contextlib.suppress(ConnectionError):
            assert made.client.recv(100) == b""


def test_a_name_that_no_certificate_has(pair: Pair) -> None:
    with asked(pair, POPAD_TLS_UNKNOWN_NAME="refuse") as made:
        with pytest.raises(ssl.SSLError):
            made.client = made.context.wrap_socket(made.client, server_hostname="other.example.org")
        assert made.answer().reason == "no certificate is for 'other.example.org'"


def test_a_session_that_has_gone_has_no_relay(pair: Pair) -> None:
    with asked(pair) as made:
        made.child.channel.socket.close()
        made.plain.close()
        with contextlib.suppress(OSError):
            shaken(made).recv(1)


@pytest.mark.parametrize("sent", [(), (b"x" * 65,), (b"a", b"b")], ids=["nothing", "too much", "two"])
def test_what_is_no_request(pair: Pair, sent: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves without a word."""
    monkeypatch.setattr(helper, "REQUEST_TIMEOUT", 0.2)
    child = spawn.with_channel(lambda channel: TlsHelper(Settings(settings(pair))).serve(channel))
    with socket.socket() as one, socket.socket() as two:
        if sent:
            child.channel.send(sent, one.fileno(), two.fileno())
        assert child.pid and os.waitpid(child.pid, 0)[1] == 0
    child.pid = None
    assert child.channel.is_empty()
    child.end()


def test_tickets_are_of_all_processes_and_of_one_day(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client resumes with another process of the helper; and the helper says when its tickets are old."""
    made = TlsHelper(Settings(settings(pair)))
    assert not made.is_old()
    monkeypatch.setattr("time.monotonic", lambda: made.contexts.born + certificates.DAY + 1)
    assert made.is_old()
    monkeypatch.undo()
    session, context = None, ssl.create_default_context(cafile=str(pair.chain))
    resumed = []
    for _ in range(3):
        one = Asked(pair, made.serve)
        one.context = context  # a ticket is of one context of the client's
        client = shaken(one, session)
        one.plain.sendall(b"x")
        client.recv(1)  # the ticket has come before it
        session = client.session
        resumed.append(one.answer().resumed)
        assert one.close() == 0
    assert resumed == [False, True, True]


def test_what_ends_soon_is_in_the_journal(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []
    monkeypatch.setattr(journal, "send", lambda event, **fields: said.append((event.name, fields["reason"])))
    TlsHelper(Settings(settings(pair))).warn()
    assert said == []
    TlsHelper(Settings(settings(end(pair)))).warn()
    assert said == [("certificate-expires", f"{pair.chain}: certificate has expired")]


def test_without_its_files_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(CertificateWrong):
        TlsHelper(Settings({"POPAD_TLS_CERTIFICATE": str(tmp_path / "none")}))


def test_many_at_once(pair: Pair) -> None:
    """Each has a process of its own."""
    many = [Asked(pair) for _ in range(12)]
    threads = [threading.Thread(target=shaken, args=(each,)) for each in many]
    for thread in threads:
        thread.start()
    assert all(each.answer().is_up for each in many)
    for thread in threads:
        thread.join()
    assert len({each.child.pid for each in many}) == 12
    assert all(each.close() == 0 for each in many)
