"""Real mail clients over TLS, by STLS and at once, each believing one certificate: what they fetch is the mail."""

from __future__ import annotations

import poplib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import certificates
from tests.support.certificates import Pair
from tests.support.daemon import Daemon, daemon, free_ports
from tests.support.patience import PATIENCE
from tests.support.serving import NAME, PASSWORD, Server

from .mail import MAIL, NAMES


@dataclass
class Place:
    """Where a client works, and what it connects to."""

    home: Path
    served: Daemon
    pair: Pair
    at_once: bool

    @property
    def port(self) -> int:
        return self.served.ports[self.at_once]

    def write(self, name: str, text: str) -> str:
        path = self.home / name
        path.write_text(text)
        path.chmod(0o700 if text.startswith("#!") else 0o600)
        return str(path)

    def maildir(self) -> Path:
        for part in ("cur", "new", "tmp"):
            (self.home / "mail" / part).mkdir(parents=True, exist_ok=True)
        return self.home / "mail"

    def run(self, *words: str, said: str = "", good: Sequence[int] = (0,)) -> str:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            words, env=environment, cwd=self.home, input=said, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode in good, done.stdout + done.stderr
        return done.stdout

    def stored(self) -> str:
        return "".join(path.read_text() for path in (self.home / "mail").rglob("*") if path.is_file())


def curl(place: Place) -> str:
    url = f"pop3{'s' if place.at_once else ''}://localhost:{place.port}/"
    login = f'user = "{NAME}:{PASSWORD}"\ncacert = "{place.pair.chain}"\nssl-reqd\nsilent\nfail\n'
    return "".join(place.run("curl", "-K", place.write("curlrc", login), f"{url}{number}") for number in (1, 2, 3))


def fetchmail(place: Place) -> str:
    place.maildir()
    deliver = place.write("deliver", f'#!/bin/sh\ncat >"$(mktemp {place.home}/mail/XXXXXXXX)"\n')
    how = f"{'ssl' if place.at_once else 'sslproto TLS1.2+'} sslcertck"
    rc = place.write(
        "fetchmailrc",
        f"set invisible\npoll localhost protocol pop3 port {place.port} auth password\n"
        f'  user "{NAME}" password "{PASSWORD}" {how} sslcertfile "{place.pair.chain}" keep mda "{deliver}"\n',
    )
    place.run("fetchmail", "--fetchmailrc", rc, "--pidfile", f"{place.home}/pid", "--nosyslog")
    return place.stored()


def getmail(place: Place) -> str:
    if not place.at_once:
        pytest.skip("getmail 6 has no STLS")
    rc = place.write(
        "getmailrc",
        "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = localhost\n"
        f"port = {place.port}\nusername = {NAME}\npassword = {PASSWORD}\nca_certs = {place.pair.chain}\n"
        f"[destination]\ntype = Maildir\npath = {place.maildir()}/\nuser = nobody\n[options]\nread_all = true\n",
    )
    for directory in (place.home / "mail", *(place.home / "mail").iterdir()):
        shutil.chown(directory, "nobody")  # getmail delivers nothing as root
    said = place.run("getmail", "--getmaildir", str(place.home), "--rcfile", rc, good=(0, 127))
    return place.stored() or said


def mpop(place: Place) -> str:
    rc = place.write(
        "mpoprc",
        f"account default\nhost localhost\nport {place.port}\nauth user\ntls on\n"
        f"tls_starttls {'off' if place.at_once else 'on'}\ntls_trust_file {place.pair.chain}\n"
        f"user {NAME}\npassword {PASSWORD}\nkeep on\ndelivery maildir {place.maildir()}\n",
    )
    place.run("mpop", "--file", rc)
    return place.stored()


def mutt(place: Place) -> str:
    """With its defaults for TLS; the certificate is one that it has been told to believe."""
    scheme = "pops" if place.at_once else "pop"
    spool = place.home / "inbox"
    spool.touch()
    rc = place.write(
        "muttrc",
        f"set pop_host={scheme}://{NAME}@localhost:{place.port}\nset pop_pass='{PASSWORD}'\nset pop_delete=no\n"
        f"set certificate_file={place.pair.chain}\nset spoolfile={spool}\nset ssl_usesystemcerts=no\nset pop_last=no\n"
        f"set pop_authenticators=user\nset folder={place.home}\n",
    )
    command = f"mutt -F {rc} -f {spool} -e 'push <fetch-mail><quit>y'"
    place.run("script", "-qec", f"TERM=xterm {command}", "/dev/null", good=(0, 1))
    return spool.read_text()


