"""The AUTHORIZATION state (RFC 1939 section 4): USER, PASS, QUIT, and CAPA (RFC 2449)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.protocol.dialogue import Reply

from popad.errors import CommandRefused
from popad.protocol.capabilities import capability_list
from popad.protocol.dialogue import NAME, REST, Command
from popad.protocol.replies import err, ok

MAX_ERRORS = 10  # clients try AUTH, APOP and STLS in vain, once or twice each; on one connection 2.8 million were seen
MAX_COMMANDS = 50  # CAPA and USER, of which a login needs one each; behind so many each of them is an error


class Authorization:
    """What a client has said before it is known. Over when it has tried to log in, has quit, or errs for ever."""

    def __init__(self) -> None:
        self.over = False
        self.name = b""
        self.password: bytes | None = None  # None: left without an attempt
        self.commands = 0
        self.errors = 0

    def meanwhile(self) -> None:
        """Nothing to do ahead."""

    def failed(self, failure: Exception) -> None:
        """There is no maildrop yet."""

    def refused(self, text: str) -> bytes:
        """The answer to what is no command here; the last one says that there will be no other."""
        self.errors += 1
        self.over = self.errors >= MAX_ERRORS
        return err(f"{text}; too many errors" if self.over else text)

    def count(self) -> None:
        """A command that leads nowhere by itself. Raises CommandRefused."""
        self.commands += 1
        if self.commands > MAX_COMMANDS:
            raise CommandRefused("log in, or quit")


def user(state: Authorization, name: bytes) -> "Reply":
    """Another name replaces the first: c-client says one again after an empty password. There is one attempt anyway."""
    state.count()
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
    state.count()
    return capability_list()


def quit_(state: Authorization) -> "Reply":
    state.over = True
    return ok("bye")


TABLE = {
    b"USER": Command(user, NAME),
    b"PASS": Command(pass_, REST),
    b"CAPA": Command(capa),
    b"QUIT": Command(quit_),
}
