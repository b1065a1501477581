"""A client's side of SCRAM (RFC 5802), written apart from popad's, with a place for each thing that can be wrong."""

import base64
import hashlib
import hmac

HASHES = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}


def b64(octets: bytes) -> bytes:
    return base64.b64encode(octets)


class ScramClient:
    """One exchange. `gs2`: the header; `data`: what the channel is bound to."""

    def __init__(
        self,
        name: str,
        password: str,
        scheme: str = "SCRAM-SHA-256",
        gs2: bytes = b"n,,",
        data: bytes = b"",
        nonce: bytes = b"fyko+d2lbbFgONRv9qkxdawL",
    ) -> None:
        self.password = password.encode()
        self.hash_name = HASHES[scheme.removesuffix("-PLUS")]
        self.scheme = scheme
        self.gs2 = gs2
        self.data = data
        self.bare = b"n=" + name.encode().replace(b"=", b"=3D").replace(b",", b"=2C") + b",r=" + nonce
        self.messages = b""
        self.server_key = b""

    def first(self) -> bytes:
        return self.gs2 + self.bare

    def final(self, server_first: bytes) -> bytes:
        """The answer to the server's first message, right for it whatever it says."""
        nonce, salt, iterations = (part[2:] for part in server_first.split(b","))
        salted = hashlib.pbkdf2_hmac(self.hash_name, self.password, base64.b64decode(salt), int(iterations))
        client_key = hmac.digest(salted, b"Client Key", self.hash_name)
        self.server_key = hmac.digest(salted, b"Server Key", self.hash_name)
        without = b"c=" + b64(self.gs2 + self.data) + b",r=" + nonce
        self.messages = b",".join((self.bare, server_first, without))
        stored_key = hashlib.new(self.hash_name, client_key).digest()
        signature = hmac.digest(stored_key, self.messages, self.hash_name)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return without + b",p=" + b64(proof)

    def believes(self, server_final: bytes) -> bool:
        """Whether the server has shown that it has the verifier."""
        return server_final == b"v=" + b64(hmac.digest(self.server_key, self.messages, self.hash_name))
