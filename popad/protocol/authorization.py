"""The AUTHORIZATION state (RFC 1939 section 4): USER, PASS, QUIT, CAPA (RFC 2449), STLS (RFC 2595), AUTH (RFC 5034),
UTF8 and LANG (RFC 6856).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.protocol.dialogue import Reply
    from popad.protocol.sasl import Helper

from popad.errors import CommandRefused
from popad.protocol.capabilities import capability_list
from popad.protocol.dialogue import NAME, OPTIONAL_WORDS, REST, Command
from popad.protocol.language import lang
from popad.protocol.replies import err, listing, ok
from popad.protocol.sasl import MECHANISMS, NO_RESPONSE, RESPONSE_OCTETS, Exchange, allowed, challenge_line
from popad.values import COMMAND_OCTETS

MAX_ERRORS = 10  # clients try AUTH, APOP and STLS in vain, once or twice each; on one connection 2.8 million were seen
# What a client has said before it left without a login is told in these words. They are not its own: one may be a
# password that was typed too early.
VERBS = frozenset(
    b"APOP AUTH CAPA DELE EHLO GET HELO LANG LIST NOOP PASS POST PROXY RETR RSET STAT STLS UIDL USER UTF8".split()
)
OTHER, HANDSHAKE = b"?", b"TLS"  # any other line; what TLS begins with (RFC 8446 section 5.1)
TLS_RECORD = b"\x16\x03"
REFUSED = b"!"  # behind a word: it was answered with -ERR
PROXY = b"PROXY"  # who is no proxy, and speaks as one, says nothing more
PROXY_HEADERS = (PROXY + b" ", b"\r\n\r\n\0\r\nQUIT\n")  # how headers of version 1 and 2 begin
MAX_SAID = 16  # words, the last ones
SAID_OCTETS = MAX_SAID * 6
MAX_COMMANDS = 50  # CAPA and USER, of which a login needs one each; behind so many each of them is an error


# What a client may do before its login, as it is connected; the mechanisms of sasl.py have a bit each, too.
MAY_LOG_IN, MAY_ENCRYPT = 1, 2
PASSWORD = b"USER"  # what USER and PASS are called among the mechanisms (RFC 2449 section 6.2)


class Authorization:
    """What a client has said before it is known. Over when it has tried to log in, wants TLS, has quit, or errs for
    ever.
    """

    def __init__(self, may: int = MAY_LOG_IN, helper: "Helper | None" = None) -> None:
        """`may` is what this client may do now; `helper` what a mechanism asks that has more than one question."""
        self.may = may
        self.helper = helper
        self.over = False
        self.wants_tls = False
        self.name = b""
        self.login: tuple[bytes, ...] | None = None  # the mechanism and what it wants to know
        self.is_decided = False  # the helper has it all, by the way of a mechanism
        self.exchange: Exchange | None = None
        self.utf8 = False
        self.commands = 0
        self.errors = 0
        self.said: list[bytes] = []

    def meanwhile(self) -> None:
        """Nothing to do ahead."""

    def failed(self, failure: Exception) -> None:
        """There is no maildrop yet."""

    def refused(self, text: str, line: bytes) -> bytes:
        """The answer to what is no command here; the last one says that there will be no other."""
        self.errors += 1
        verb = b"AUTH" if self.exchange else line.partition(b" ")[0].upper()
        self.end_exchange()
        self.say((verb if verb in VERBS else OTHER) + REFUSED)
        self.over = self.errors >= MAX_ERRORS or verb == PROXY
        return err(f"{text}; too many errors" if self.over else text)

    def count(self, verb: bytes) -> None:
        """A command that leads nowhere by itself. Raises CommandRefused."""
        self.commands += 1
        if self.commands > MAX_COMMANDS:
            raise CommandRefused("log in, or quit")
        self.say(verb)

    @property
    def line_octets(self) -> int:
        """How long the next line may be."""
        return RESPONSE_OCTETS if self.exchange else COMMAND_OCTETS

    @property
    def asks(self) -> "Callable[[bytes], Reply] | None":
        """What takes the next line, where that is no command."""
        return self.respond if self.exchange else None

    def respond(self, line: bytes) -> bytes:
        """A response of the client's: the next challenge. Raises CommandRefused."""
        if not self.exchange:
            return b""
        challenge = self.exchange.respond(line)
        if challenge is not None:
            return challenge_line(challenge)
        self.login = self.exchange.fields
        self.is_decided = self.login is None
        self.exchange = None
        self.over = True
        return b""

    def end_exchange(self) -> None:
        """It is not going on."""
        if self.exchange:
            self.exchange.end()
            self.exchange = None

    def check_login(self) -> None:
        """Raises CommandRefused where a password would be sent in the clear and must not."""
        if not self.may & MAY_LOG_IN:
            raise CommandRefused("[AUTH] no login without TLS: STLS first")

    def say(self, word: bytes) -> None:
        self.said = [*self.said[1 - MAX_SAID :], word]

    def summary(self, first: bytes) -> bytes:
        """What the client has said, for is_summary() and in_words(); `first` is the beginning of it."""
        return b" ".join([HANDSHAKE + REFUSED] if first.startswith(TLS_RECORD) else self.said)


