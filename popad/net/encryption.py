"""What the TLS helper says of a handshake, in one message, and what the session believes of it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

UP, DOWN = b"up", b"down"
MAX_WORD, MAX_NAME, MAX_REASON = 64, 255, 200
# Which, version, cipher, the name that the client asked for, whether an earlier session was resumed, why not.
LIMITS = (4, MAX_WORD, MAX_WORD, MAX_NAME, 3, MAX_REASON)
REQUEST_LIMITS = (64,)  # the client's address; with two descriptors: the client's, and the plain end


class Encryption:
    """Whether a connection has TLS now, and what it is; or why there is none."""

    def __init__(
        self, version: str = "", cipher: str = "", name: str = "", resumed: bool = False, reason: str = ""
    ) -> None:
        """`reason` is why there is none: what the client has done, as the helper tells it."""
        self.version = version
        self.cipher = cipher
        self.name = name
        self.resumed = resumed
        self.reason = reason
        self.is_helpers_fault = False

    @property
    def is_up(self) -> bool:
        """Whether the handshake has succeeded."""
        return bool(self.version)

    def pack(self) -> list[bytes]:
        words = (self.version, self.cipher, self.name, "yes" if self.resumed else "no", self.reason)
        octets = [word.encode("ascii", "backslashreplace") for word in words]
        return [UP if self.is_up else DOWN, *(word[:most] for word, most in zip(octets, LIMITS[1:], strict=True))]


def unpack(fields: "Sequence[bytearray]") -> Encryption:
    """The answer that pack() made. Raises ValueError for what it cannot have made."""
    which, version, cipher, name, resumed, reason = (bytes(field).decode("ascii") for field in fields)
    made = Encryption(version, cipher, name, resumed == "yes", reason)
    if which.encode() != (UP if made.is_up else DOWN) or resumed not in ("yes", "no"):
        raise ValueError("not an answer")
    if not all(word.isprintable() for word in (version, cipher, name, reason)):
        raise ValueError("an answer with what does not print")
    return made
