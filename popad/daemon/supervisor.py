"""The parent of the standalone daemon (-D): it accepts, counts, spawns a session a connection, reaps its children, and
keeps the auth helper. It reads nothing from the network.

Sessions are spawned from a process that has everything loaded. They are the same code as under systemd's Accept=yes,
and live on when the parent dies. What runs in them: children.py.
"""

import _socket
import errno
import gc
import os
import select
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence
else:
    import _signal as signal  # the C part: each child would copy what the enumerations around it touch

from popad import __version__, journal
from popad.daemon import children, exit_status, packing
from popad.daemon.helper_process import HelperProcess
from popad.daemon.limits import UNTOLD, Dropped, Slots
from popad.daemon.listeners import BACKLOG
from popad.daemon.proxied import ProxiedClients
from popad.daemon.spare import Spare
from popad.daemon.stopped import Stopped
from popad.daemon.warmup import warm_up
from popad.errors import MaildropUnavailable, PeerSilent, SettingWrong
from popad.maildrop.open import load
from popad.maildrop.private import SharedDirectory, of_indexes, of_updates
from popad.net.arrival import Facts, facts_of
from popad.net.connection import Connection, without_mapping
from popad.notify import Notifier
from popad.privsep import immortal, spawn
from popad.privsep.channel import message_pair
from popad.privsep.identity import AddressSpace, NoNewPrivileges, leave_no_core_file
from popad.session import monitor
from popad.session.shown import Shown
from popad.settings import Settings
from popad.sources import is_in, source_of

BATCH = 64  # connections accepted before signals, the watchdog and the dead get their turn
TICK = 1.0  # seconds: how often systemd is told the status, how soon a helper that died is started again
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # accept(2): the others are about one connection
LAST_WORDS = 5.0  # seconds for what was told to end, before it is killed


