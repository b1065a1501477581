"""Certificates and keys: from PEM files into contexts of OpenSSL, one for each set of names, and what is known of them.

A file that systemd has loaded as a credential (systemd.exec(5)) is read from there: the helper may open no other.
"""

import os
import ssl
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from popad.settings import Settings

from popad.net.encryption import MAX_CERTIFIED
from popad.tls.x509 import end_point, is_self_issued

ALPN = ["pop3"]  # RFC 7301, as IANA has it
MOST_OCTETS = 1 << 20  # of a file: certificates have some thousand
TICKETS = 1  # a session that is resumed costs a tenth of one that is not; more than one ticket only costs octets
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
DAY = 86400.0  # seconds
SOON = 14  # days
UNKNOWN_ISSUER = (2, 20, 21)  # X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT and the like: openssl-verify(1), DIAGNOSTICS
CREDENTIALS = "CREDENTIALS_DIRECTORY"
DIRECTORY = "/etc/popad/tls"  # what popad-tls-helper.service loads as credentials: tls_FILE


class CertificateWrong(Exception):
    """A certificate or a key cannot be used; the text says which file, and why."""


class Certificate:
    """A chain and its key in files, and what the first certificate of the chain says."""

    def __init__(self, chain: str, key: str) -> None:
        """Raises CertificateWrong."""
        self.chain = chain
        self.key = key
        self.der = certificates_of(chain)[0]
        self.names: frozenset[str] = frozenset()  # of hosts, in lower case; empty where they could not be told
        self.ends: float | None = None  # seconds since 1970
        self.why_unknown = ""
        try:
            said = described(chain, key, self.der)
        except ssl.SSLCertVerificationError as error:
            self.why_unknown = error.verify_message  # expired, or not valid yet: clients are told the same
        except (ssl.SSLError, OSError) as error:
            raise CertificateWrong(f"{chain}, {key}: {reason_of(error)}") from error
        else:
            self.names = frozenset(value.lower() for kind, value in said.get("subjectAltName", ()) if kind == "DNS")
            self.ends = ssl.cert_time_to_seconds(said["notAfter"])

    @property
    def days_left(self) -> int | None:
        """Until it expires; None where it has, or is not valid yet."""
        return None if self.ends is None else int((self.ends - time.time()) // DAY)


class Contexts:
    """What handshakes begin with: a context for each set of names. The first certificate's is for all other names."""

    def __init__(self, settings: "Settings") -> None:
        """Raises CertificateWrong."""
        self.certificates = list(certificates(settings))
        if not self.certificates:
            raise CertificateWrong("POPAD_TLS_CERTIFICATE names no certificate")
        self.by_names: dict[frozenset[str], ssl.SSLContext] = {}
        self.end_points: dict[ssl.SSLContext, bytes] = {}
        self.client_name = settings.tls_client_name
        for each in self.certificates:
            # Two of the same names: an ECDSA one and an RSA one, of which OpenSSL takes what the client knows.
            context = self.by_names.setdefault(each.names, new_context(settings))
            load(context, each)
            # Which of two is shown is not told, so there is nothing to bind a channel to.
            self.end_points[context] = b"" if context in self.end_points else end_point(each.der)
        self.first = self.by_names[self.certificates[0].names]
        self.refuses_unknown = settings.tls_unknown_name == "refuse"
        self.first.sni_callback = self.choose
        self.born = time.monotonic()
        self.asked = ""  # the name that the last client has asked for
        self.refused = False  # whether it was refused for that

    def choose(self, tls: "ssl.SSLObject | ssl.SSLSocket", name: str | None, _: ssl.SSLContext) -> int | None:
        """The context for the name that a client asks for (SNI, RFC 6066 section 3)."""
        if name is None:
            return None
        self.asked = name if name.isprintable() else ascii(name)
        for names, context in self.by_names.items():
            if is_among(name.lower(), names):
                tls.context = context
                return None
        self.refused = self.refuses_unknown
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME if self.refused else None

    def certified(self, tls: "ssl.SSLObject") -> str:
        """The name in the client's certificate, "" where there is none."""
        return name_in(tls.getpeercert() or {}, self.client_name)


def name_in(certificate: "dict[str, Any]", which: str) -> str:
    """Its e-mail address (RFC 5280 section 4.2.1.6) or common name; "" where it has none, or more than one."""
    if which == "email":
        found = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "email"]
    else:
        found = [value for names in certificate.get("subject", ()) for kind, value in names if kind == "commonName"]
    return found[0] if len(found) == 1 and found[0].isprintable() and len(found[0].encode()) <= MAX_CERTIFIED else ""


def certificates(settings: "Settings") -> "Iterator[Certificate]":
    """Those that the settings name. Raises CertificateWrong."""
    chains, keys = settings.tls_certificate, settings.tls_key or settings.tls_certificate
    if len(chains) != len(keys):
        raise CertificateWrong("POPAD_TLS_KEY names another number of files than POPAD_TLS_CERTIFICATE")
    for chain, key in zip(map(loaded_by_systemd, chains), map(loaded_by_systemd, keys), strict=True):
        yield Certificate(chain, key)


