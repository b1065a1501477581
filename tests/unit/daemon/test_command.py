"""daemon/command.py: what `popad -D` is told, and what it says before it detaches."""

import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from popad.daemon.command import Options
from popad.errors import NotInvokedRight
from tests.support import certificates
from tests.support.daemon import free_ports
from tests.support.here import CHECKOUT
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE
from tests.support.serving import POPAD, Client, Server


@pytest.fixture
def server(public_path: Path) -> Server:
    return Server(public_path)


def popad(*arguments: str, settings: Mapping[str, str] = {}) -> "subprocess.CompletedProcess[bytes]":
    """`popad ARGUMENTS` to its end."""
    return subprocess.run(
        [*POPAD, *arguments],
        cwd=CHECKOUT,
        env={"PATH": os.defpath, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-4"], "-4 is an option of the standalone daemon: -D is missing"),
        (["-6"], "-6 is an option of the standalone daemon: -D is missing"),
        (["--foreground"], "-D is missing"),
        (["--listen", "127.0.0.1:8110"], "-D is missing"),
        (["-D", "-5"], "option -5 not recognized"),
        (["-D", "--listen"], "option --listen requires argument"),
        (["-D", "now"], "unexpected argument now"),
        (["-D", "-4", "--listen=127.0.0.1:8110"], "--listen names the family"),
    ],
)
def test_arguments_that_do_not_go(arguments: list[str], complaint: str) -> None:
    done = popad(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr.decode()
    assert b"usage:" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "families"),
    [
        (["-D"], {socket.AF_INET, socket.AF_INET6}),
        (["-D", "-4"], {socket.AF_INET}),
        (["-6D"], {socket.AF_INET6}),
        (["-D", "-4", "-6"], {socket.AF_INET, socket.AF_INET6}),
    ],
)
def test_families(arguments: Sequence[str], families: set[int]) -> None:
    assert Options(arguments).families == families


def test_options() -> None:
    options = Options(["-D", "--foreground", "--listen", "a", "--listen=b", "--config", "c"])
    assert (options.foreground, options.addresses, options.config) == (True, ["a", "b"], "c")
    assert not Options(["-D"]).foreground
    with pytest.raises(NotInvokedRight):
        Options(["--foreground"])


def test_a_port_in_use(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = f"127.0.0.1:{other.getsockname()[1]}"
        done = popad("-D", "--listen", where, settings=server.settings)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == f"popad: cannot listen: {where}: Address already in use\n"


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ("192.0.2.1:8110", "192.0.2.1:8110: Cannot assign requested address"),
        ("localhost:8110", "localhost:8110: localhost is not an address"),
        ("127.0.0.1", "127.0.0.1: expected ADDRESS:PORT, [ADDRESS]:PORT or :PORT"),
        (":", ":: expected ADDRESS:PORT, [ADDRESS]:PORT or :PORT"),
        (":70000", ":70000: expected ADDRESS:PORT, [ADDRESS]:PORT or :PORT"),
    ],
)
def test_an_address_that_is_none_of_ours(server: Server, where: str, complaint: str) -> None:
    done = popad("-D", "--listen", where, settings=server.settings)
    assert (done.returncode, done.stderr.decode()) == (1, f"popad: cannot listen: {complaint}\n")


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"POPAD_MAX_SESSIONS": "many"}, "POPAD_MAX_SESSIONS: must be a whole number"),
        ({"POPAD_MAX_SESSION": "1"}, "POPAD_MAX_SESSION: no such setting"),
        pytest.param({"POPAD_USER": "no-such-user"}, "POPAD_USER: there is no user", marks=needs_root),
    ],
)
def test_a_wrong_setting(server: Server, settings: dict[str, str], complaint: str) -> None:
    """Before it detaches."""
    (port,) = free_ports(socket.AF_INET, "127.0.0.1")
    done = popad("-D", f"--listen=127.0.0.1:{port}", settings=server.settings | settings)
    assert done.returncode == 78
    assert done.stderr.decode().startswith(f"popad: {complaint}")


def test_only_a_look_at_the_settings(server: Server, tmp_path: Path) -> None:
    """--test listens nowhere and leaves nothing; what is in popad.conf's place counts."""
    config = tmp_path / "popad.conf"
    config.write_text("POPAD_TIMEOUT=700\n")
    done = popad("-D", "--test", "--config", str(config), settings=server.settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    config.write_text("POPAD_TIMEOUT=soon\n")
    done = popad("-D", "--test", "--config", str(config), settings=server.settings)
    assert (done.returncode, done.stderr) == (78, b"popad: POPAD_TIMEOUT: must be a whole number\n")


def test_a_look_at_the_certificates(server: Server, tmp_path: Path) -> None:
    """A reload with one that does not fit fails: else clients would find out."""
    pair = certificates.make(tmp_path)
    settings = server.settings | certificates.settings(pair)
    done = popad("-D", "--test", settings=settings)
    assert (done.returncode, done.stderr) == (0, b"")
    pair.key.write_bytes(certificates.make(tmp_path, name="another").key.read_bytes())
    done = popad("-D", "--test", settings=settings)
    assert done.returncode == 78
    assert done.stderr.startswith(f"popad: POPAD_TLS_CERTIFICATE: {pair.chain}, {pair.key}: ".encode())


def test_a_config_file_that_is_not_there(server: Server) -> None:
    (port,) = free_ports(socket.AF_INET, "127.0.0.1")
    done = popad("-D", f"--listen=127.0.0.1:{port}", "--config=/nonexistent", settings=server.settings)
    assert (done.returncode, done.stderr) == (78, b"popad: --config: there is no file /nonexistent\n")


def test_detach(server: Server) -> None:
    """The command ends when the port is open; the daemon has no terminal, no directory and no standard streams."""
    (port,) = free_ports(socket.AF_INET, "127.0.0.1")
    done = popad("-D", f"--listen=127.0.0.1:{port}", settings=server.settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    listening = subprocess.run(["ss", "-Hltnp", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
    (pid,) = {int(found) for found in re.findall(r"pid=(\d+)", listening)}
    try:
        client = Client(socket.create_connection(("127.0.0.1", port), PATIENCE))
        assert client.log_in().startswith(b"+OK")
        client.close()
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
        assert os.getsid(pid) != os.getsid(0)
    finally:
        fd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        assert select.select([fd], [], [], PATIENCE)[0]
        os.close(fd)
