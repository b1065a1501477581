"""TLS on a real host: STLS and POP3S in both shapes, the key where no mail is, certificates that are renewed."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from collections.abc import Iterator

import pytest

from popad.auth import credentials
from popad.tls.x509 import end_point
from tests.support.here import CHECKOUT
from tests.support.patience import wait_until
from tests.support.pop3 import Pop3
from tests.support.scram import ScramClient, b64
from tests.system.conftest import MESSAGES, PASSWORD, SETTINGS, Server
from tests.system.standalone import SERVICE

PLACE = "/etc/popad/tls"
NAME = "mail.example.org"
TLS = f"POPAD_TLS_CERTIFICATE={PLACE}/fullchain.pem\nPOPAD_TLS_KEY={PLACE}/privkey.pem\n"
EXAMPLE = (CHECKOUT / "packaging/examples/pop3s.conf").read_text()


def make_certificate(server: Server, name: str = NAME) -> None:
    server.machine.run(["mkdir", "-p", "-m", "700", PLACE])
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-days", "90", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    server.machine.run([*request, *names, "-keyout", f"{PLACE}/privkey.pem", "-out", f"{PLACE}/fullchain.pem"])


@pytest.fixture(params=["popad.socket", SERVICE])
def tls(request: pytest.FixtureRequest, server: Server) -> Iterator[Server]:
    """A server with a certificate and port 995, in either shape."""
    machine = server.machine
    make_certificate(server)
    socket = "popad.socket" if request.param == "popad.socket" else "popad-standalone.socket"
    path = machine.root / SETTINGS.lstrip("/")
    before = path.read_bytes()
    with contextlib.ExitStack() as undone:
        undone.callback(machine.run, ["rm", "-rf", PLACE])
        undone.callback(path.write_bytes, before)
        path.write_text(TLS)
        undone.enter_context(server.drop_in(socket, EXAMPLE))
        machine.run(["systemctl", "stop", "popad.socket", "popad-tls-helper.service"])
        undone.callback(machine.run, ["systemctl", "start", "popad.socket"])
        undone.callback(machine.run, ["systemctl", "stop", request.param, socket])
        machine.run(["systemctl", "start", request.param])
        yield server


def trusting(server: Server) -> ssl.SSLContext:
    """A client that believes the server's certificate, and no other."""
    context = ssl.create_default_context(cafile=str(server.machine.root / PLACE.lstrip("/") / "fullchain.pem"))
    context.set_alpn_protocols(["pop3"])
    return context


@contextlib.contextmanager
def pop3s(server: Server) -> Iterator[Pop3]:
    with trusting(server).wrap_socket(server.machine.connect("127.0.0.1", 995), server_hostname=NAME) as connection:
        yield Pop3(connection)


@contextlib.contextmanager
def stls(server: Server) -> Iterator[Pop3]:
    with server.connect().greeted() as plain:
        assert plain.say("STLS").startswith(b"+OK")
        with trusting(server).wrap_socket(plain.socket, server_hostname=NAME) as connection:
            yield Pop3(connection)


def fetch(client: Pop3, name: str) -> None:
    client.ok(f"USER {name}")
    client.ok(f"PASS {PASSWORD}")
    client.ok("RETR 2")
    assert client.body().decode() == MESSAGES[1]
    client.ok("DELE 1")
    client.ok("QUIT")
    assert client.closed()


def test_pop3s(tls: Server) -> None:
    name = tls.add_user()
    since = tls.machine.cursor()
    with pop3s(tls) as client:
        assert client.line().startswith(b"+OK")
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.selected_alpn_protocol() == "pop3"
        fetch(client, name)
    entry = tls.machine.wait_entry({"POPAD_EVENT": "session-closed", "POPAD_USER": name}, after=since)
    assert entry["POPAD_TLS"].startswith("TLSv1.3 ")
    assert (entry["POPAD_TLS_NAME"], entry["POPAD_RHOST"], entry["POPAD_DELETED"]) == (NAME, "127.0.0.1", "1")