class Supervisor:
    """The parent: its listening sockets, the slots, the helper, and what systemd is to know."""

    def __init__(
        self, listeners: "Sequence[socket.socket]", load: "Callable[[], Settings]", notifier: Notifier
    ) -> None:
        """`load` reads the settings: now, and again at each SIGHUP. Raises SettingWrong."""
        self.listeners = list(listeners)
        self.load = load
        self.facts = self.read()
        self.slots = Slots(self.settings.max_sessions, self.settings.max_sessions_per_source, self.settings.min_delay)
        self.stopped = Stopped()
        self.notifier = notifier
        self.helper = HelperProcess("authentication", lambda: children.helper(self))
        self.tls = self.tls_helper()
        self.proxied = ProxiedClients()
        self.spare: Spare | None = None
        self.spare_due = 0.0
        self.dropped = Dropped()
        self.status_due = 0.0
        self.accept_due = 0.0
        self.wake_up: tuple[int, ...] = ()
        self.asked_to_stop = False
        self.closes_port = False
        self.asked_to_reload = False

    @property
    def settings(self) -> Settings:
        """Those that count for the next session."""
        return self.facts.settings

    def read(self) -> Facts:
        """The settings, and what they say of every client. Raises SettingWrong."""
        settings = self.load()
        for place in (of_updates(settings.state), of_indexes(settings.cache)):
            if isinstance(place, SharedDirectory):
                place.close()  # it has its key now, if it had none
        return facts_for_all(settings)

    def tls_helper(self) -> HelperProcess | None:
        """One that is not started yet, where there is a certificate. Raises OSError."""
        if not self.settings.tls_certificate:
            return None
        return HelperProcess("TLS", lambda: children.tls_helper(self))

    def start_helpers(self) -> None:
        """Start those that do not run, as soon as their time has come."""
        for each in self.helpers():
            each.start()

    def helpers(self) -> list[HelperProcess]:
        return [self.helper, *([self.tls] if self.tls else [])]

    def run(self) -> int:
        """Serve until told to stop. Returns the exit status."""
        journal.load()
        wake_up = self.catch_signals()
        for listener in self.listeners:
            listener.setblocking(False)
        NoNewPrivileges.look()  # once, for all sessions
        spawn.inherit_orphans()
        leave_no_core_file()
        AddressSpace.look()
        load(self.settings.maildrop)
        try:
            warm_up()
        except (OSError, MaildropUnavailable, PeerSilent):
            pass  # no place for it, or no time: sessions are a little slower
        except Exception:
            sys.excepthook(*sys.exc_info())  # a programming error, and none that mail has to wait for
        gc.collect()
        packing.use_up_holes()
        why_counted = immortal.make_all_immortal()
        gc.freeze()  # what is here now stays: no child's collector need touch, and so copy, its pages
        if why_counted:
            journal.send(journal.MEMORY_NOT_SHARED, reason=why_counted)
        self.start_helpers()
        self.start_spare()
        addresses = " ".join(map(listens_on, self.listeners))
        journal.send(
            journal.DAEMON_STARTED, version=__version__, addresses=addresses, max_sessions=self.settings.max_sessions
        )
        self.notifier.ready(self.status())
        while not self.asked_to_stop:
            accepting = self.listeners if time.monotonic() >= self.accept_due else []
            waited_for = [wake_up, self.proxied.end.fileno(), *map(socket.socket.fileno, accepting)]
            ready = select.select(waited_for, [], [], TICK)[0]
            self.housekeeping(wake_up)
            if self.asked_to_reload:
                self.reload()
            self.start_helpers()
            if self.proxied.end.fileno() in ready:
                self.proxied.answer(self.slot_for)
            for listener in accepting:
                if listener.fileno() in ready:
                    self.accept(listener)
            if not self.spare and time.monotonic() >= self.spare_due:
                self.start_spare()
        return self.stop(wake_up)

    def housekeeping(self, wake_up: int) -> None:
        """What each turn of the loop owes to the dead, to systemd and to the journal. A flood turns it fast."""
        drain(wake_up)
        self.reap()
        now = time.monotonic()
        self.log_dropped(now)
        self.end_stopped(now)
        self.notifier.alive()
        if now >= self.status_due:
            self.status_due = now + TICK
            AddressSpace.look()
            journal.say_lost()
            self.notifier.status(self.status())

    def catch_signals(self) -> int:
        """Make signals wake the loop up. Returns the descriptor that they arrive on."""
        self.wake_up = reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, lambda *_: setattr(self, "asked_to_reload", True))
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: setattr(self, "asked_to_stop", True))
        signal.signal(signal.SIGUSR1, lambda *_: self.stop_for_good())
        return reading

    def stop_for_good(self) -> None:
        """There will be no next daemon that clients could wait for."""
        self.asked_to_stop = self.closes_port = True

    def status(self) -> str:
        """What systemd shows."""
        return f"{len(self.slots.running)} sessions, {self.dropped.in_all} connections refused"

    def accept(self, listener: socket.socket) -> None:
        """Take up to BATCH connections that wait on `listener`."""
        for _ in range(BATCH):
            try:
                connection, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in NO_ROOM:
                    continue  # the client has left, or its network has
                self.accept_due = time.monotonic() + TICK  # it waits; select() would not
                self.drop("unknown", os.strerror(error.errno), time.monotonic())
                return
            with connection:
                self.connected(connection, without_mapping(str(address[0])), int(address[1]))

    def connected(self, connection: socket.socket, address: str, port: int) -> None:
        """Start a session, or close the connection without a word where a limit is reached."""
        now = time.monotonic()
        is_proxy = bool(self.settings.proxy_from) and is_in(address, self.settings.proxy_from)
        source = UNTOLD if is_proxy else source_of(address, self.settings.source_prefix)
        if (limit := self.slots.limit_reached(source, now)) is not None:
            self.drop(address, limit, now)
            return
        spare, self.spare = self.spare, None
        if spare and spare.give(connection.fileno(), address, port):
            self.slots.started(spare.pid, source, now)
            return
        try:
            pid = spawn.spawn(lambda: children.session(self, Connection(connection.detach(), address, port)))
        except OSError as error:
            self.drop(address, str(error.strerror), now)
            return
        self.slots.started(pid, source, now)

    def slot_for(self, pid: int, address: str) -> bool:
        """Whether a session may go on, which has learned of a proxy that its client has this address."""
        now = time.monotonic()
        if pid not in self.slots.running:
            return False  # it has asked, and died
        if (limit := self.slots.moved(pid, source_of(address, self.settings.source_prefix), now)) is None:
            return True
        self.drop(address, limit, now)
        return False

    def start_spare(self) -> None:
        """Fork the session of the next client before it comes."""
        self.spare_due = time.monotonic() + TICK  # if it cannot be had: a client that comes before is told why
        ends: list[_socket.socket] = []
        try:
            ours, theirs = handoff = message_pair()
            ends += handoff
            pairs = message_pair(), message_pair()  # between the session and its preauth child
            ends += [end for pair in pairs for end in pair]
            self.spare = Spare(spawn.spawn(lambda: children.spare(self, ours, theirs, pairs)), ours)
            self.spare_due = 0.0
            ends.remove(ours)
        except OSError:
            pass
        for end in ends:
            end.close()

    def dismiss_spare(self) -> None:
        """There will be no client for the spare: its settings are old, or the daemon stops."""
        if self.spare:
            self.spare.dismiss()
            self.spare = None

    def drop(self, address: str, limit: str, now: float) -> None:
        """Count a connection that is not served."""
        self.dropped.count(address, limit)
        self.log_dropped(now)

    def log_dropped(self, now: float) -> None:
        """Log what was dropped, but not more often than every min_delay."""
        if fields := self.dropped.due(now, self.settings.min_delay):
            journal.send(journal.LIMIT_REACHED, **fields)

    def reap(self) -> bool:
        """Reap the dead: their slots become free in their time, the helper and the spare session get a successor.

        Returns whether nobody is left.
        """
        now = time.monotonic()
        while True:
            try:
                pid, status = self.stopped.wait(now)
            except ChildProcessError:
                return True
            if not pid:
                return False
            said = exit_status.told(status)
            if said is None:
                spawn.kill_orphans(self.slots.running)
            logged_in, lost = said or (False, 0)
            if self.slots.ended(pid, now, is_known=logged_in):
                journal.lost(lost)
                continue
            if self.spare and pid == self.spare.pid:
                self.dismiss_spare()
                self.spare_due = now + TICK
            for each in self.helpers():
                if pid == each.pid:
                    each.ended(status, now, is_expected=self.asked_to_stop)

    def reload(self) -> None:
        """Read the settings again, for new sessions. A wrong one keeps the old ones and says so."""
        self.asked_to_reload = False
        self.notifier.reloading()
        try:
            relay = message_pair()
        except OSError as error:
            journal.send(journal.RELOAD_REFUSED, reason=str(error))
            return self.notifier.ready(self.status())
        try:
            self.facts = self.read()
        except SettingWrong as wrong:
            for end in relay:
                end.close()
            journal.send(journal.RELOAD_REFUSED, reason=str(wrong))
        else:
            self.slots.max_sessions = self.settings.max_sessions
            self.slots.max_per_source = self.settings.max_sessions_per_source
            self.slots.min_delay = self.settings.min_delay
            self.helper.replace(relay)  # it has its settings from its start
            if self.tls:
                self.tls.leave()  # when the last session that may ask it has; its relays go on
            self.tls = self.tls_helper()
            self.start_helpers()
            self.dismiss_spare()
            journal.send(journal.RELOADED)
        self.notifier.ready(self.status())

    def stop(self, wake_up: int) -> int:
        """No new sessions; those that run may end by themselves, for a while. Returns the exit status."""
        for_good = self.closes_port  # and not what may be said later
        for listener in self.listeners:
            if for_good:
                self.accept(listener)  # who has connected is served
                listener.shutdown(socket.SHUT_RDWR)  # systemd has it open, too
            else:
                listener.close()
        for each in self.helpers():
            each.relay.close()  # a helper leaves when the last session has closed its own
        self.dismiss_spare()
        self.notifier.tell("STOPPING=1")
        self.notifier.put_off(self.settings.stop_timeout + LAST_WORDS)
        running = len(self.slots.running)
        self.wait_for_children(wake_up, self.settings.stop_timeout)
        told = len(self.slots.running)
        self.end_children(signal.SIGTERM)
        self.wait_for_children(wake_up, LAST_WORDS)
        self.end_children(signal.SIGKILL)
        if for_good:
            for listener in self.listeners:
                listener.listen(BACKLOG)  # or systemd finds a socket that has failed, before it closes it
        journal.send(journal.DAEMON_STOPPED, finished=running - told, told=told)
        return monitor.SUCCESS

    def wait_for_children(self, wake_up: int, patience: float) -> None:
        """Until all have ended, but not longer."""
        deadline = time.monotonic() + patience
        while not self.reap() and (left := deadline - time.monotonic()) > 0:
            ready = select.select([wake_up, self.proxied.end.fileno()], [], [], min(left, TICK))[0]
            self.housekeeping(wake_up)
            if self.proxied.end.fileno() in ready:  # a proxy's client that came before the stop
                self.proxied.answer(self.slot_for)

    def end_children(self, how: int) -> None:
        """End what still runs. A helper of sessions that run still leaves with them."""
        for pid in [*self.slots.running, *(each.pid for each in self.helpers() if each.pid)]:
            end(pid, how)

    def end_stopped(self, now: float) -> None:
        """End sessions that stand still for as long as a client may be silent."""
        for pid in self.stopped.overdue(now, self.settings.timeout):
            journal.send(journal.SESSION_STOPPED, pid=pid)
            end(pid, signal.SIGKILL)


def facts_for_all(settings: Settings) -> Facts:
    """What the settings say of every client of a daemon. Raises SettingWrong."""
    facts = facts_of(settings, with_rules=settings.wrappers != "never")
    facts.notifier = Shown
    return facts


def listens_on(listener: socket.socket) -> str:
    """Its address and port, for people."""
    host, port, *_ = listener.getsockname()
    return f"[{host}]:{port}" if listener.family == socket.AF_INET6 else f"{host}:{port}"


def end(pid: int, how: int) -> None:
    """Tell a child to end."""
    try:
        os.kill(pid, how)
    except PermissionError:
        pass  # became its user, and this is root without CAP_KILL: it goes on to its end


def drain(wake_up: int) -> None:
    """Take the signals that have arrived off the pipe: their handlers have run."""
    try:
        while os.read(wake_up, 4096):
            pass
    except BlockingIOError:
        pass
