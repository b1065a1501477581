"""Real mail clients that log in by AUTH, each mechanism that they know: over TLS, with the certificate looked at."""

from __future__ import annotations

import base64
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from popad.auth import credentials, verifiers
from popad.tls.x509 import end_point
from tests.support import certificates
from tests.support.certificates import Pair
from tests.support.daemon import Daemon, daemon, free_ports
from tests.support.patience import PATIENCE
from tests.support.scram import ScramClient, b64
from tests.support.serving import NAME, PASSWORD, Server

from .mail import MAIL, NAMES

BOTH = (verifiers.SCHEME, verifiers.OLD_SCHEME)


@dataclass
class Place:
    """Where a client works, what it connects to, and what it may show of its own."""

    home: Path
    served: Daemon
    pair: Pair
    own: Pair

    @property
    def port(self) -> int:
        return self.served.ports[0]

    def write(self, name: str, text: str) -> str:
        path = self.home / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def run(self, *words: str, good: Sequence[int] = (0,)) -> str:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            words, env=environment, cwd=self.home, input="", capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode in good, done.stdout + done.stderr
        return done.stdout


def curl(place: Place, mechanism: str) -> str:
    password = "" if mechanism == "EXTERNAL" else PASSWORD  # else it is not tried
    login = (
        f'user = "{NAME}:{password}"\nlogin-options = "AUTH={mechanism}"\ncacert = "{place.pair.chain}"\nssl-reqd\n'
        f'cert = "{place.own.chain}"\nkey = "{place.own.key}"\nsilent\nshow-error\nfail\n'
    )
    url = f"pop3://localhost:{place.port}/"
    return "".join(place.run("curl", "-K", place.write("curlrc", login), f"{url}{number}") for number in (1, 2, 3))


def mpop(place: Place, mechanism: str) -> str:
    box = place.home / "mail"
    for part in ("cur", "new", "tmp"):
        (box / part).mkdir(parents=True)
    rc = place.write(
        "mpoprc",
        f"account default\nhost localhost\nport {place.port}\nauth {mechanism.lower()}\ntls on\ntls_starttls on\n"
        f"tls_trust_file {place.pair.chain}\ntls_cert_file {place.own.chain}\ntls_key_file {place.own.key}\n"
        f"user {NAME}\npassword {PASSWORD}\nkeep on\ndelivery maildir {box}\n",
    )
    place.run("mpop", "--file", rc)
    return "".join(path.read_text() for path in box.rglob("*") if path.is_file())


def mutt(place: Place, mechanism: str) -> str:
    """By Cyrus SASL."""
    spool = place.home / "inbox"
    spool.touch()
    rc = place.write(
        "muttrc",
        f"set pop_host=pop://{NAME}@localhost:{place.port}\nset pop_pass='{PASSWORD}'\nset pop_delete=no\n"
        f"set certificate_file={place.pair.chain}\nset spoolfile={spool}\nset ssl_usesystemcerts=no\nset pop_last=no\n"
        f"set pop_authenticators={mechanism.lower()}\nset folder={place.home}\n",
    )
    command = f"mutt -F {rc} -f {spool} -e 'push <fetch-mail><quit>y'"
    place.run("script", "-qec", f"TERM=xterm {command}", "/dev/null", good=(0, 1))
    return spool.read_text()


def perl(place: Place, mechanism: str) -> str:
    script = place.write(
        "fetch.pl",
        "use Net::POP3; use Authen::SASL; my ($port, $ca, $cert, $key, $how, $user, $password) = @ARGV;\n"
        "my $pop = Net::POP3->new('localhost', Port => $port) or die $@;\n"
        "$pop->starttls(SSL_ca_file => $ca, SSL_verifycn_name => 'localhost', SSL_cert_file => $cert,\n"
        "    SSL_key_file => $key) or die 'no TLS';\n"
        "my $sasl = Authen::SASL->new(mechanism => $how, callback => {user => $user, pass => $password,\n"
        "    authname => $how eq 'EXTERNAL' ? '' : $user});\n"
        "$pop->auth($sasl, undef) or die 'no login: ' . $pop->message;\n"
        "print join '', @{$pop->get($_)} for 1..3;\n$pop->quit;\n",
    )
    own, key = str(place.own.chain), str(place.own.key)
    return place.run("perl", script, str(place.port), str(place.pair.chain), own, key, mechanism, NAME, PASSWORD)


