"""EXTERNAL (RFC 4422 appendix A): the client has shown a certificate which a CA of POPAD_TLS_CLIENT_CA has signed."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from popad.auth.identity import Account

    class Source(Protocol):
        """Who has an account. Raises what identity.py defines."""

        def vouch(self, name: str, rhost: str) -> Account: ...


from popad.auth.identity import LoginFailed
from popad.auth.sasl.attempt import Attempt, Client
from popad.auth.verdict import MAX_NAME

WHOSE = (MAX_NAME,)


class External(Attempt):
    """The name that the monitor has heard of the TLS helper; whatever the child says, it is no other."""

    def __init__(self, message: "Sequence[bytearray]", source: "Source", client: Client) -> None:
        mechanism, whose = map(bytes, message)
        name = client.certified.encode("utf-8")
        super().__init__(mechanism, name, whose, bytearray(whose))
        self.source = source

    def prove(self, user: str, rhost: str) -> "Account":
        """No password is asked for; the account may have expired all the same."""
        if not self.name:
            raise LoginFailed("the client has shown no certificate of its own")
        return self.source.vouch(user, rhost)
