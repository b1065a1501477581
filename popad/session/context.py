"""What every part of a session needs, from the greeting to the end."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.errors import MaildropUnavailable
    from popad.journal import Event, Value
    from popad.maildrop.private import SharedDirectory
    from popad.net.arrival import Arrival
    from popad.notify import Notifier


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
        """Write an entry about this session, unless POPAD_LOG leaves it out."""
        from popad import journal

        if self.settings.log == "quiet" and event in journal.ROUTINE:
            return
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