def user(state: Authorization, name: bytes) -> "Reply":
    """Another name replaces the first: c-client says one again after an empty password. There is one attempt anyway."""
    state.check_login()
    state.count(b"USER")
    state.name = name
    return ok("now PASS")


def pass_(state: Authorization, password: bytes) -> "Reply":
    """One attempt a connection. The answer is not ours: it comes from whoever knows the verdict."""
    state.check_login()
    if not state.name:
        raise CommandRefused("USER first")
    state.login = PASSWORD, state.name, password
    state.over = True
    return b""


def auth(state: Authorization, words: list[bytes]) -> "Reply":
    """Without a mechanism: which there are, as clients ask that knew this before CAPA."""
    state.count(b"AUTH")
    if not words:
        return listing("mechanisms", allowed(state.may))
    state.check_login()
    mechanism = MECHANISMS.get(words[0].upper())
    if mechanism is None or not state.may & mechanism.may or not state.helper:
        raise CommandRefused("no such mechanism")
    if len(words) > 2:
        raise CommandRefused("wrong number of arguments")
    state.exchange = Exchange(mechanism, state.helper)
    if len(words) == 1:
        return challenge_line(state.exchange.challenge)
    return state.respond(b"" if words[1] == NO_RESPONSE else words[1])


def capa(state: Authorization) -> "Reply":
    state.count(b"CAPA")
    return capability_list(
        may_log_in=bool(state.may & MAY_LOG_IN), may_encrypt=bool(state.may & MAY_ENCRYPT), sasl=allowed(state.may)
    )


def utf8(state: Authorization) -> "Reply":
    """From now on octets above 127 may come in a name, a password and mail: as they do anyway (RFC 6856 section 2)."""
    state.count(b"UTF8")
    state.utf8 = True
    return ok("UTF8 enabled")


def stls(state: Authorization) -> "Reply":
    """The answer is not ours: whoever begins TLS gives it, when it can be begun. Behind it nothing is executed."""
    if not state.may & MAY_ENCRYPT:
        raise CommandRefused("TLS is not possible here")
    if state.utf8:
        raise CommandRefused("STLS must come before UTF8")
    state.say(b"STLS")
    state.wants_tls = state.over = True
    return b""


def quit_(state: Authorization) -> "Reply":
    state.over = True
    return ok("bye")


TABLE = {
    b"USER": Command(user, NAME),
    b"PASS": Command(pass_, REST),
    b"AUTH": Command(auth, OPTIONAL_WORDS),
    b"CAPA": Command(capa),
    b"UTF8": Command(utf8),
    b"LANG": Command(lang, OPTIONAL_WORDS),
    b"STLS": Command(stls),
    b"QUIT": Command(quit_),
}


def is_summary(octets: bytes) -> bool:
    """Whether summary() can have made this."""
    words = octets.split(b" ") if octets else []
    return len(words) <= MAX_SAID and all(
        word.removesuffix(REFUSED) in VERBS or word.removesuffix(REFUSED) in (OTHER, HANDSHAKE) for word in words
    )


def in_words(summary: bytes) -> str:
    """A summary for people: "CAPA, AUTH (refused)"."""
    named = {OTHER: "another word", HANDSHAKE: "the beginning of TLS"}
    words = []
    for word in summary.split():
        verb = word.removesuffix(REFUSED)
        words.append(named.get(verb, verb.decode()) + (" (refused)" if word.endswith(REFUSED) else ""))
    return ", ".join(words)