def loaded_by_systemd(path: str) -> str:
    """Where the file is: among this process's credentials, if it has any of that name."""
    directory = os.environ.get(CREDENTIALS, "")
    if directory and path.startswith(f"{DIRECTORY}/"):
        credential = f"{directory}/tls_{path.removeprefix(f'{DIRECTORY}/').replace('/', '_')}"
        if os.path.exists(credential):
            return credential
    return path


def certificates_of(path: str) -> list[bytes]:
    """The certificates of a PEM file, in DER; at least one. Raises CertificateWrong."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            text = file.read(MOST_OCTETS)
        pieces = text[text.index(begin) :].split(begin)[1:]
        return [ssl.PEM_cert_to_DER_cert(begin + piece[: piece.index(end)] + end) for piece in pieces]
    except OSError as error:
        raise CertificateWrong(f"{path}: {error.strerror}") from error
    except ValueError:
        raise CertificateWrong(f"{path}: no certificate in PEM") from None


def described(chain: str, key: str, leaf: bytes) -> "dict[str, Any]":
    """What the leaf says: found by a handshake with ourselves, in memory, whose client trusts the leaf alone. It also
    shows that key and certificate belong together. Raises SSLError; SSLCertVerificationError outside of its time.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, key, password=no_password)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=leaf)
    return shake_hands(server, client).getpeercert() or {}


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """In memory; the client's side of it. Raises SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours, theirs = server.wrap_bio(there, back, server_side=True), client.wrap_bio(back, there)
    for side in (theirs, ours, theirs, ours):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass  # the other side's turn
    return theirs


def why_incomplete(chain: str, key: str) -> str:
    """Why clients may not find the way from a certificate to a CA that they know; "" where they will, as far as this
    host knows. Raises CertificateWrong.
    """
    last = certificates_of(chain)[-1]
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(chain, key, password=no_password)
    client = ssl.create_default_context()
    client.check_hostname = False
    if is_self_issued(last):
        client.load_verify_locations(cadata=last)  # a CA of the administrator's own, which clients are told of
    try:
        shake_hands(server, client)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in UNKNOWN_ISSUER:
            return "the chain ends before a CA that this host knows: is an intermediate certificate missing?"
    return ""


def no_password() -> str:
    """In place of a question at the terminal. A key here has none: who starts at a boot is nobody."""
    raise ssl.SSLError("the key has a password")


def new_context(settings: "Settings") -> ssl.SSLContext:
    """As RFC 9325 has it. Raises CertificateWrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = VERSIONS[settings.tls_min]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = TICKETS
    context.set_alpn_protocols(ALPN)
    try:
        # Of TLS 1.2 those with forward secrecy and without CBC (sections 4.1 and 4.2); of 1.3 all are fine.
        context.set_ciphers(settings.tls_ciphers or "ECDHE+AESGCM:ECDHE+CHACHA20")
    except ssl.SSLError as error:
        raise CertificateWrong(f"POPAD_TLS_CIPHERS: {reason_of(error)}") from error
    if settings.tls_client_ca:
        ca = loaded_by_systemd(settings.tls_client_ca)
        try:
            context.load_verify_locations(ca)
        except (ssl.SSLError, OSError) as error:
            raise CertificateWrong(f"POPAD_TLS_CLIENT_CA: {ca}: {reason_of(error)}") from error
        context.verify_mode = ssl.CERT_OPTIONAL  # most clients have none
    return context


def load(context: ssl.SSLContext, certificate: Certificate) -> None:
    """Have the context show this certificate, too. Raises CertificateWrong."""
    try:
        context.load_cert_chain(certificate.chain, certificate.key, password=no_password)
    except (ssl.SSLError, OSError) as error:
        raise CertificateWrong(f"{certificate.chain}, {certificate.key}: {reason_of(error)}") from error


def is_among(name: str, names: frozenset[str]) -> bool:
    """Whether a certificate with these names is for this host; a `*` stands for one label (RFC 6125 section 6.4.3)."""
    _, dot, rest = name.partition(".")
    return name in names or bool(dot and f"*.{rest}" in names)


def reason_of(error: OSError) -> str:
    """What OpenSSL or the system says, in few words."""
    reason = getattr(error, "reason", "") or error.strerror or str(error)
    return str(reason).replace("_", " ").lower() if str(reason).isupper() else str(reason)


def expiring(found: "Sequence[Certificate]") -> "Iterator[str]":
    """What an administrator has to know of certificates that end soon, or have ended."""
    for each in found:
        if each.days_left is None:
            yield f"{each.chain}: {each.why_unknown}"
        elif each.days_left < SOON:
            yield f"{each.chain}: expires in {each.days_left} days"