def ours(place: Place, mechanism: str) -> str:
    """The client of the tests: no other one here knows tls-server-end-point."""
    context = ssl.create_default_context(cafile=str(place.pair.chain))
    with socket.create_connection(("localhost", place.port), PATIENCE) as plain:
        plain.sendall(b"STLS\r\n")
        while not plain.recv(1000).endswith(b"begin TLS\r\n"):
            pass
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            der = client.getpeercert(binary_form=True)
            assert der
            scram = ScramClient(NAME, PASSWORD, mechanism, b"p=tls-server-end-point,,", end_point(der))
            lines = client.makefile("rwb")

            def ask(line: bytes) -> bytes:
                lines.write(line + b"\r\n")
                lines.flush()
                return lines.readline().rstrip(b"\r\n")

            first = ask(b"AUTH %b %b" % (mechanism.encode(), b64(scram.first())))
            last = ask(b64(scram.final(decoded(first))))
            assert scram.believes(decoded(last))
            assert ask(b"").startswith(b"+OK")
            said = b""
            for number in (b"1", b"2", b"3"):
                said += ask(b"RETR " + number)
                while (line := lines.readline()) != b".\r\n":
                    said += line
            ask(b"QUIT")
            return said.decode()


def decoded(line: bytes) -> bytes:
    """What a challenge says."""
    assert line.startswith(b"+ "), line
    return base64.b64decode(line[2:])


KNOW: dict[Callable[[Place, str], str], tuple[str, Sequence[str]]] = {
    curl: ("curl", ("PLAIN", "LOGIN", "EXTERNAL")),
    mpop: ("mpop", ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-1", "EXTERNAL")),
    mutt: ("mutt", ("PLAIN", "LOGIN", "SCRAM-SHA-256", "SCRAM-SHA-1")),
    perl: ("perl", ("PLAIN", "LOGIN", "EXTERNAL")),
    ours: ("python3", ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS")),
}


@pytest.fixture
def place(server: Server) -> Iterator[Place]:
    server.deliver(MAIL)
    server.credentials.write_text(credentials.line(NAME, PASSWORD.encode(), verifiers.LEAST_ITERATIONS, BOTH) + "\n")
    home = server.path / "client"
    home.mkdir()
    pair = certificates.make(home, "localhost")
    own = certificates.make(home, NAME, name="own")
    ports = free_ports(socket.AF_INET, "127.0.0.1", 1)
    settings = certificates.settings(pair) | {
        "POPAD_PLAINTEXT": "tls",
        "POPAD_SASL": "EXTERNAL SCRAM-SHA-256 SCRAM-SHA-1 PLAIN LOGIN",
        "POPAD_TLS_CLIENT_CA": str(own.chain),  # it signs itself
        "POPAD_TLS_CLIENT_NAME": "common-name",
    }
    with daemon(server, settings, arguments=[f"--listen=127.0.0.1:{ports[0]}"], ports=ports) as served:
        yield Place(home, served, pair, own)


@pytest.mark.parametrize(
    ("fetch", "mechanism"),
    [(fetch, mechanism) for fetch, (_, known) in KNOW.items() for mechanism in known],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_a_client_logs_in(place: Place, fetch: Callable[[Place, str], str], mechanism: str) -> None:
    program = KNOW[fetch][0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    said = fetch(place, mechanism)
    for name in NAMES:
        assert f"body of the {name}" in said
    assert {entry["mechanism"] for entry in place.served.entries("login-passed")} == {mechanism}


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
def test_a_client_with_a_wrong_password(place: Place, mechanism: str) -> None:
    """mpop says so, and the journal knows."""
    if shutil.which("mpop") is None:
        pytest.skip("mpop is not installed")
    line = credentials.line(NAME, b"another", verifiers.LEAST_ITERATIONS, BOTH)
    place.served.server.credentials.write_text(line + "\n")
    with pytest.raises(AssertionError, match="authentication failed"):
        mpop(place, mechanism)
    (entry,) = place.served.entries("login-failed")
    assert (entry["mechanism"], entry["user"]) == (mechanism, NAME)
