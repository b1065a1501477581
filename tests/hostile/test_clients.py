"""Clients that send more than they should, or read less: the memory of a session has a bound, its time as well."""

import os
import select
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.patience import PATIENCE
from tests.support.serving import ALL, Client, Server, children_of, status_of

GROWTH = 4.0  # MB: a read, its answers, and what the allocator makes of that
MANY = 60_000  # commands, or octets of them before the login


def peak(pid: int) -> float:
    """The most memory that the process ever had, in MB."""
    return int(status_of(pid)["VmHWM"].split()[0]) / 1024


@contextmanager
def sending(client: Client, octets: bytes) -> Iterator[None]:
    """Octets go out while the client reads, or does something else."""
    sender = threading.Thread(target=client.send, args=(octets,))
    sender.start()
    yield
    sender.join()


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"NOOP\r\n", b"+OK nothing done\r\n"),
        (b"\n", b"-ERR no command\r\n"),
        (b"RETR 9\r\n", b"-ERR no such message\r\n"),
    ],
    ids=["NOOP", "nothing", "RETR"],
)
def test_many_commands_at_once(server: Server, command: bytes, answer: bytes) -> None:
    """Each is answered; the answers to one read are all that is ever kept."""
    with server.session() as (client, process):
        client.log_in()
        client.ask("RETR 1")
        client.body()
        before = peak(process.pid)
        with sending(client, command * MANY):
            heard = client.incoming.read(len(answer) * MANY)
        assert heard == answer * MANY
        assert peak(process.pid) < before + GROWTH
        assert client.ask("QUIT").startswith(b"+OK")


def test_much_before_the_login(server: Server) -> None:
    """A line without an end is one error."""
    with server.session() as (client, process):
        client.line()
        client.ask("CAPA")
        client.body()
        (child,) = children_of(process.pid)
        before = peak(child)
        with sending(client, b"x" * MANY + b"\r\nUSER alice\r\n"):
            assert client.line() == b"-ERR line too long\r\n"
            assert client.line() == b"+OK now PASS\r\n"
        assert peak(child) < before + GROWTH
        assert peak(process.pid) < peak(child) + 32  # what the session loads meanwhile
        client.ask("QUIT")


@pytest.mark.parametrize("command", [b"CAPA\r\n", b"\n", b"USER x\r\n"], ids=["CAPA", "nothing", "USER"])
def test_many_commands_before_the_login(server: Server, command: bytes) -> None:
    """They have an end; the last answer says so, and arrives."""
    with server.session() as (client, process):
        with sending(client, command * (MANY // len(command))):
            heard = client.rest()
        assert heard.endswith(b"; too many errors\r\n")
        assert len(heard) < 50_000
        client.close()
        assert process.wait(PATIENCE) == 0


def test_commands_of_a_client_that_reads_nothing(server: Server) -> None:
    """They stay where they are: the session does not read on."""
    with server.session({"POPAD_TIMEOUT": "1"}) as (client, process):
        client.log_in()
        before = peak(process.pid)
        client.socket.setblocking(False)
        ended = os.pidfd_open(process.pid)
        sent, most = 0, before
        while not select.select([ended], [], [], 0)[0]:
            try:
                sent += client.socket.send(b"NOOP\r\n" * 10_000)
            except BlockingIOError:
                select.select([ended], [client.socket], [], PATIENCE)
            except ConnectionError:
                break
            try:
                most = max(most, peak(process.pid))
            except (KeyError, FileNotFoundError):
                break  # it has ended
        os.close(ended)
        assert process.wait(PATIENCE) == 0
    assert sent > 100_000
    assert most < before + GROWTH
    assert server.events[-2:] == ["peer-silent", "session-closed"]
    assert server.mailbox.read_bytes() == ALL


def test_an_unauthenticated_client_that_reads_an_octet_at_a_time(server: Server) -> None:
    """There is no more to read than the answers to so many commands: it holds nobody up."""
    with server.session({"POPAD_LOGIN_TIMEOUT": "1"}) as (client, process):
        ended = os.pidfd_open(process.pid)
        client.socket.setblocking(False)
        while not select.select([ended], [], [], 0.005)[0]:
            try:
                client.socket.recv(1)
                client.socket.send(b"CAPA\r\n" * 10_000)
            except BlockingIOError:
                continue
            except ConnectionError:
                break
        os.close(ended)
        assert process.wait(PATIENCE) == 0
    assert server.log[-1]["event"] == "login-not-attempted"
    assert server.log[-1]["reason"].startswith("too many errors, after CAPA, ")