def test_stls(tls: Server) -> None:
    name = tls.add_user()
    with stls(tls) as client:
        client.ok("CAPA")
        assert b"STLS" not in client.body()
        assert client.say("STLS").startswith(b"-ERR")
        fetch(client, name)


def test_popad_who_says_it(tls: Server) -> None:
    """From STLS on, and after the login; how long the client is silent is known of its own connection."""
    name = tls.add_user()

    def shown(port: int) -> dict[str, object]:
        listed = tls.machine.run(["/usr/sbin/popad", "who", "--json"]).stdout
        (found,) = [each for each in map(json.loads, listed.splitlines()) if each["port"] == port]
        return dict(found)

    with stls(tls) as client:
        wait_until(lambda: shown(client.port)["tls"] == "TLSv1.3")
        assert (shown(client.port)["state"], shown(client.port)["user"]) == ("authorization", None)
        client.ok(f"USER {name}")
        client.ok(f"PASS {PASSWORD}")
        wait_until(lambda: shown(client.port)["messages"] == 3)
        after = shown(client.port)
        assert (after["tls"], after["user"], after["address"]) == ("TLSv1.3", name, "127.0.0.1")
        assert isinstance(after["idle"], int)


def test_systemctl_status_says_it(tls: Server) -> None:
    """Of a session, and how long the certificate is good for."""
    name = tls.add_user()
    with pop3s(tls) as client:
        client.line()
        client.ok(f"USER {name}")
        client.ok(f"PASS {PASSWORD}")
        client.ok("NOOP")
        if tls.machine.show("popad.socket", "ActiveState")["ActiveState"] == "active":
            shown = ["systemctl", "status", "--no-pager", "popad@*"]
            wait_until(lambda: f"{name}: 3 messages, TLSv1.3" in tls.machine.run(shown, check=False).stdout)
            status = tls.machine.show("popad-tls-helper.service", "StatusText")["StatusText"]
            assert status in ("certificates: 1, days left: 89", "certificates: 1, days left: 90")
        client.ok("QUIT")


def test_a_remote_client_needs_tls(tls: Server) -> None:
    """As soon as there is a certificate; this host itself does not."""
    tls.machine.run(["ip", "address", "add", "192.0.2.1", "dev", "lo"], check=False)
    with tls.connect("192.0.2.1", source="192.0.2.1").greeted() as client:
        client.ok("CAPA")
        listed = client.body().splitlines()
        assert b"STLS" in listed and b"USER" not in listed
        assert client.say("USER x").startswith(b"-ERR [AUTH]")
        assert client.say("PASS x").startswith(b"-ERR [AUTH]")
    with tls.connect().greeted() as client:
        client.ok("CAPA")
        assert {b"STLS", b"USER"} <= set(client.body().splitlines())


def test_the_key_is_in_the_helper_alone(tls: Server) -> None:
    """No other process of either shape has its octets in memory, or can open it; the relay sees no mail."""
    name = tls.add_user()
    key = (tls.machine.root / PLACE.lstrip("/") / "privkey.pem").read_text()
    der = ssl.PEM_cert_to_DER_cert(key.replace("PRIVATE KEY", "CERTIFICATE"))
    secret = der[der.index(b"\x04\x20") + 2 :][:32]  # RFC 5915: ECPrivateKey, an octet string of 32
    with pop3s(tls) as client, pop3s(tls) as other:
        client.line()
        client.ok(f"USER {name}")
        client.ok(f"PASS {PASSWORD}")
        other.line()
        found = tls.machine.python(LOOK, secret.hex())
        client.ok("QUIT")
    holders = dict(line.split(" ", 1) for line in found.splitlines())
    assert "has" in holders.values(), "it would be found where it is"
    users: dict[str, str] = {}
    for pid in holders:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a session that has ended by now
            users[pid] = tls.process_status(pid)["Uid"].split()[0]
    helpers = str(tls.uid("popad-tls"))
    assert {users[pid] for pid, what in holders.items() if what == "has" and pid in users} <= {helpers}