def perl(place: Place) -> str:
    script = place.write(
        "fetch.pl",
        "use Net::POP3; my ($port, $at_once, $ca, $user, $password) = @ARGV;\n"
        "my %tls = (SSL_ca_file => $ca, SSL_verifycn_name => 'localhost');\n"
        "my $pop = Net::POP3->new('localhost', Port => $port, $at_once ? (SSL => 1, %tls) : ()) or die $@;\n"
        "$at_once or $pop->starttls(%tls) or die 'no TLS';\n"
        "defined $pop->login($user, $password) or die 'no login';\n"
        "print join '', @{$pop->get($_)} for 1..3;\n$pop->quit;\n",
    )
    chain = str(place.pair.chain)
    return place.run("perl", script, str(place.port), str(int(place.at_once)), chain, NAME, PASSWORD)


def openssl(place: Place) -> str:
    how = [] if place.at_once else ["-starttls", "pop3"]
    client = [
        "openssl",
        "s_client",
        "-brief",
        "-ign_eof",
        "-CAfile",
        str(place.pair.chain),
        "-verify_return_error",
        *how,
    ]
    # "R" and "Q" at the start of a line are its own commands.
    commands = f"USER {NAME}\r\nPASS {PASSWORD}\r\nretr 1\r\nretr 2\r\nretr 3\r\nquit\r\n"
    with subprocess.Popen(
        [*client, "-connect", f"localhost:{place.port}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        while process.stderr.readline() not in ("CONNECTION ESTABLISHED\n", ""):
            pass
        process.stdin.write(commands)
        process.stdin.flush()
        return process.stdout.read()


def python(place: Place) -> str:
    context = ssl.create_default_context(cafile=str(place.pair.chain))
    client: poplib.POP3
    if place.at_once:
        client = poplib.POP3_SSL("localhost", place.port, context=context, timeout=PATIENCE)
    else:
        client = poplib.POP3("localhost", place.port, timeout=PATIENCE)
        client.stls(context)
    client.user(NAME)
    client.pass_(PASSWORD)
    lines = [line for number in (1, 2, 3) for line in client.retr(number)[1]]
    client.quit()
    return b"\n".join(lines).decode()


PROGRAMS: dict[Callable[[Place], str], str] = {
    curl: "curl",
    fetchmail: "fetchmail",
    getmail: "getmail",
    mpop: "mpop",
    mutt: "mutt",
    perl: "perl",
    openssl: "openssl",
    python: "python3",
}


@pytest.fixture(params=[False, True], ids=["STLS", "at once"])
def place(request: pytest.FixtureRequest, server: Server) -> Iterator[Place]:
    server.deliver(MAIL)
    home = server.path / "client"
    home.mkdir()
    pair = certificates.make(home, "localhost")
    ports = free_ports(socket.AF_INET, "127.0.0.1", 2)
    where = [f"--listen=127.0.0.1:{ports[0]}", f"--listen-tls=127.0.0.1:{ports[1]}"]
    settings = certificates.settings(pair) | {"POPAD_PLAINTEXT": "tls"}
    with daemon(server, settings, arguments=where, ports=ports) as served:
        yield Place(home, served, pair, request.param)


@pytest.mark.parametrize("fetch", PROGRAMS, ids=lambda fetch: fetch.__name__)
def test_a_client_fetches_over_tls(place: Place, fetch: Callable[[Place], str]) -> None:
    if shutil.which(PROGRAMS[fetch]) is None:
        pytest.skip(f"{PROGRAMS[fetch]} is not installed")
    said = fetch(place)
    for name in NAMES:
        assert f"body of the {name}" in said
    closed = place.served.entries("session-closed")[-1]
    assert closed["tls"].startswith("TLSv1.")


@pytest.mark.parametrize("fetch", [curl, fetchmail, mpop, perl, python], ids=lambda fetch: fetch.__name__)
def test_a_client_does_not_believe_another_certificate(place: Place, fetch: Callable[[Place], str]) -> None:
    """So what the test above shows is that it has looked at the certificate; and no password is sent."""
    if shutil.which(PROGRAMS[fetch]) is None:
        pytest.skip(f"{PROGRAMS[fetch]} is not installed")
    place.pair = certificates.make(place.home, "localhost", name="another")
    with pytest.raises((AssertionError, ssl.SSLError, OSError)):
        fetch(place)
    assert not {"login-passed", "login-failed"} & set(place.served.server.events)
