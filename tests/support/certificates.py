"""Certificates for tests, made by openssl(1)."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
RSA = ("-newkey", "rsa:2048")
HOST = "mail.example.org"


@dataclass(frozen=True)
class Pair:
    """The files of a certificate, which signs itself, and of its key."""

    chain: Path
    key: Path


def make(place: Path, *names: str, name: str = "tls", days: int = 90, kind: tuple[str, ...] = EC) -> Pair:
    """A certificate for these hosts (or HOST) in `place`."""
    names = names or (HOST,)
    pair = Pair(place / f"{name}.pem", place / f"{name}.key")
    subject = ["-subj", f"/CN={names[0]}", "-addext", f"subjectAltName={','.join(f'DNS:{each}' for each in names)}"]
    command = ["openssl", "req", "-x509", *kind, "-nodes", "-days", str(days), *subject]
    subprocess.run([*command, "-keyout", pair.key, "-out", pair.chain], check=True, capture_output=True)
    pair.key.chmod(0o600)
    return pair


def chain(place: Path, host: str = HOST) -> tuple[Pair, Path, Path]:
    """A certificate that an intermediate CA has signed, which a root has signed: the leaf alone, and both CAs."""

    def signed(name: str, subject: str, extension: str, issuer: str = "") -> Path:
        cert, key, request = (str(place / f"{name}.{end}") for end in ("pem", "key", "csr"))
        made = ["openssl", "req", "-new", *EC, "-nodes", "-subj", f"/CN={subject}", "-keyout", key, "-out", request]
        subprocess.run(made, check=True, capture_output=True)
        extensions = place / f"{name}.ext"
        extensions.write_text(extension)
        by = (
            ["-CA", f"{place}/{issuer}.pem", "-CAkey", f"{place}/{issuer}.key", "-CAcreateserial"]
            if issuer
            else ["-key", key]
        )
        sign = [
            "openssl",
            "x509",
            "-req",
            "-in",
            request,
            "-days",
            "90",
            "-extfile",
            str(extensions),
            *by,
            "-out",
            cert,
        ]
        subprocess.run(sign, check=True, capture_output=True)
        return Path(cert)

    root = signed("root", "root", "basicConstraints=critical,CA:TRUE")
    middle = signed("middle", "middle", "basicConstraints=critical,CA:TRUE", "root")
    leaf = signed("leaf", host, f"subjectAltName=DNS:{host}", "middle")
    (place / "leaf.key").chmod(0o600)
    return Pair(leaf, place / "leaf.key"), middle, root


def end(pair: Pair) -> Pair:
    """The certificate again, as one that has ended."""
    again = ["openssl", "x509", "-in", str(pair.chain), "-signkey", str(pair.key), "-out", str(pair.chain)]
    options = subprocess.run(["openssl", "x509", "-help"], capture_output=True, text=True, check=True).stderr
    # OpenSSL 3.4 and later let no certificate end before it begins, which others begin now.
    ended = ["-not_before", "20200101000000Z", "-not_after", "20200102000000Z"]
    subprocess.run([*again, *(ended if "-not_before" in options else ["-days", "-1"])], check=True, capture_output=True)
    return pair


def settings(*pairs: Pair) -> dict[str, str]:
    """popad's settings for them."""
    return {
        "POPAD_TLS_CERTIFICATE": " ".join(str(pair.chain) for pair in pairs),
        "POPAD_TLS_KEY": " ".join(str(pair.key) for pair in pairs),
        "POPAD_TLS_USER": "games",  # as nobody has popad's own user where tests run
    }