LOOK = """
import pathlib, re, sys
secret = bytes.fromhex(sys.argv[1])
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if b"popad" not in (process / "cmdline").read_bytes():
            continue
        has = False
        with open(process / "mem", "rb", buffering=0) as memory:
            for line in (process / "maps").read_text().splitlines():
                begin, end, rights = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\\\\S+)", line).groups()
                if rights.startswith("r") and "[v" not in line:
                    try:
                        memory.seek(int(begin, 16))
                        has = has or secret in memory.read(int(end, 16) - int(begin, 16))
                    except OSError:
                        pass
        print(process.name, "has" if has else "lacks")
    except (FileNotFoundError, ProcessLookupError):
        pass
""".replace("\\\\", "\\")


def test_a_renewed_certificate(tls: Server) -> None:
    """Sessions go on with the old one; the next has the new one, and nobody is refused in between."""
    name = tls.add_user()
    with pop3s(tls) as old:
        old.line()
        old.ok(f"USER {name}")
        make_certificate(tls)
        for command in (["systemctl", "try-restart", "popad-tls-helper.service"], ["systemctl", "reload", "popad"]):
            tls.machine.run(command)
        wait_until(lambda: works(tls))
        old.ok(f"PASS {PASSWORD}")
        old.ok("QUIT")


def test_a_setting_that_is_changed(tls: Server) -> None:
    """It counts for the next client, with nothing restarted but for the reload of the daemon; and back."""
    path = tls.machine.root / SETTINGS.lstrip("/")
    old = trusting(tls)
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    def is_taken() -> bool:
        try:
            with old.wrap_socket(tls.machine.connect("127.0.0.1", 995), server_hostname=NAME) as client:
                return client.recv(100).startswith(b"+OK")
        except (ssl.SSLError, ConnectionError):
            return False

    assert is_taken()
    for least, wanted in (("1.3", False), ("1.2", True)):
        path.write_text(f"{TLS}POPAD_TLS_MIN={least}\n")
        if tls.machine.show(SERVICE, "ActiveState")["ActiveState"] == "active":
            tls.machine.run(["systemctl", "reload", "popad"])
        wait_until(lambda: is_taken() == wanted)  # noqa: B023 - called here


def works(server: Server) -> bool:
    """Whether the certificate that is there now is shown."""
    try:
        with pop3s(server) as client:
            return client.line().startswith(b"+OK")
    except ssl.SSLCertVerificationError:
        return False


@pytest.mark.parametrize(
    "said", [b"USER x\r\n", b"\x16\x03\x01\x00\x05hello", b""], ids=["plain text", "rubbish", "nothing"]
)
def test_what_is_no_handshake(tls: Server, said: bytes) -> None:
    since = tls.machine.cursor()
    with tls.machine.connect("127.0.0.1", 995) as client:
        client.sendall(said)
        if not said:
            client.shutdown(1)
        with contextlib.suppress(ConnectionError):
            while client.recv(4096):
                pass
    entry = tls.machine.wait_entry({"POPAD_EVENT": "handshake-failed"}, after=since)
    assert entry["POPAD_RHOST"] == "127.0.0.1"


# -- mechanisms that need TLS


@contextlib.contextmanager
def more_settings(server: Server, more: str) -> Iterator[None]:
    """For the next session, and both helpers."""
    path = server.machine.root / SETTINGS.lstrip("/")
    path.write_text(TLS + more)
    units = ["popad-tls-helper.service", "popad-auth.service"]
    is_daemon = server.machine.run(["sh", "-c", f"systemctl is-active {SERVICE} || true"]).stdout == "active\n"
    try:
        server.machine.run(["systemctl", "reload", SERVICE] if is_daemon else ["systemctl", "stop", *units])
        yield
    finally:
        path.write_text(TLS)


