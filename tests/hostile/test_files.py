"""Mailboxes that somebody has made to hurt: each session ends at once, with a reason in the log, and touches nothing.

What large ones cost is measured by sizes.py, and tried here a hundredth as large.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.hostile import sizes
from tests.support.here import ROOT
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE
from tests.support.serving import ALL, OWNER, Server, ids

SECRET = b"From x\nDate: 1\n\nanother user's mail\n\n"


def symlink_to_another_users_mail(path: Path, secret: Path) -> None:
    path.symlink_to(secret)


def symlink_to_own_mail(path: Path, secret: Path) -> None:
    own = path.with_name("own")
    own.write_bytes(ALL)
    os.chown(own, *ids(OWNER))
    path.symlink_to(own)


def fifo(path: Path, secret: Path) -> None:
    os.mkfifo(path, 0o666)


def directory(path: Path, secret: Path) -> None:
    path.mkdir()


def unix_socket(path: Path, secret: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def terminal(path: Path, secret: Path) -> None:
    if not ROOT:
        pytest.skip("needs root: makes a device")
    os.mknod(path, 0o20666, os.makedev(5, 0))


def endless_device(path: Path, secret: Path) -> None:
    if not ROOT:
        pytest.skip("needs root: makes a device")
    os.mknod(path, 0o20666, os.makedev(1, 5))  # zero


def hard_link_to_another_users_mail(path: Path, secret: Path) -> None:
    """As any user may make one in a spool that all may write to, where fs.protected_hardlinks is off."""
    if not ROOT:
        pytest.skip("needs root: a file of another user")
    os.link(secret, path)


@pytest.mark.parametrize(
    "make",
    [
        symlink_to_another_users_mail,
        symlink_to_own_mail,
        fifo,
        directory,
        unix_socket,
        terminal,
        endless_device,
        hard_link_to_another_users_mail,
    ],
)
def test_what_is_not_the_users_mailbox(server: Server, make: Callable[[Path, Path], None]) -> None:
    secret = server.path / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    server.mailbox.unlink()
    make(server.mailbox, secret)
    with server.session() as (client, process):
        assert client.log_in().startswith(b"-ERR [SYS/PERM] ")
        client.send(b"RETR 1\r\nDELE 1\r\nQUIT\r\n")
        assert client.rest() == b""
        client.close()
        assert process.wait(PATIENCE) == 0
    assert server.log[-1]["event"] == "maildrop-refused"
    assert server.log[-1]["reason"]
    assert secret.read_bytes() == SECRET


@needs_root
def test_a_hard_link_is_served_where_its_user_could_do_the_same_without_popad(server: Server) -> None:
    """As by popa3d and Dovecot, which do not count links: the session is the user, with the user's rights alone."""
    other = server.path / "other"
    os.link(server.mailbox, other)
    with server.session() as (client, _):
        assert client.log_in() == b"+OK 3 messages (102 octets)"
    assert other.stat().st_ino == server.mailbox.stat().st_ino


@needs_root
@pytest.mark.parametrize(
    ("mode", "answer"), [(0o600, b"-ERR [SYS/PERM] "), (0o644, b"-ERR [SYS/PERM] "), (0o666, b"+OK ")]
)
def test_a_mailbox_of_somebody_else(server: Server, mode: int, answer: bytes) -> None:
    """Its mode says who may have it. What can be read and not removed is not served: it would be fetched for ever."""
    os.chown(server.mailbox, 1, 1)
    server.mailbox.chmod(mode)
    with server.session() as (client, _):
        assert client.log_in().startswith(answer)
    assert server.mailbox.read_bytes() == ALL


QUICK = [name for name, case in sizes.CASES.items() if name != "a header of 2 GB"]  # that takes seconds here, too


@pytest.mark.parametrize("name", QUICK)
def test_memory_has_a_bound(name: str) -> None:
    """The bound is for each message, never for an octet."""
    case = sizes.CASES[name]
    result = sizes.measure(name, case, case.size if case.sparse else case.size // 100)
    assert result["peak_mb"] < result["bound_mb"], result
    if case.commands:
        assert set(result["seconds"]) == {"login", *case.commands}, result
    else:
        assert result["answer"].startswith("-ERR [SYS/PERM]"), result
        assert result["reason"].startswith("not an mbox"), result
