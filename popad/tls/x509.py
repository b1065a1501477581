"""The little of a certificate (RFC 5280) that Python's ssl module does not tell: which hash it was signed with, and
whether that was by itself.
"""

import hashlib

# Of signatureAlgorithm (RFC 5280 section 4.1.1.2): object identifiers in DER, and the hash that they stand for.
SIGNED_WITH = {
    "2a864886f70d010105": "sha256",  # sha1WithRSAEncryption: RFC 5929 section 4.1 has SHA-256 in place of SHA-1
    "2a864886f70d01010b": "sha256",  # sha256WithRSAEncryption
    "2a864886f70d01010c": "sha384",
    "2a864886f70d01010d": "sha512",
    "2a8648ce3d040302": "sha256",  # ecdsa-with-SHA256
    "2a8648ce3d040303": "sha384",
    "2a8648ce3d040304": "sha512",
}
SEQUENCE, OBJECT_IDENTIFIER, VERSION = 0x30, 0x06, 0xA0


def end_point(der: bytes) -> bytes:
    """The digest of a certificate that clients bind a channel to: tls-server-end-point (RFC 5929 section 4.1).

    Empty for a signature with more than one hash, or none (RSASSA-PSS, Ed25519): it is not defined there.
    """
    try:
        certificate = content(der, SEQUENCE)[0]
        _, algorithm = content(certificate, SEQUENCE)
        identifier = content(content(algorithm, SEQUENCE)[0], OBJECT_IDENTIFIER)[0]
    except (IndexError, ValueError):
        return b""
    name = SIGNED_WITH.get(identifier.hex())
    return hashlib.new(name, der).digest() if name else b""


def is_self_issued(der: bytes) -> bool:
    """Whether issuer and subject are the same: a root, or a certificate that has signed itself."""
    try:
        rest, parts = content(content(der, SEQUENCE)[0], SEQUENCE)[0], []
        while rest:
            value, rest = content(rest)
            parts.append(value)
        # With its version in front (section 4.1): number, algorithm, issuer, validity, subject.
        _, _, issuer, _, subject = parts[1:6] if der_has_version(der) else parts[:5]
    except (IndexError, ValueError):
        return False
    return issuer == subject


def der_has_version(der: bytes) -> bool:
    """Whether it says which version it is: 1 does not."""
    return content(content(der, SEQUENCE)[0], SEQUENCE)[0][0] == VERSION


def content(der: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """The content of the first value, of this kind if one is named; and what is behind it.

    Raises ValueError, IndexError.
    """
    if der[0] != (der[0] if tag is None else tag):
        raise ValueError("another value")
    octets, begin = der[1], 2
    if octets & 0x80:
        begin += octets & 0x7F
        octets = int.from_bytes(der[2:begin], "big")
    end = begin + octets
    if end > len(der):
        raise ValueError("cut short")
    return der[begin:end], der[end:]
