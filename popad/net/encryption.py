"""What the TLS helper says of a handshake, in one message, and what the session believes of it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

UP, DOWN = b"up", b"down"
MAX_WORD, MAX_NAME, MAX_REASON = 64, 255, 200
# Which, version, cipher, the name that the client asked for, whether an earlier session was resumed, why not, the name
# in the client's certificate, the digest of the one that it was shown (tls-server-end-point, RFC 5929).
MAX_CERTIFIED, MAX_DIGEST = 249, 64
LIMITS = (4, MAX_WORD, MAX_WORD, MAX_NAME, 3, MAX_REASON, MAX_CERTIFIED, MAX_DIGEST)
REQUEST_LIMITS = (64,)  # the client's address; with two descriptors: the client's, and the plain end


class Encryption:
    """Whether a connection has TLS now, and what it is; or why there is none."""

    def __init__(
        self,
        version: str = "",
        cipher: str = "",
        name: str = "",
        resumed: bool = False,
        reason: str = "",
        certified: str = "",
        binding: bytes = b"",
    ) -> None:
        """`reason` is why there is none: what the client has done, as the helper tells it. `certified`: the name in the
        client's certificate; `binding`: the digest of ours.
        """
        self.version = version
        self.cipher = cipher
        self.name = name
        self.resumed = resumed
        self.reason = reason
        self.certified = certified
        self.binding = binding
        self.is_helpers_fault = False

    @property
    def is_up(self) -> bool:
        """Whether the handshake has succeeded."""
        return bool(self.version)

    def pack(self) -> list[bytes]:
        words = (self.version, self.cipher, self.name, "yes" if self.resumed else "no", self.reason)
        octets = [word.encode("ascii", "backslashreplace") for word in words]
        said = (word[:most] for word, most in zip(octets, LIMITS[1:], strict=False))
        return [UP if self.is_up else DOWN, *said, self.certified.encode("utf-8"), self.binding]


def unpack(fields: "Sequence[bytearray]") -> Encryption:
    """The answer that pack() made. Raises ValueError for what it cannot have made."""
    *words, certificate, digest = fields
    which, version, cipher, name, resumed, reason = (bytes(word).decode("ascii") for word in words)
    certified = certificate.decode("utf-8")
    made = Encryption(version, cipher, name, resumed == "yes", reason, certified, bytes(digest))
    if which.encode() != (UP if made.is_up else DOWN) or resumed not in ("yes", "no"):
        raise ValueError("not an answer")
    if not all(word.isprintable() for word in (version, cipher, name, reason, certified)):
        raise ValueError("an answer with what does not print")
    return made
