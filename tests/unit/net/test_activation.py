"""net/activation.py: real sockets over the loopback, handed over as systemd and inetd hand them over."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from popad.errors import NotInvokedRight
from popad.net.activation import connection
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serving import PYTHON, reset
from tests.support.serving import connection as connected

# -- what is handed over. In processes of their own, as the descriptors are numbers.

# Prints what accept() says, the files behind the standard descriptors, and what is left of systemd's variables.
PROBE = """
import os
from popad.errors import NotInvokedRight
from popad.net.activation import accept
try:
    got = accept(os.environ)
except NotInvokedRight as wrong:
    answer = f"refused: {wrong}"
else:
    files = [os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in (0, 1, 2)]
    answer = f"{got.rhost} {got.rport} {got.fileno()} {os.get_inheritable(got.fileno())} {' '.join(files)}"
answer += f" {[name for name in os.environ if name.startswith('LISTEN')]}"
os.write(5, answer.encode())
"""


def probe(tmp_path: Path, shell: str, environment: dict[str, str], inherits: socket.socket) -> str:
    """What the probe answers when `shell` has arranged its descriptors; "$@" is the probe."""
    answer = tmp_path / "answer"
    done = subprocess.run(
        ["bash", "-ec", f"exec 5>{answer}; {shell}", "bash", PYTHON, "-c", PROBE],
        cwd=CHECKOUT,
        env={"PATH": os.defpath, **environment},
        pass_fds=[inherits.fileno()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b""
    return answer.read_text()


@pytest.fixture
def pair_of_sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = connected()
    with ours, theirs:
        yield ours, theirs


def test_from_systemd(tmp_path: Path, pair_of_sockets: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair_of_sockets
    shell = (
        f'export LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=connection; exec 3<&{theirs.fileno()} 2>/dev/null; exec "$@"'
    )
    answer = probe(tmp_path, shell, {"REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "1"}, theirs)
    # The kernel knows the peer better than the environment; the children believe no LISTEN_FDS.
    assert answer == f"127.0.0.1 {ours.getsockname()[1]} 3 False /dev/null pipe /dev/null []"


@pytest.mark.parametrize("shell", ["exec 0<&{0} 1>&{0} 2>&{0}", "exec 0<&{0} 1>&{0} 2>&-", "exec 0<&{0} 1>&- 2>&{0}"])
def test_from_inetd(tmp_path: Path, pair_of_sockets: tuple[socket.socket, socket.socket], shell: str) -> None:
    """The socket is taken off the standard descriptors: no traceback may reach the client."""
    ours, theirs = pair_of_sockets
    answer = probe(tmp_path, shell.format(theirs.fileno()) + '; exec "$@"', {}, theirs)
    rhost, rport, fd, inheritable, *files, left = answer.split()
    assert (rhost, rport) == ("127.0.0.1", str(ours.getsockname()[1]))
    assert int(fd) > 2
    assert inheritable == "False"
    assert files == ["/dev/null"] * 3
    assert left == "[]"


def test_from_inetd_leaves_another_stderr_alone(
    tmp_path: Path, pair_of_sockets: tuple[socket.socket, socket.socket]
) -> None:
    _, theirs = pair_of_sockets
    answer = probe(tmp_path, f'exec 0<&{theirs.fileno()} 1>&0 2>{tmp_path}/log; exec "$@"', {}, theirs)
    assert answer.split()[4:7] == ["/dev/null", "/dev/null", f"{tmp_path}/log"]


@pytest.mark.parametrize(
    ("shell", "reason"),
    [
        ("exec 0</dev/null", "standard input is not a socket"),
        ("exec 0<&-", "standard input is closed"),
        ("export LISTEN_FDS=1 LISTEN_PID=1; exec 3<&{0}", "LISTEN_FDS is not about this process"),
        ("export LISTEN_FDS=1; exec 3<&{0}", "LISTEN_FDS is not about this process"),
        ("export LISTEN_FDS=2 LISTEN_PID=$$; exec 3<&{0} 4<&{0}", "LISTEN_FDS names more than one socket"),
        ("export LISTEN_FDS=x LISTEN_PID=$$; exec 3<&{0}", "LISTEN_FDS is not about this process"),
        ("export LISTEN_FDS=1 LISTEN_PID=$$; exec 3</dev/null", "not a connected stream socket"),
    ],
)
def test_nothing_to_serve(
    tmp_path: Path, pair_of_sockets: tuple[socket.socket, socket.socket], shell: str, reason: str
) -> None:
    _, theirs = pair_of_sockets
    answer = probe(tmp_path, shell.format(theirs.fileno()) + '; exec "$@"', {}, theirs)
    assert answer.startswith("refused: ")
    assert reason in answer


def test_a_listening_socket_is_no_connection(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        shell = f'export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<&{listening.fileno()}; exec "$@"'
        assert "not a connected stream socket" in probe(tmp_path, shell, {}, listening)


def test_a_datagram_socket_is_no_connection(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        shell = f'export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<&{datagrams.fileno()}; exec "$@"'
        assert "not a connected stream socket" in probe(tmp_path, shell, {}, datagrams)


# -- who is at the other end


def environment(**variables: str) -> "os._Environ[str]":
    """What accept() takes; only reading of it is needed."""
    return variables  # type: ignore[return-value]  # a dict can be read like it


def test_a_client_that_has_left_is_who_systemd_saw() -> None:
    ours, theirs = connected()
    reset(ours)
    with theirs:
        theirs.settimeout(PATIENCE)
        with pytest.raises(ConnectionResetError):
            theirs.recv(1)
        left = connection(theirs.fileno(), environment(REMOTE_ADDR="192.0.2.7", REMOTE_PORT="4711"))
        assert (left.rhost, left.rport) == ("192.0.2.7", 4711)
        unknown = connection(theirs.fileno(), environment())
        assert (unknown.rhost, unknown.rport) == ("", None)
        strange = connection(theirs.fileno(), environment(REMOTE_ADDR="::ffff:192.0.2.7", REMOTE_PORT="x"))
        assert (strange.rhost, strange.rport) == ("192.0.2.7", None)
        for made in (left, unknown, strange):
            made.socket.detach()


def test_an_ipv4_client_of_a_dual_stack_socket() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    listening = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    with listening, socket.create_connection(("127.0.0.1", listening.getsockname()[1])) as ours:
        theirs, _ = listening.accept()
        with theirs:
            made = connection(theirs.fileno(), environment())
            assert (made.rhost, made.rport) == ("127.0.0.1", ours.getsockname()[1])
            made.socket.detach()


def test_an_ipv6_client() -> None:
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no IPv6 loopback here: {error.strerror}")
    with listening, socket.create_connection(listening.getsockname()[:2]) as ours:
        theirs, _ = listening.accept()
        with theirs:
            made = connection(theirs.fileno(), environment())
            assert (made.rhost, made.rport) == ("::1", ours.getsockname()[1])
            made.socket.detach()


def test_a_client_on_a_unix_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        made = connection(theirs.fileno(), environment(REMOTE_PORT="7"))
        assert (made.rhost, made.rport) == ("", None)
        made.socket.detach()


def test_not_a_descriptor() -> None:
    with pytest.raises(NotInvokedRight):
        connection(1000, environment())
