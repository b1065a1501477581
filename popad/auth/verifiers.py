"""What a password is checked against: a verifier of SCRAM (RFC 5802 section 3), `SCHEME$iterations:salt$StoredKey:
ServerKey` with base64 as there. It holds nothing that can be replayed; who reads it can still guess.
"""

import base64
import hashlib
import hmac
import os

from popad.auth.saslprep import prepared

SCHEME, OLD_SCHEME = "SCRAM-SHA-256", "SCRAM-SHA-1"
HASHES = {SCHEME: "sha256", OLD_SCHEME: "sha1"}
LEAST_ITERATIONS = 4096  # RFC 7677 section 4
# Of a new line. Each login pays for them, and a client looks for mail every few minutes: 56 ms here on a core where
# yescrypt, Debian's own, takes 32 and the 600,000 that OWASP advises (for files that leak; this one is root's) 340.
ITERATIONS = 100_000
MAX_ITERATIONS = 10_000_000
SALT_OCTETS = 16
LEAST_SALT = 8  # octets


class Verifier:
    """A scheme and what it needs to check a password, or the proof that a client has it."""

    def __init__(self, scheme: str, iterations: int, salt: bytes, stored_key: bytes, server_key: bytes) -> None:
        self.scheme = scheme
        self.iterations = iterations
        self.salt = salt
        self.stored_key = stored_key
        self.server_key = server_key

    def __str__(self) -> str:
        salt, *both = (base64.b64encode(each).decode() for each in (self.salt, self.stored_key, self.server_key))
        return f"{self.scheme}${self.iterations}:{salt}${':'.join(both)}"

    def matches(self, password: bytes) -> bool:
        """Whether `password` is the one this was made of. Takes the time of its iterations, whatever the answer."""
        made = make(password, self.scheme, self.iterations, self.salt)
        return hmac.compare_digest(made.stored_key, self.stored_key)

    def is_proved(self, proof: bytes, auth_message: bytes) -> bool:
        """Whether `proof` comes from who has the password (ClientProof of RFC 5802 section 3)."""
        hash_name = HASHES[self.scheme]
        signature = hmac.digest(self.stored_key, auth_message, hash_name)
        if len(proof) != len(signature):
            return False
        client_key = bytes(one ^ other for one, other in zip(proof, signature, strict=True))
        return hmac.compare_digest(hashlib.new(hash_name, client_key).digest(), self.stored_key)

    def signature(self, auth_message: bytes) -> bytes:
        """What shows the client that the server knows it (ServerSignature)."""
        return hmac.digest(self.server_key, auth_message, HASHES[self.scheme])


def make(password: bytes, scheme: str, iterations: int, salt: bytes = b"") -> Verifier:
    """The verifier of a password; with a new salt where none is given."""
    salt = salt or os.urandom(SALT_OCTETS)
    hash_name = HASHES[scheme]
    salted = hashlib.pbkdf2_hmac(hash_name, prepared(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", hash_name)
    stored_key = hashlib.new(hash_name, client_key).digest()
    return Verifier(scheme, iterations, salt, stored_key, hmac.digest(salted, b"Server Key", hash_name))


def parse(text: str) -> Verifier:
    """The verifier that str() made. Raises ValueError."""
    scheme, parameters, both_keys = text.split("$")
    iterations, salt = parameters.split(":")
    stored_key, server_key = (base64.b64decode(key, validate=True) for key in both_keys.split(":"))
    if scheme not in HASHES or not (iterations.isascii() and iterations.isdigit()):
        raise ValueError("not a verifier")
    made = Verifier(scheme, int(iterations), base64.b64decode(salt, validate=True), stored_key, server_key)
    if not 1 <= made.iterations <= MAX_ITERATIONS or len(made.salt) < LEAST_SALT:
        raise ValueError("not a verifier with which a password is safe")
    if not len(stored_key) == len(server_key) == hashlib.new(HASHES[scheme]).digest_size:
        raise ValueError("not a verifier of this scheme")
    return made


# No password matches it, and there is no proof of one: checked for names that nobody has.
NOBODYS = {
    scheme: Verifier(scheme, 1, bytes(SALT_OCTETS), bytes(size), bytes(size))
    for scheme, size in ((each, hashlib.new(name).digest_size) for each, name in HASHES.items())
}
