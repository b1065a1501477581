"""What every part of a session needs, from the greeting to the end; and what is prepared for a login."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.errors import MaildropUnavailable
    from popad.journal import Event, Value
    from popad.maildrop.private import SharedDirectory
    from popad.net.arrival import Arrival
    from popad.notify import Notifier
    from popad.privsep.channel import Channel


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
        self.notifier: Notifier | None = None
        self.state: SharedDirectory | MaildropUnavailable  # POPAD_STATE and POPAD_CACHE: Preparation opens them
        self.cache: SharedDirectory | None

    def log(self, event: "Event", **fields: "Value") -> None:
        """Write an entry about this session."""
        from popad import journal

        journal.send(event, **(self.known | fields))

    def ready(self) -> "Notifier":
        """Tell systemd that the greeting has left, if it has not heard yet."""
        if self.notifier is None:
            from popad import notify

            self.notifier = notify.Notifier()
            lives = self.settings.login_timeout + self.settings.auth_timeout
            self.notifier.ready(f"authorization, {self.rhost}", lives)
        return self.notifier

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


class Preparation:
    """What a login needs and its verdict does not depend on: imports, POPAD_STATE and POPAD_CACHE. It takes longer
    than all that comes before, so it is done in small steps while the client has said nothing yet, and what is left of
    it while the auth worker is busy.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.steps: list[Callable[[], object]] = [
            context.ready,
            load_maildrop,
            load_transaction,
            load_stores,
            load_postauth,
            self.open_places,
        ]

    def while_idle(self, channel: "Channel") -> None:
        """Do step after step until something has come over `channel`."""
        while self.steps and not channel.waits(0):
            self.steps.pop(0)()

    def finish(self) -> None:
        """Do what is left."""
        while self.steps:
            self.steps.pop(0)()

    def open_places(self) -> None:
        """As root: a user may not open these directories."""
        from popad.maildrop.private import of_indexes, of_updates

        settings = self.context.settings
        self.context.state, self.context.cache = of_updates(settings.state), of_indexes(settings.cache)


def load_maildrop() -> None:
    """Imports for later, here and below: a maildrop."""
    from popad.maildrop import maildrop  # noqa: F401


def load_transaction() -> None:
    """The commands of the TRANSACTION state."""
    from popad.protocol import transaction  # noqa: F401


def load_stores() -> None:
    """The stores."""
    from popad.maildrop import open  # noqa: F401


def load_postauth() -> None:
    """The part of the session that runs as the user."""
    from popad.session import postauth  # noqa: F401
