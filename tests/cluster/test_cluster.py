"""Two hosts with one store behind HAProxy; one is stopped, and dies (python3 -m tests.cluster has more of it)."""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from tests.support import certificates
from tests.support.machine import needs
from tests.support.patience import wait_until
from tests.support.pop3 import Pop3

from .clients import deliver
from .hosts import DAEMON, PASSWORD, Cluster, Host, package, running
from .trial import attempt

PER_MINUTE = 30  # connections of a source, as packaging/examples/haproxy.cfg has it
MBOX = "POPAD_MAILDROP=mbox:/srv/mail/{user}/mbox\nPOPAD_STATE=/srv/state\n"
MESSAGE = b"From a@b Thu Jan  1 00:00:00 1970\nDate: today\n\nbody %d\n\n"
ENTRIES = 4  # in the journal, of a session that fetches nothing: SCALING.md has it
REMEMBERED = 40  # messages: of fewer a Maildir's sizes are not remembered
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
        wait_until(functools.partial(have_ended, host, "127.2.0.1", 2), pause=0.1)
        entries = host.machine.journal("POPAD_RHOST=127.2.0.1")
        assert all(entry["POPAD_TLS"] for entry in entries if entry["POPAD_EVENT"] == "session-closed")
        assert len(entries) == 2 * ENTRIES


def have_ended(host: Host, source: str, count: int) -> bool:
    return len(host.machine.journal("POPAD_EVENT=session-closed", f"POPAD_RHOST={source}")) == count


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


def test_what_the_proxy_asks_is_not_in_the_journal(cluster: Cluster) -> None:
    for host in cluster.hosts:
        assert host.machine.journal(f"POPAD_RHOST={cluster.address}") == []


def test_an_mbox_file_has_the_same_ids_on_all_hosts(cluster: Cluster) -> None:
    """Messages with equal headers: which of them has which id is remembered in POPAD_STATE, which all hosts have."""
    user, (one, two) = "user2", cluster.hosts
    mailbox = cluster.store.path / "mail" / user / "mbox"
    mailbox.write_bytes(b"".join(MESSAGE % number for number in range(3)))
    os.chown(mailbox, cluster.store.users[user], cluster.store.users[user])
    with contextlib.ExitStack() as settings:
        for host in cluster.hosts:
            settings.enter_context(host.settings(MBOX))
        before = ids(cluster, one, user, "DELE 1")
        assert ids(cluster, two, user, "DELE 2") == before[1:]
        assert ids(cluster, one, user, "NOOP") == before[1:2]


@pytest.mark.parametrize("shared", [True, False])
def test_what_one_host_has_learnt_of_a_maildir(cluster: Cluster, shared: bool) -> None:
    """All know it where POPAD_CACHE is one directory for all; else the other one has to read, which it may not."""
    user, (one, two) = f"user{3 + shared}", cluster.hosts
    maildir = cluster.store.maildir(user)
    for number in range(REMEMBERED):
        deliver(cluster.store, user, number, MESSAGE % number)
    for part in ("new", "cur"):
        os.utime(maildir / part, (1, 1))  # at rest
    with contextlib.ExitStack() as settings:
        for host in cluster.hosts:
            settings.enter_context(host.settings("POPAD_CACHE=/srv/cache\n" if shared else ""))
        before = asked(cluster, one, user, "LIST")
        if shared:
            remembered = f"{cluster.store.users[user]}-*"  # written when the client has gone
            wait_until(lambda: list((cluster.store.path / "cache").glob(remembered)))
        for file in (maildir / "new").iterdir():
            file.chmod(0)
        assert (asked(cluster, two, user, "LIST") == before) == shared


def ids(cluster: Cluster, host: Host, user: str, command: str) -> list[bytes]:
    """The unique-ids that a session on this host lists before a command and QUIT."""
    return [row.split()[1] for row in asked(cluster, host, user, "UIDL", command).splitlines()]


def asked(cluster: Cluster, host: Host, user: str, question: str, command: str = "NOOP") -> bytes:
    """The long answer of a session on this host, before a command and QUIT."""
    with Pop3(cluster.front.connect(host.address)) as client:
        client.socket.sendall(b"PROXY TCP4 127.2.0.5 127.0.0.1 1 110\r\n")
        client.greeted()
        client.ok(f"USER {user}")
        client.ok(f"PASS {PASSWORD}")
        client.ok(question)
        said = client.body()
        client.ok(command)
        client.ok("QUIT")
    return said


@pytest.mark.parametrize("event", ["drained", "machine-killed"])
def test_no_mail_is_lost_and_no_other_session_ends(cluster: Cluster, event: str) -> None:
    tried = attempt(cluster, event, before=BEFORE, after=AFTER)
    print(tried.row())
    assert tried.faults == []
    if event == "machine-killed":
        assert tried.sessions.ended == tried.sessions.at_work
        wait_until(lambda: cluster.served_by() == {host.name for host in cluster.hosts[1:]})
