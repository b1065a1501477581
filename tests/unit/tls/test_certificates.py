"""tls/certificates.py: which certificate a client gets, what is known of it, and files that are none."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from popad.settings import Settings
from popad.tls import certificates
from popad.tls.certificates import Certificate, CertificateWrong, Contexts, expiring, is_among, why_incomplete
from popad.tls.x509 import end_point
from tests.support.certificates import HOST, RSA, Pair, chain, end, make, settings


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def pair(place: Path) -> Pair:
    return make(place, HOST, "*.example.net")


def shake(contexts: Contexts, client: ssl.SSLContext, name: str | None) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake in memory; the server's and the client's side. Raises SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = contexts.first.wrap_bio(there, back, server_side=True)
    other = client.wrap_bio(back, there, server_hostname=name)
    for side in (other, server) * 3:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass
    return server, other


def believing(*pairs: Pair) -> ssl.SSLContext:
    client = ssl.create_default_context(cadata="".join(pair.chain.read_text() for pair in pairs))
    client.set_alpn_protocols(["imap", "pop3"])
    return client


def test_what_a_certificate_says(pair: Pair) -> None:
    made = Certificate(str(pair.chain), str(pair.key))
    assert made.names == {HOST, "*.example.net"}
    assert made.days_left in (89, 90)
    assert ssl.DER_cert_to_PEM_cert(made.der) in pair.chain.read_text()
    assert list(expiring([made])) == []


def test_one_that_ends_soon(place: Path) -> None:
    short = make(place, name="short", days=3)
    (said,) = expiring([Certificate(str(short.chain), str(short.key))])
    assert said in (f"{short.chain}: expires in {days} days" for days in (2, 3))


def test_one_that_has_ended_is_served_all_the_same(place: Path) -> None:
    """Clients decide; and the journal knows."""
    ended = end(make(place, name="ended"))
    contexts = Contexts(Settings(settings(ended)))
    assert contexts.certificates[0].days_left is None
    (said,) = expiring(contexts.certificates)
    assert said == f"{ended.chain}: certificate has expired"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(contexts, believing(ended), HOST)


@pytest.mark.parametrize(
    "wrong", ["no file", "a directory", "no PEM", "another's key", "no key", "a key with a password"]
)
def test_files_that_are_none(place: Path, pair: Pair, wrong: str) -> None:
    chain, key = pair.chain, pair.key
    if wrong == "no file":
        chain = place / "nothing"
    elif wrong == "a directory":
        chain = place
    elif wrong == "no PEM":
        chain = place / "text"
        chain.write_text("hello\n")
    elif wrong == "another's key":
        key = make(place, name="another").key
    elif wrong == "no key":
        key = pair.chain
    else:
        key = place / "locked"
        lock = ["openssl", "ec", "-in", str(pair.key), "-aes128", "-passout", "pass:x", "-out", str(key)]
        subprocess.run(lock, check=True, capture_output=True)
    with pytest.raises(CertificateWrong) as told:
        Contexts(Settings({"POPAD_TLS_CERTIFICATE": str(chain), "POPAD_TLS_KEY": str(key)}))
    assert str(chain) in str(told.value)


def test_key_and_certificate_in_one_file(place: Path, pair: Pair) -> None:
    both = place / "both"
    both.write_text(pair.chain.read_text() + pair.key.read_text())
    assert Contexts(Settings({"POPAD_TLS_CERTIFICATE": str(both)})).certificates[0].names


@pytest.mark.parametrize("keys", ["", "/a /b /c"])
def test_as_many_keys_as_certificates(pair: Pair, keys: str) -> None:
    with pytest.raises(CertificateWrong):
        Contexts(
            Settings({"POPAD_TLS_CERTIFICATE": f"{pair.chain} {pair.chain}", "POPAD_TLS_KEY": keys or str(pair.key)})
        )
    with pytest.raises(CertificateWrong):
        Contexts(Settings({}))


def test_a_client_gets_the_one_with_the_name_that_it_asks_for(place: Path, pair: Pair) -> None:
    other = make(place, "pop.example.com", name="other")
    contexts = Contexts(Settings(settings(pair, other)))
    client = believing(pair, other)
    for name in (HOST, "MAIL.example.org", "a.example.net", "pop.example.com"):
        server, _ = shake(contexts, client, name)
        assert contexts.asked.lower() == name.lower()
        assert server.selected_alpn_protocol() == "pop3"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(contexts, client, "unknown.example.com")
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    for asked in (None, "unknown.example.com"):
        _, seen = shake(contexts, anybody, asked)
        assert seen.getpeercert(binary_form=True) == contexts.certificates[0].der
    strict = Contexts(Settings(settings(pair, other) | {"POPAD_TLS_UNKNOWN_NAME": "refuse"}))
    shake(strict, anybody, None)
    with pytest.raises(ssl.SSLError, match="callback failed"):
        shake(strict, anybody, "unknown.example.com")
    assert strict.refused


def test_an_ecdsa_and_an_rsa_certificate_together(place: Path, pair: Pair) -> None:
    rsa = make(place, HOST, "*.example.net", name="rsa", kind=RSA)
    contexts = Contexts(Settings(settings(rsa, pair)))
    client = believing(pair, rsa)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    seen = set()
    for cipher in ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"):
        client.set_ciphers(cipher)
        _, side = shake(contexts, client, HOST)
        seen.add(side.getpeercert(binary_form=True))
    assert seen == {each.der for each in contexts.certificates}


@pytest.mark.parametrize(
    ("version", "cipher", "more", "reason"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", {}, "unsupported protocol"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA", {}, "no shared cipher"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-GCM-SHA256", {"POPAD_TLS_MIN": "1.3"}, "unsupported protocol"),
        (
            ssl.TLSVersion.TLSv1_2,
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            {"POPAD_TLS_CIPHERS": "ECDHE-ECDSA-AES256-GCM-SHA384"},
            "no shared cipher",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # that it is old is what is tried
def test_what_is_too_old_is_refused(
    pair: Pair, version: ssl.TLSVersion, cipher: str, more: dict[str, str], reason: str
) -> None:
    client = believing(pair)
    client.set_ciphers(cipher)
    client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    client.maximum_version = version
    contexts = Contexts(Settings(settings(pair) | more))
    with pytest.raises(ssl.SSLError) as refused:
        shake(contexts, client, HOST)
    assert certificates.reason_of(refused.value).lower() in (reason, "no protocols available", reason.replace(" ", "_"))


def test_ciphers_that_openssl_does_not_know(pair: Pair) -> None:
    with pytest.raises(CertificateWrong, match="POPAD_TLS_CIPHERS"):
        Contexts(Settings(settings(pair) | {"POPAD_TLS_CIPHERS": "nonsense"}))


def test_a_credential_of_systemds_is_taken(place: Path, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = place / "credentials"
    directory.mkdir()
    (directory / "tls_a.pem").write_text(pair.chain.read_text() + pair.key.read_text())
    there = Settings({"POPAD_TLS_CERTIFICATE": "/etc/popad/tls/a.pem"})
    with pytest.raises(CertificateWrong):
        Contexts(there)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(directory))
    assert Contexts(there).certificates[0].chain == str(directory / "tls_a.pem")
    assert certificates.loaded_by_systemd("/etc/popad/tls/b.pem") == "/etc/popad/tls/b.pem"
    assert certificates.loaded_by_systemd("/srv/a.pem") == "/srv/a.pem"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("a.example", True), ("x.b.example", True), ("b.example", False), ("x.y.b.example", False), ("", False)],
)
def test_names_with_a_star(name: str, wanted: bool) -> None:
    assert is_among(name, frozenset({"a.example", "*.b.example"})) == wanted


def test_a_name_is_shown_as_text_that_prints(pair: Pair) -> None:
    contexts = Contexts(Settings(settings(pair)))
    side = contexts.first.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    contexts.choose(side, "a\x1b[0m\nMESSAGE=forged", contexts.first)
    assert contexts.asked.isprintable()


@pytest.mark.parametrize(
    ("files", "is_complete"),
    [
        ("leaf", False),
        ("leaf middle", False),
        ("leaf middle root", True),
        ("leaf root", False),
        ("leaf middle known", True),
    ],
)
def test_a_chain_that_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: str, is_complete: bool
) -> None:
    """To a CA that this host knows, or to one that the file has itself."""
    pair, middle, root = chain(tmp_path)
    paths = {"leaf": pair.chain, "middle": middle, "root": root}
    whole = tmp_path / "whole.pem"
    whole.write_text("".join(paths[name].read_text() for name in files.split() if name in paths))
    monkeypatch.setenv("SSL_CERT_FILE", str(root if "known" in files else tmp_path / "none"))
    assert bool(why_incomplete(str(whole), str(pair.key))) is not is_complete


def test_a_certificate_that_has_signed_itself_has_no_chain(tmp_path: Path) -> None:
    pair = make(tmp_path)
    assert why_incomplete(str(pair.chain), str(pair.key)) == ""


def certified(place: Path, *subject: str) -> str:
    """The name in a client's certificate that has this subject, by e-mail address and by common name."""
    request = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "9",
    ]
    cert, key = place / "client.pem", place / "client.key"
    subprocess.run([*request, *subject, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return str(cert)


@pytest.mark.parametrize(
    ("subject", "by_email", "by_name"),
    [
        (("-subj", "/CN=jane", "-addext", "subjectAltName=email:jane@example.org"), "jane@example.org", "jane"),
        (("-subj", "/CN=jane"), "", "jane"),
        (("-subj", "/O=nobody"), "", ""),
        (("-subj", "/CN=jane/CN=john"), "", ""),  # two: which of them?
        (("-subj", "/CN=x", "-addext", "subjectAltName=email:a@b.c,email:d@e.f"), "", "x"),
        (("-subj", "/CN=" + "x" * 64, "-addext", "subjectAltName=DNS:mail.example.org"), "", "x" * 64),
    ],
)
def test_the_name_of_a_client(
    place: Path, pair: Pair, tmp_path: Path, subject: tuple[str, ...], by_email: str, by_name: str
) -> None:
    ca = certified(tmp_path, *subject)
    for which, name in (("email", by_email), ("common-name", by_name)):
        given = settings(pair) | {"POPAD_TLS_CLIENT_CA": ca, "POPAD_TLS_CLIENT_NAME": which}
        contexts = Contexts(Settings(given))
        client = ssl.create_default_context(cafile=str(pair.chain))
        client.load_cert_chain(ca, tmp_path / "client.key")
        ours, _ = shake(contexts, client, HOST)
        assert contexts.certified(ours) == name
        ours, _ = shake(contexts, ssl.create_default_context(cafile=str(pair.chain)), HOST)
        assert contexts.certified(ours) == ""


def test_a_certificate_of_another_ca_gets_nowhere(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    ca = certified(tmp_path / "ours", "-subj", "/CN=jane")
    other = certified(tmp_path, "-subj", "/CN=jane")
    contexts = Contexts(Settings(settings(pair) | {"POPAD_TLS_CLIENT_CA": ca}))
    client = ssl.create_default_context(cafile=str(pair.chain))
    client.load_cert_chain(other, tmp_path / "client.key")
    with pytest.raises(ssl.SSLError):
        shake(contexts, client, HOST)


def test_a_ca_that_is_none(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(CertificateWrong, match="POPAD_TLS_CLIENT_CA"):
        Contexts(Settings(settings(pair) | {"POPAD_TLS_CLIENT_CA": str(tmp_path / "none")}))


def test_what_a_channel_is_bound_to(place: Path, pair: Pair, tmp_path: Path) -> None:
    """The digest of the one certificate; none where two serve the same names, as nobody tells which it was."""
    one = Contexts(Settings(settings(pair)))
    assert list(one.end_points.values()) == [end_point(one.certificates[0].der)]
    both = Contexts(Settings(settings(pair, make(tmp_path, HOST, "*.example.net", kind=RSA))))
    assert list(both.end_points.values()) == [b""]
