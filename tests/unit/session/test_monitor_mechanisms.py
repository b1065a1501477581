"""session/monitor.py: logins by AUTH in real sessions: what is carried on, what is cancelled, what ends a session."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from popad.auth import credentials, verifiers
from popad.session import monitor
from tests.support.patience import PATIENCE
from tests.support.scram import ScramClient, b64
from tests.support.serving import ALL, NAME, PASSWORD, Client, Server


@contextmanager
def greeted(server: Server, **settings: str) -> Iterator[Client]:
    given = {"guess_delay": "0", **settings}
    with server.session({f"POPAD_{key.upper()}": value for key, value in given.items()}) as (client, process):
        client.line()
        yield client
        client.close()
        assert process.wait(PATIENCE) == 0


def begin(client: Client, scram: ScramClient) -> bytes:
    """The server's first message."""
    answer = client.ask(f"AUTH {scram.scheme} {b64(scram.first()).decode()}")
    assert answer.startswith(b"+ "), answer
    return base64.b64decode(answer[2:])


def prove(client: Client, scram: ScramClient, first: bytes) -> bytes:
    return client.ask(b64(scram.final(first)).decode())


def test_a_login_by_scram(server: Server) -> None:
    with greeted(server) as client:
        scram = ScramClient(NAME, PASSWORD)
        answer = prove(client, scram, begin(client, scram))
        assert scram.believes(base64.b64decode(answer[2:]))
        assert client.ask("") == b"+OK 3 messages (102 octets)"
        assert client.ask("STAT") == b"+OK 3 102"
        assert client.ask("QUIT").startswith(b"+OK")
    assert (server.log[1]["event"], server.log[1]["mechanism"]) == ("login-passed", "SCRAM-SHA-256")


def test_what_comes_behind_the_last_response_is_answered(server: Server) -> None:
    """RFC 2449 section 6.6: a client may not wait, and nothing of what it has sent is lost."""
    with greeted(server) as client:
        scram = ScramClient(NAME, PASSWORD)
        prove(client, scram, begin(client, scram))
        client.send(b"\r\nSTAT\r\nDELE 1\r\nQUIT\r\n")
        assert client.rest().split(b"\r\n")[:3] == [
            b"+OK 3 messages (102 octets)",
            b"+OK 3 102",
            b"+OK message 1 deleted",
        ]
    assert server.mailbox.read_bytes() != ALL


def test_an_exchange_that_is_cancelled_is_no_attempt(server: Server) -> None:
    """Before the proof, behind the signature, and as a line that makes no sense; then another mechanism."""
    with greeted(server) as client:
        scram = ScramClient(NAME, PASSWORD)
        begin(client, scram)
        assert client.ask("*") == b"-ERR cancelled"
        begin(client, ScramClient("nobody", "x"))
        assert client.ask("x").startswith(b"-ERR")
        scram = ScramClient(NAME, PASSWORD)
        prove(client, scram, begin(client, scram))
        assert client.ask("*") == b"-ERR cancelled"
        assert client.ask(f"AUTH PLAIN {b64(f'{NAME}{chr(0)}{NAME}{chr(0)}{PASSWORD}'.encode()).decode()}").startswith(
            b"+OK 3"
        )
        client.ask("QUIT")
    assert [entry["event"] for entry in server.log if "login" in entry["event"]] == ["login-passed"]


def test_too_many_that_are_cancelled(server: Server) -> None:
    with greeted(server) as client:
        for number in range(10):
            begin(client, ScramClient(NAME, PASSWORD))
            assert client.ask("*") == b"-ERR cancelled" + (b"; too many errors" if number == 9 else b"")
        assert client.rest() == b""
    assert server.log[-1]["reason"].startswith("too many errors, after AUTH, AUTH (refused)")


