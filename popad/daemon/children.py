"""What runs in the daemon's children: a session, the spare session, the auth helper. Each first gives up what belongs
to the parent.
"""

import math
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    import signal
    import socket
    from typing import Protocol

    from popad.daemon.helper_process import HelperProcess
    from popad.daemon.proxied import ProxiedClients
    from popad.daemon.spare import Spare
    from popad.net.arrival import Facts
    from popad.notify import Notifier
    from popad.session.preauth import Pairs, Preauth
    from popad.settings import Settings

    class Parent(Protocol):
        """What a child has of the parent (supervisor.py) when it begins."""

        listeners: list[socket.socket]
        facts: Facts
        helper: HelperProcess
        tls: HelperProcess | None
        proxied: ProxiedClients
        spare: Spare | None
        notifier: Notifier
        wake_up: tuple[int, ...]

        @property
        def settings(self) -> Settings: ...
else:
    import _signal as signal  # the C part: each child would copy what the enumerations around it touch

from popad import journal
from popad.auth.helper import Helper
from popad.auth.loaded import Loaded
from popad.daemon import exit_status
from popad.daemon.spare import client_from
from popad.errors import SettingWrong
from popad.net.activation import FIRST_PASSED_FD
from popad.net.arrival import arrive, refuse_to_serve
from popad.net.connection import Connection
from popad.privsep import helpers, pool
from popad.privsep.proxied import learn_client
from popad.session import monitor, preauth
from popad.tls.start import at_once

WAKE_UP = (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)  # the parent's


def forget_signals() -> None:
    """A child is told to end by signals of its own."""
    signal.set_wakeup_fd(-1)
    for each in WAKE_UP:
        signal.signal(each, signal.SIG_DFL)
    os.setsid()  # the terminal of a daemon in the foreground interrupts the parent alone


def leave(parent: "Parent") -> None:
    """Do without what belongs to the parent."""
    forget_signals()
    journal.Lost.entries = 0  # the parent says them
    for fd in parent.wake_up:
        os.close(fd)
    for listener in parent.listeners:
        listener.close()
    if parent.spare:
        parent.spare.dismiss()  # the parent alone has the other end: the spare leaves when it ends
    parent.notifier.close()


def leave_helpers(parent: "Parent") -> None:
    """Do without their ends of the relays: sessions ask, and do not answer."""
    parent.proxied.end.close()
    for each in (parent.helper, parent.tls):
        if each:
            each.end.close()


def session(parent: "Parent", connection: Connection) -> int:
    """The session of a client that is there. Returns the exit status."""
    leave(parent)
    leave_helpers(parent)
    return serve(parent, connection)


def spare(parent: "Parent", parents_end: "_socket.socket", handoff: "_socket.socket", pairs: "Pairs") -> int:
    """Wait for a client with all forks done. Returns the exit status.

    The fork is the first thing done: each page written to before it would be copied once more after it. `parents_end`
    is the other end of `handoff`: this process leaves when the parent alone has it, and closes it.
    """
    try:
        child = preauth.start(None, 0, parent.settings, parent.facts.identity, pairs, forget_signals)
    except OSError:
        child = None  # perhaps it can be had when there is a client
    parents_end.close()
    leave(parent)
    leave_helpers(parent)
    if connection := client_from(handoff):
        return serve(parent, connection, child)
    if child:
        child.end()
    return monitor.SUCCESS


def serve(parent: "Parent", connection: Connection, child: "Preauth | None" = None) -> int:
    """One session, if the rules allow it. Returns the exit status."""
    outcome = monitor.SUCCESS
    try:
        relays = monitor.Relays(helpers.HelperRelay(parent.helper.relay))
        if parent.tls:
            relays.tls = helpers.HelperRelay(parent.tls.relay)
        arrived = arrive(
            connection,
            parent.facts,
            lambda client: at_once(client, parent.settings, relays.tls),
            lambda client: learn_client(client, parent.facts, parent.proxied.has_slot),
        )
        parent.proxied.relay.close()
        if arrived:
            outcome = monitor.serve(arrived, relays, child)
    except SettingWrong as wrong:  # rules that have been written since the start
        refuse_to_serve(connection, wrong)
        return monitor.CONFIG
    if outcome in (monitor.SUCCESS, monitor.SERVED):
        return exit_status.status(outcome == monitor.SERVED, journal.Lost.entries)
    return outcome


def helper(parent: "Parent") -> int:
    """Answer the relay. Returns the exit status.

    Where an update has been installed it leaves, and the parent forks one that loads what is there now.
    """
    leave(parent)
    parent.helper.relay.close()
    parent.proxied.close()
    if parent.tls:
        parent.tls.relay.close()
        parent.tls.end.close()
    serve = Helper(parent.settings).serve
    pool.serve_requests(pool.RelaySource(parent.helper.end), serve, math.inf, Loaded().is_outdated)
    return monitor.SUCCESS


def tls_helper(parent: "Parent") -> int:
    """Answer the other relay, as `popad tls-helper`: a program of its own, as each connection has a fork of it, and one
    of the daemon would have 0.4 MB more. The parent starts another one when it has ended. Raises OSError.
    """
    leave(parent)
    if not parent.tls:
        return monitor.SUCCESS
    os.dup2(parent.tls.end.fileno(), FIRST_PASSED_FD)
    os.set_inheritable(FIRST_PASSED_FD, True)
    passed = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "PATH": os.environ.get("PATH", os.defpath)}
    arguments = len(sys.argv) - 1
    started_as = sys.orig_argv[: len(sys.orig_argv) - arguments]
    os.execve(sys.executable, [*started_as, "tls-helper"], {**of_tls(parent.settings), **passed})  # noqa: S606 - as it was started


def of_tls(settings: "Settings") -> dict[str, str]:
    """What that program has to know of the settings, as an environment."""
    return {
        "POPAD_TLS_CERTIFICATE": " ".join(settings.tls_certificate),
        "POPAD_TLS_KEY": " ".join(settings.tls_key),
        "POPAD_TLS_MIN": settings.tls_min,
        "POPAD_TLS_CIPHERS": settings.tls_ciphers,
        "POPAD_TLS_CLIENT_CA": settings.tls_client_ca,
        "POPAD_TLS_CLIENT_NAME": settings.tls_client_name,
        "POPAD_TLS_UNKNOWN_NAME": settings.tls_unknown_name,
        "POPAD_TLS_TIMEOUT": str(settings.tls_timeout),
        "POPAD_TLS_USER": settings.tls_user,
        "POPAD_USER": settings.user,
    }
