"""session/postauth.py: ids that another server has left in the headers of the mailbox (POPAD_UIDL)."""

from contextlib import ExitStack

from tests.support.marks import needs_root
from tests.support.patience import PATIENCE
from tests.support.serving import ONE, THREE, TWO, Client, Server

FIRST, SECOND = "0123456789abcdef", "fedcba9876543210"
FORMER = {"POPAD_UIDL": "qpopper"}


def known(text: bytes, unique_id: str) -> bytes:
    return text.replace(b"\nDate:", f"\nX-UIDL: {unique_id}\nDate:".encode())


def listed(client: Client) -> list[str]:
    assert client.ask("UIDL").startswith(b"+OK")
    return [line.split()[1] for line in client.body().decode().splitlines()]


def ids_of(server: Server, settings: dict[str, str]) -> list[str]:
    with server.session(settings) as (client, process):
        client.log_in()
        found = listed(client)
        assert client.ask("QUIT").startswith(b"+OK")
        client.rest()
        assert process.wait(PATIENCE) == 0
    return found


def test_they_are_listed_and_stay(server: Server) -> None:
    """Also when the setting is gone; and nothing that comes later is believed."""
    server.deliver(known(ONE, FIRST) + TWO)
    own = ids_of(server, {})
    assert ids_of(server, FORMER) == [FIRST, own[1]]
    with server.mailbox.open("ab") as mailbox:
        mailbox.write(known(THREE, SECOND))
    assert ids_of(server, FORMER)[:2] == ids_of(server, {})[:2] == [FIRST, own[1]]
    assert SECOND not in ids_of(server, FORMER)
    assert "ids-not-kept" not in server.events


def test_sessions_at_once_list_the_same(server: Server) -> None:
    """None of them has a list when they begin."""
    server.deliver(known(ONE, FIRST) + known(TWO, FIRST) + known(THREE, SECOND))
    own = ids_of(server, {})
    with ExitStack() as stack:
        clients = [stack.enter_context(server.session(FORMER))[0] for _ in range(4)]
        for client in clients:
            client.log_in()
        for client in clients:
            client.send(b"UIDL\r\nQUIT\r\n")
        answers = [client.rest() for client in clients]
    assert answers[0].decode().split("\r\n")[1:4] == [f"1 {FIRST}", f"2 {own[1]}", f"3 {SECOND}"]
    assert set(answers) == {answers[0]}


@needs_root
def test_a_list_that_cannot_be_written(server: Server) -> None:
    """Mail is listed all the same, and the journal says what is wrong."""
    server.deliver(known(ONE, FIRST))
    server.state.chmod(0o755)
    assert ids_of(server, FORMER) == [FIRST]
    (entry,) = [entry for entry in server.log if entry["event"] == "ids-not-kept"]
    assert entry["reason"].startswith("the list of ids: [Errno 13] Permission denied")
    server.state.chmod(0o1733)
    assert ids_of(server, FORMER) == [FIRST]
    assert len(list(server.state.glob("*.list"))) == 1
