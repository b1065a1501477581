"""Mechanisms that send the password: USER and PASS (RFC 1939), PLAIN (RFC 4616), LOGIN (draft-murchison-sasl-login)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from popad.auth.identity import Account

    class Source(Protocol):
        """Where passwords are checked. Raises what identity.py defines."""

        def authenticate(self, name: str, password: bytes, rhost: str) -> Account: ...


from popad.auth.identity import Unknown
from popad.auth.sasl.attempt import Attempt
from popad.auth.verdict import MAX_NAME, MAX_PASSWORD

NAME_AND_PASSWORD = (MAX_NAME, MAX_PASSWORD)
WHOSE_NAME_AND_PASSWORD = (MAX_NAME, MAX_NAME, MAX_PASSWORD)


class Password(Attempt):
    """The password, to be checked by whoever knows it."""

    def __init__(self, message: "Sequence[bytearray]", source: "Source") -> None:
        """`message`: the mechanism, whose mail if that is said, name, password."""
        mechanism, *whose, name, password = message
        super().__init__(bytes(mechanism), bytes(name), b"".join(map(bytes, whose)), password)
        self.source = source

    def prove(self, user: str, rhost: str) -> "Account":
        """Takes as long as the source."""
        if not self.secret or b"\0" in self.secret:
            raise Unknown("null password")
        return self.source.authenticate(user, bytes(self.secret), rhost)
