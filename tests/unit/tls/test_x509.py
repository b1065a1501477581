"""tls/x509.py: the digest that a channel is bound to, as OpenSSL computes it for certificates of each kind."""

import hashlib
import ssl
import subprocess
from pathlib import Path

import pytest

from popad.tls import x509
from tests.support import certificates
from tests.support.patience import PATIENCE


def certificate(place: Path, *options: str) -> bytes:
    """A new one, in DER."""
    where = ["-keyout", str(place / "key"), "-out", str(place / "pem"), "-subj", "/CN=example.org"]
    subprocess.run(
        ["openssl", "req", "-x509", "-noenc", "-days", "1", *options, *where],
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    return ssl.PEM_cert_to_DER_cert((place / "pem").read_text())


EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("-newkey", "rsa:2048")


@pytest.mark.parametrize(
    ("options", "hash_name"),
    [
        ((*EC, "-sha256"), "sha256"),
        ((*EC, "-sha384"), "sha384"),
        ((*EC, "-sha512"), "sha512"),
        ((*RSA, "-sha256"), "sha256"),
        ((*RSA, "-sha384"), "sha384"),
        ((*RSA, "-sha512"), "sha512"),
        ((*RSA, "-sha1"), "sha256"),  # RFC 5929 section 4.1: not with SHA-1
    ],
)
def test_digests(tmp_path: Path, options: tuple[str, ...], hash_name: str) -> None:
    der = certificate(tmp_path, *options)
    assert x509.end_point(der) == hashlib.new(hash_name, der).digest()


def test_signatures_with_no_hash_or_two_have_none(tmp_path: Path) -> None:
    assert x509.end_point(certificate(tmp_path, "-newkey", "ed25519")) == b""
    assert x509.end_point(certificate(tmp_path, *RSA, "-sigopt", "rsa_padding_mode:pss", "-sha256")) == b""


def test_what_is_no_certificate(tmp_path: Path) -> None:
    der = certificate(tmp_path, *EC)
    for cut in range(len(der)):
        assert x509.end_point(der[:cut]) == b""
    for wrong in (b"", b"\x30", b"\x30\x80", b"\x30\x84\xff\xff\xff\xff", b"\x31\x03abc", b"\x30\x02\x30\x00"):
        assert x509.end_point(wrong) == b""


def test_who_has_signed(tmp_path: Path) -> None:
    pair, middle, root = certificates.chain(tmp_path)
    found = [x509.is_self_issued(ssl.PEM_cert_to_DER_cert(path.read_text())) for path in (pair.chain, middle, root)]
    assert found == [False, False, True]
    assert x509.is_self_issued(certificate(tmp_path, *RSA))


def test_who_has_signed_what_is_no_certificate(tmp_path: Path) -> None:
    der = certificate(tmp_path, *EC)
    for cut in range(len(der) - 100):
        assert not x509.is_self_issued(der[:cut])
    assert not x509.is_self_issued(b"")
