"""What every part of a session needs, from the greeting to the end."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.errors import MaildropUnavailable
    from popad.journal import Event, Value
    from popad.maildrop.private import SharedDirectory
    from popad.net.arrival import Arrival
    from popad.net.encryption import Encryption
    from popad.notify import Notifier

from popad.protocol.authorization import MAY_ENCRYPT, MAY_LOG_IN
from popad.protocol.sasl import MECHANISMS
from popad.settings import sasl_mechanisms


class Context:
    """The connection, the settings, systemd's ear, what was prepared, and what each journal entry says."""

    def __init__(self, arrived: "Arrival") -> None:
        self.connection = arrived.connection
        self.settings = arrived.facts.settings
        self.identity = arrived.facts.identity  # who the preauth child becomes; None: one uid for all
        self.began = arrived.began
        self.logged_in = False
        self.rhost = self.connection.rhost or "unknown"
        self.known: dict[str, Value] = {"rhost": self.rhost, "rport": self.connection.rport}
        if self.connection.proxy:
            self.known |= {"proxy": self.connection.proxy}
        self.tls = ""  # the version
        self.binding = b""  # the digest of the certificate that the client was shown
        self.certified = ""  # the name in the client's own
        self.notifier: Notifier | None = None
        self.new_notifier = arrived.facts.notifier
        if arrived.encryption:
            self.encrypted(arrived.encryption)
        self.state: SharedDirectory | MaildropUnavailable  # POPAD_STATE and POPAD_CACHE: Preparation opens them
        self.cache: SharedDirectory | None

    def may(self) -> int:
        """What the client may do before its login, as it is connected."""
        settings = self.settings
        if self.connection.is_encrypted:
            return MAY_LOG_IN | self.mechanisms()
        policy = settings.plaintext or ("local" if settings.tls_certificate else "always")
        may_log_in = policy == "always" or (policy == "local" and self.is_trusted_line())
        may = MAY_LOG_IN | self.mechanisms() if may_log_in else 0
        return may | (MAY_ENCRYPT if settings.tls_certificate else 0)

    def mechanisms(self) -> int:
        """Those that the client may use who may log in, as bits of sasl.py."""
        offered = sasl_mechanisms(self.settings)
        may = 0
        for name, mechanism in MECHANISMS.items():
            plain = name.removesuffix(b"-PLUS")
            is_possible = (plain == name or self.binding) and (name != b"EXTERNAL" or self.certified)
            if is_possible and plain.decode() in offered:
                may |= mechanism.may
        return may

    def for_auth_helper(self) -> tuple[bytes, bytes, bytes]:
        """What it is told of the client, beside what the client says itself: verdict.py's REQUEST_LIMITS."""
        return self.rhost.encode("ascii", "replace"), self.binding, self.certified.encode()

    def is_trusted_line(self) -> bool:
        """Whether nobody can listen between the client and us: on this host, or where the administrator says so."""
        from popad.sources import is_in, network

        local = (network("127.0.0.0/8"), network("::1"))
        return not self.connection.rhost or is_in(self.rhost, (*local, *self.settings.trusted_sources))

    def encrypted(self, answer: "Encryption") -> None:
        """There is TLS now: what each entry says of it."""
        self.known |= {"tls": f"{answer.version} {answer.cipher}", "tls_resumed": "yes" if answer.resumed else "no"}
        if answer.name:
            self.known |= {"tls_name": answer.name}
        self.tls = answer.version
        self.binding = answer.binding
        self.certified = answer.certified
        if answer.certified:
            self.known |= {"tls_client": answer.certified}
        if self.notifier:
            self.notifier.status(self.status())

    def log(self, event: "Event", **fields: "Value") -> None:
        """Write an entry about this session, unless POPAD_LOG leaves it out."""
        from popad import journal

        if journal.wants(self.settings.log, event):
            journal.send(event, **(self.known | fields))

    def ready(self) -> "Notifier":
        """Tell systemd that the greeting has left, if it has not heard yet."""
        if self.notifier is None:
            if self.new_notifier:
                self.notifier = self.new_notifier(self.connection)
            else:
                from popad import notify

                self.notifier = notify.Notifier(notify.Direct)
            self.notifier.ready(self.status(), self.settings.login_timeout + self.settings.auth_timeout)
        return self.notifier

    def status(self) -> str:
        """How the session stands before its login, for `popad who`: commands/standing.py reads it."""
        return f"authorization, {self.rhost}{', ' + self.tls if self.tls else ''}"

    def make_room(self) -> None:
        """As root, for a user who has logged in: on a full disk there shall be room to delete mail."""
        from popad.maildrop.private import SharedDirectory

        if isinstance(self.state, SharedDirectory):
            self.state.tend_reserve()

    def close_places(self) -> None:
        """Nobody has logged in: the process that hears the client out has no use for them."""
        from popad.maildrop.private import SharedDirectory

        for place in (self.state, self.cache):
            if isinstance(place, SharedDirectory):
                place.close()