def show_certificate(server: Server, context: ssl.SSLContext, address: str) -> None:
    """Have clients show one of their own, signed by itself, which is POPAD_TLS_CLIENT_CA, too."""
    machine = server.machine
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-days", "9", "-subj", "/CN=somebody", "-addext", f"subjectAltName=email:{address}"]
    machine.run([*request, *names, "-keyout", f"{PLACE}/client.key", "-out", f"{PLACE}/clients.pem"])
    place = machine.root / PLACE.lstrip("/")
    context.load_cert_chain(place / "clients.pem", place / "client.key")


def test_a_certificate_in_place_of_a_password(tls: Server) -> None:
    """AUTH EXTERNAL: for the user of the certificate and no other, as long as the account has not expired."""
    name, other = tls.add_user(), tls.add_user()
    context = trusting(tls)
    show_certificate(tls, context, f"{name}@example.org")
    settings = f"POPAD_TLS_CLIENT_CA={PLACE}/clients.pem\nPOPAD_STRIP_DOMAINS=example.org\n"
    with more_settings(tls, settings):
        for whose, passes in (("=", True), (b64(other.encode()).decode(), False), (b64(name.encode()).decode(), True)):
            with context.wrap_socket(tls.machine.connect("127.0.0.1", 995), server_hostname=NAME) as connection:
                client = Pop3(connection)
                client.line()
                client.ok("CAPA")
                assert b"SASL EXTERNAL PLAIN LOGIN\n" in client.body()
                assert client.say(f"AUTH EXTERNAL {whose}").startswith(b"+OK" if passes else b"-ERR [AUTH]")
        tls.machine.run(["chage", "-E", "0", name])
        since = tls.machine.cursor()
        with context.wrap_socket(tls.machine.connect("127.0.0.1", 995), server_hostname=NAME) as connection:
            client = Pop3(connection)
            client.line()
            assert client.say("AUTH EXTERNAL =").startswith(b"-ERR [AUTH]")
        entry = tls.machine.wait_entry(
            {"POPAD_EVENT": "login-failed", "POPAD_USER": f"{name}@example.org"}, after=since
        )
        assert (entry["POPAD_MECHANISM"], entry["POPAD_TLS_CLIENT"]) == ("EXTERNAL", f"{name}@example.org")
        with pop3s(tls) as client:  # who shows no certificate has a password
            client.line()
            assert client.say("AUTH EXTERNAL =") == b"-ERR no such mechanism"


def test_a_login_that_is_bound_to_the_certificate(tls: Server) -> None:
    """SCRAM-SHA-256-PLUS: nobody else's connection gets in with it, though both sides know the password."""
    name = tls.add_user()
    machine = tls.machine
    path = machine.root / "etc/popad/credentials"
    machine.write("/etc/popad/credentials", credentials.line(name, PASSWORD.encode(), 4096) + "\n", mode=0o600)
    try:
        with more_settings(tls, "POPAD_AUTH=file\n"):
            for data, passes in ((True, True), (False, False)):
                with pop3s(tls) as client:
                    client.line()
                    assert isinstance(client.socket, ssl.SSLSocket)
                    der = client.socket.getpeercert(binary_form=True)
                    assert der
                    digest = end_point(der) if data else b"another certificate's"
                    scram = ScramClient(name, PASSWORD, "SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,", digest)
                    first = client.say(f"AUTH {scram.scheme} {b64(scram.first()).decode()}")
                    last = client.say(b64(scram.final(base64.b64decode(first[2:]))).decode())
                    if passes:
                        assert scram.believes(base64.b64decode(last[2:]))
                        assert client.say("").startswith(b"+OK 3 messages")
                    else:
                        assert last.startswith(b"-ERR [AUTH]")
    finally:
        path.unlink()
