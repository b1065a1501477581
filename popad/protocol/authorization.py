"""The AUTHORIZATION state (RFC 1939 section 4): USER, PASS, QUIT, and CAPA (RFC 2449)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.protocol.dialogue import Reply

from popad import __version__
from popad.errors import CommandRefused
from popad.protocol import transaction
from popad.protocol.dialogue import REST, WORD, Command, capabilities
from popad.protocol.replies import listing, ok


class Authorization:
    """What a client has said before it is known. Over when it has tried to log in, or has quit."""

    def __init__(self) -> None:
        self.over = False
        self.name = b""
        self.password: bytes | None = None  # None: left without an attempt

    def meanwhile(self) -> None:
        """Nothing to do ahead."""

    def failed(self, failure: Exception) -> None:
        """There is no maildrop yet."""


def user(state: Authorization, name: bytes) -> "Reply":
    if state.name:
        raise CommandRefused("USER has been given")  # popa3d: one name a connection, nobody tries a list of them
    state.name = name
    return ok("now PASS")


def pass_(state: Authorization, password: bytes) -> "Reply":
    """One attempt a connection. The answer is not ours: it comes from whoever knows the verdict."""
    if not state.name:
        raise CommandRefused("USER first")
    state.password = password
    state.over = True
    return b""


def capa(state: Authorization) -> "Reply":
    return listing("capability list", capabilities((TABLE, transaction.TABLE), f"popad-{__version__}"))


def quit_(state: Authorization) -> "Reply":
    state.over = True
    return ok("bye")


TABLE = {
    b"USER": Command(user, WORD, capability="USER"),
    b"PASS": Command(pass_, REST),
    b"CAPA": Command(capa),
    b"QUIT": Command(quit_),
}
