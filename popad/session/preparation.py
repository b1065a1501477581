"""What is prepared for a login, and when."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.privsep.channel import Channel
    from popad.session.context import Context


from popad import precompiled


class Preparation:
    """What a login needs and its verdict does not depend on: imports, POPAD_STATE and POPAD_CACHE. It takes longer
    than all that comes before, so it is done in small steps while the client has said nothing yet, and what is left of
    it while the auth worker is busy.
    """

    def __init__(self, context: "Context") -> None:
        self.context = context
        self.steps: list[Callable[[], object]] = [
            context.ready,
            load_precompiled,
            load_maildrop,
            load_transaction,
            self.load_stores,
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

    def load_stores(self) -> None:
        """The store that most users have; one may have another."""
        from popad.maildrop import open

        open.load(self.context.settings.maildrop)

    def open_places(self) -> None:
        """As root: a user may not open these directories."""
        from popad.maildrop.private import of_indexes, of_updates

        settings = self.context.settings
        self.context.state, self.context.cache = of_updates(settings.state), of_indexes(settings.cache)


def load_precompiled() -> None:
    """What the next steps import, where there is a file of it."""
    precompiled.load("popad.session.postauth")


def load_maildrop() -> None:
    """Imports for later, here and below: a maildrop."""
    from popad.maildrop import maildrop  # noqa: F401


def load_transaction() -> None:
    """The commands of the TRANSACTION state."""
    from popad.protocol import transaction  # noqa: F401


def load_postauth() -> None:
    """The part of the session that runs as the user."""
    from popad.session import postauth  # noqa: F401