@pytest.mark.parametrize(("name", "password"), [(NAME, "wrong"), ("nobody", PASSWORD), ("root", PASSWORD)])
def test_a_wrong_proof_is_the_one_attempt(server: Server, name: str, password: str) -> None:
    """The answer is that of a wrong password; what comes behind it is not heard."""
    with greeted(server) as client:
        scram = ScramClient(name, password)
        first = begin(client, scram)
        client.send(b64(scram.final(first)) + f"\r\nUSER {NAME}\r\nPASS {PASSWORD}\r\n".encode())
        assert client.rest() == monitor.WRONG
    assert server.log[-1]["event"] == ("login-refused" if name == "root" else "login-failed")
    assert server.log[-1].get("user") == (None if name == "nobody" else name)


def test_a_client_that_leaves_amid_an_exchange(server: Server) -> None:
    with greeted(server) as client:
        begin(client, ScramClient(NAME, PASSWORD))
    assert server.log[-1]["reason"] == "the client left, after AUTH"


def test_a_client_that_does_not_go_on(server: Server) -> None:
    """The login's time is over; the worker of the auth helper is not kept."""
    with greeted(server, login_timeout="1") as client:
        begin(client, ScramClient(NAME, PASSWORD))
        assert client.rest() == b""
    assert server.log[-1]["reason"] == "timed out, after AUTH"


def test_a_helper_that_gives_up_before_the_client(server: Server) -> None:
    """It waits for a challenge's answer for less than the login may take: the client hears of a failure then."""
    with greeted(server, auth_timeout="1", login_timeout="20") as client:
        begin(client, ScramClient(NAME, PASSWORD))
        assert client.rest() in (monitor.LATER, monitor.WRONG)
    assert server.log[-1]["event"] in ("login-unavailable", "login-failed")


def test_a_helper_that_cannot_be_had(server: Server) -> None:
    with greeted(server, auth_socket="/nonexistent") as client:
        client.send(b"AUTH SCRAM-SHA-256 " + b64(ScramClient(NAME, PASSWORD).first()) + b"\r\n")
        assert client.rest() == monitor.LATER
    assert server.log[-1]["event"] == "login-unavailable"


@pytest.mark.parametrize(("whose", "passes"), [("", True), (NAME, True), ("root", False), ("bob", False)])
def test_whose_mail(server: Server, whose: str, passes: bool) -> None:
    """One's own, and no other's (RFC 4616 section 2)."""
    message = b64(f"{whose}\0{NAME}\0{PASSWORD}".encode()).decode()
    with greeted(server) as client:
        answer = client.ask(f"AUTH PLAIN {message}")
        assert answer.startswith(b"+OK" if passes else b"-ERR [AUTH]")


def test_sha1_where_it_is_offered_and_the_file_has_it(server: Server) -> None:
    line = credentials.line(NAME, PASSWORD.encode(), 4096, (verifiers.SCHEME, verifiers.OLD_SCHEME))
    server.credentials.write_text(line + "\n")
    with greeted(server, sasl="SCRAM-SHA-1") as client:
        client.send(b"CAPA\r\n")
        assert b"SASL SCRAM-SHA-1\r\n" in [client.line() for _ in range(4)]
        while client.line() != b".\r\n":
            pass
        scram = ScramClient(NAME, PASSWORD, "SCRAM-SHA-1")
        answer = prove(client, scram, begin(client, scram))
        assert scram.believes(base64.b64decode(answer[2:]))
        assert client.ask("").startswith(b"+OK")


def test_names_and_passwords_beyond_ascii(server: Server) -> None:
    """UTF-8 (RFC 6856), prepared (RFC 4013): typed in another way than they were set."""
    line = credentials.line("j\u00fcrgen", "pa\u0308ss".encode(), 4096)
    server.credentials.write_text(line + "\n")
    for name, password in (("j\u00fcrgen", "p\u00e4ss"), ("ju\u0308rgen", "pa\u0308ss")):
        with greeted(server) as client:
            assert client.ask("UTF8").startswith(b"+OK")
            assert client.ask(f"USER {name}").startswith(b"+OK")
            client.send(f"PASS {password}\r\n".encode())
            assert not client.line().startswith(b"-ERR [AUTH]")
        assert [entry["user"] for entry in server.log if entry["event"] == "login-passed"][-1] == "j\u00fcrgen"
