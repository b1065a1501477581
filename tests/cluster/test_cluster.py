"""Two hosts with one store behind HAProxy; one is stopped, and dies (python3 -m tests.cluster has more of it)."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from tests.support import certificates
from tests.support.machine import needs
from tests.support.patience import wait_until
from tests.support.pop3 import Pop3

from .hosts import DAEMON, PASSWORD, Cluster, package, running
from .trial import attempt

PER_MINUTE = 30  # connections of a source, as packaging/examples/haproxy.cfg has it
BEFORE, AFTER = 4.0, 5.0  # seconds of load


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if reason := needs():
        pytest.skip(reason)
    try:
        built = package()
    except FileNotFoundError as missing:
        pytest.skip(str(missing))
    with running(built, hosts=2, shape=DAEMON, users=30) as up:
        yield up


def connected(cluster: Cluster, source: str, port: int = 110) -> socket.socket:
    return cluster.front.connect("127.0.0.1", port, source=source)


def test_pop3s_and_stls_end_at_the_hosts(cluster: Cluster) -> None:
    """With the hosts' certificate, on each of them: two connections at once go to two hosts."""
    context = ssl.create_default_context(cafile=str(cluster.pair.chain))
    at_once = [
        context.wrap_socket(connected(cluster, "127.2.0.1", 995), server_hostname=certificates.HOST) for _ in "12"
    ]
    later = [Pop3(connected(cluster, "127.2.0.1")).greeted() for _ in "12"]
    for client in later:
        client.ok("STLS")
        client.socket = context.wrap_socket(client.socket, server_hostname=certificates.HOST)
    for client in [*(Pop3(each).greeted() for each in at_once), *later]:
        client.ok("USER user0")
        client.ok(f"PASS {PASSWORD}")
        client.ok("QUIT")
        client.socket.close()
    for host in cluster.hosts:
        entries = host.machine.journal("POPAD_EVENT=session-closed", "POPAD_RHOST=127.2.0.1")
        assert [bool(entry["POPAD_TLS"]) for entry in entries] == [True, True]


def test_guesses_are_counted_by_each_host(cluster: Cluster) -> None:
    """So whoever guesses has the first one, whose verdict waits for a second, on each of them."""
    clients = [Pop3(connected(cluster, "127.2.0.2")).greeted() for _ in cluster.hosts]
    guesses = [threading.Thread(target=guess, args=(client, n)) for n, client in enumerate(clients)]
    for each in guesses:
        each.start()
    for each in guesses:
        each.join()
    for host in cluster.hosts:
        (entry,) = host.machine.journal("POPAD_EVENT=login-failed", "POPAD_RHOST=127.2.0.2")
        assert "put off for 1 s" in entry["POPAD_REASON"]


def guess(client: Pop3, number: int) -> None:
    with client:
        client.ok("USER user1")
        assert client.say(f"PASS wrong {number}").startswith(b"-ERR [AUTH]")


def test_one_source_is_limited_for_all_hosts(cluster: Cluster) -> None:
    for _ in range(PER_MINUTE):
        with Pop3(connected(cluster, "127.2.0.3")).greeted() as client:
            client.ok("QUIT")
    with pytest.raises(ConnectionResetError), connected(cluster, "127.2.0.3") as refused:
        if refused.recv(1) == b"":
            raise ConnectionResetError
    with Pop3(connected(cluster, "127.2.0.4")).greeted():
        pass


def test_checks_of_the_proxy_are_not_in_the_journal(cluster: Cluster) -> None:
    for host in cluster.hosts:
        assert host.machine.journal(f"POPAD_RHOST={cluster.address}") == []


@pytest.mark.parametrize("event", ["drained", "machine-killed"])
def test_no_mail_is_lost_and_no_other_session_ends(cluster: Cluster, event: str) -> None:
    tried = attempt(cluster, event, before=BEFORE, after=AFTER)
    print(tried.row())
    assert tried.faults == []
    if event == "machine-killed":
        assert tried.sessions.ended == tried.sessions.at_work
        wait_until(lambda: cluster.served_by() == {host.name for host in cluster.hosts[1:]})
