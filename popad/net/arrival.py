"""How a client arrives, whether systemd, inetd or the daemon hands it over: what is done to it, in this order.

1. the header of a proxy (POPAD_PROXY_FROM), which says who the client is; and a slot for that one
2. the rules of hosts.allow and hosts.deny: what they refuse is closed without a word
3. TLS, on a port where it begins at once (POP3S, RFC 8314)
4. the greeting
"""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from popad.net.connection import Connection
    from popad.net.encryption import Encryption
    from popad.net.wrappers import Rules
    from popad.notify import Notifier
    from popad.settings import Settings

from popad.errors import PeerGone, PeerSilent, SettingWrong

GREETING = b"+OK popad ready\r\n"
NOT_SERVED = b"-ERR [SYS/PERM] the server is not set up to serve this\r\n"  # response code: RFC 3206


class Facts:
    """What is the same for each client: the settings, the rules, and who the preauth child becomes.

    The daemon makes one for all its clients: to look the user up costs as much as a fork.
    """

    def __init__(self, settings: "Settings", rules: "Rules | None", identity: tuple[int, int] | None) -> None:
        self.settings = settings
        self.rules = rules
        self.identity = identity  # uid, gid; None: all processes share one uid
        self.notifier: Callable[[Connection], Notifier] | None = None  # of a session; None: systemd's, if it is there


class Arrival:
    """A client that has been greeted, and the facts."""

    def __init__(self, connection: "Connection", facts: Facts, encryption: "Encryption | None" = None) -> None:
        self.connection = connection
        self.facts = facts
        self.encryption = encryption  # that began at once
        self.began = time.monotonic()  # seconds; a little before the greeting


def facts_of(settings: "Settings", *, with_rules: bool) -> Facts:
    """What these settings say of every client. Raises SettingWrong."""
    if not with_rules:
        return Facts(settings, None, preauth_identity(settings))
    from popad.net.wrappers import Rules

    return Facts(settings, Rules(), preauth_identity(settings))


def arrive(
    connection: "Connection",
    facts: Facts,
    encrypt: "Callable[[Connection], Encryption | None]" = lambda _: None,
    by_proxy: "Callable[[Connection], Encryption | None]" = lambda _: None,
) -> Arrival | None:
    """Greet a client that the rules let in; None for any other, for one that has left, and for one with which
    `encrypt` has not begun TLS where it begins at once. Raises SettingWrong.

    `by_proxy` learns of a proxy who the client is, and what that says of TLS; it raises NoClient.

    Nothing is imported before the greeting that the greeting does not need: the client waits for it.
    """
    settings, encryption = facts.settings, None
    if is_proxy(connection, settings):
        try:
            encryption = by_proxy(connection)
        except NoClient:
            connection.hang_up()
            return None
    if facts.rules and facts.rules.refuse(connection):
        return None
    at_once = not encryption and bool(settings.tls_certificate) and connection.local_port() in settings.tls_ports
    if at_once and not (encryption := encrypt(connection)):
        return None
    arrived = Arrival(connection, facts, encryption)
    try:
        connection.write(GREETING, facts.settings.login_timeout)
    except (PeerGone, PeerSilent):
        from popad import journal

        connection.hang_up()
        rhost = connection.rhost or "unknown"
        if journal.wants(settings.log, journal.LOGIN_NOT_ATTEMPTED):
            journal.send(journal.LOGIN_NOT_ATTEMPTED, rhost=rhost, rport=connection.rport, reason="the client left")
        return None
    return arrived


class NoClient(Exception):
    """Nobody has come by way of the proxy, or nobody whom it has named."""


def is_proxy(connection: "Connection", settings: "Settings") -> bool:
    """Whether this address sends a header first."""
    if not settings.proxy_from:
        return False
    from popad.sources import is_in

    return bool(connection.rhost) and is_in(connection.rhost, settings.proxy_from)


def refuse_to_serve(connection: "Connection", wrong: SettingWrong, *, is_said: bool = True) -> None:
    """A client has come and nobody can be served: say so to the client and, if `is_said`, to the journal."""
    try:
        connection.write(NOT_SERVED, 1)
    except (PeerGone, PeerSilent):
        pass  # the journal knows
    connection.hang_up()
    if is_said:
        from popad import journal

        journal.send(journal.SETTING_WRONG, rhost=connection.rhost, reason=str(wrong))


def preauth_identity(settings: "Settings") -> tuple[int, int] | None:
    """Who the preauth child becomes (uid, gid); None where popad is not root and all processes share one uid.

    Raises SettingWrong.
    """
    if os.geteuid() != 0:
        return None
    import pwd

    try:
        entry = pwd.getpwnam(settings.user)
    except KeyError:
        raise SettingWrong("POPAD_USER", f"there is no user {settings.user!a}") from None
    if entry.pw_uid == 0:
        raise SettingWrong("POPAD_USER", "must not be root")
    return entry.pw_uid, entry.pw_gid
