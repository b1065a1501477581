"""The standalone daemon (-D): listen, check for floods, fork a session a connection, keep the authentication helper.

The parent reads nothing from the network. It accepts, counts, and forks from a process that has everything loaded. A
session is the same code as under systemd's Accept=yes, and lives on when the parent dies.
"""

import _socket
import errno
import gc
import math
import os
import select
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence
    from typing import NoReturn
else:
    import _signal as signal  # the C part: each child would copy what the enumerations around it touch

from popad import journal
from popad.auth.helper import Helper
from popad.auth.loaded import Loaded
from popad.daemon import exit_status, packing
from popad.daemon.limits import Slots
from popad.daemon.spare import Spare, client_from
from popad.daemon.stopped import Stopped
from popad.daemon.warmup import rehearse
from popad.errors import MaildropUnavailable, PeerSilent, SettingWrong
from popad.maildrop.private import State, of_indexes, of_updates
from popad.net.arrival import Facts, arrive, facts_of, refuse_to_serve
from popad.net.connection import Connection, without_mapping
from popad.notify import Notifier
from popad.privsep import helpers, pool, spawn
from popad.privsep.channel import message_pair
from popad.privsep.identity import AddressSpace, NoNewPrivileges, leave_no_core_file
from popad.session import monitor, preauth
from popad.settings import Settings
from popad.sources import source_of

BATCH = 64  # connections accepted before signals, the watchdog and the dead get their turn
TICK = 1.0  # seconds: how often systemd is told the status, how soon a helper that died is started again
NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # accept(2): the others are about one connection
LAST_WORDS = 5.0  # seconds for what was told to end, before it is killed
WAKE_UP = (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM, signal.SIGINT)


class Daemon:
    """The parent: its listening sockets, the slots, the helper, and what systemd is to know."""

    def __init__(self, listeners: "Sequence[socket.socket]", load: "Callable[[], Settings]") -> None:
        """`load` reads the settings: now, and again at each SIGHUP. Raises SettingWrong."""
        self.listeners = list(listeners)
        self.load = load
        self.facts = self.read()
        self.slots = Slots(self.settings.max_sessions, self.settings.max_sessions_per_source, self.settings.min_delay)
        self.stopped = Stopped()
        self.notifier = Notifier()
        os.environ.pop("NOTIFY_SOCKET", None)  # sessions do not speak for the daemon
        self.relay, self.relay_end = message_pair()
        self.helper_pid = 0
        self.helper_due = 0.0
        self.spare: Spare | None = None
        self.spare_due = 0.0
        self.dropped = 0
        self.unsaid = 0  # of those dropped
        self.last_dropped = ("", "")  # address, why
        self.log_due = 0.0
        self.status_due = 0.0
        self.accept_due = 0.0
        self.wake_up: tuple[int, int] | None = None
        self.asked_to_stop = False
        self.asked_to_reload = False

    @property
    def settings(self) -> Settings:
        """Those that count for the next session."""
        return self.facts.settings

    def read(self) -> Facts:
        """The settings, and what they say of every client. Raises SettingWrong."""
        settings = self.load()
        for place in (of_updates(settings.state), of_indexes(settings.cache)):
            if isinstance(place, State):
                place.close()  # it has its key now, if it had none
        return facts_of(settings, with_rules=settings.wrappers != "never")

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
        try:
            rehearse()
        except (OSError, MaildropUnavailable, PeerSilent):
            pass  # no place for it, or no time: sessions are a little slower
        except Exception:
            sys.excepthook(*sys.exc_info())  # a programming error, and none that mail has to wait for
        gc.collect()
        packing.use_up_holes()
        gc.freeze()  # what is here now stays: no child's collector need touch, and so copy, its pages
        self.start_helper()
        self.start_spare()
        self.notifier.ready(self.status())
        while not self.asked_to_stop:
            accepting = self.listeners if time.monotonic() >= self.accept_due else []
            ready = select.select([wake_up, *map(socket.socket.fileno, accepting)], [], [], TICK)[0]
            self.housekeeping(wake_up)
            if self.asked_to_reload:
                self.reload()
            if not self.helper_pid and time.monotonic() >= self.helper_due:
                self.start_helper()
            for listener in accepting:
                if listener.fileno() in ready:
                    self.accept(listener)
            if not self.spare and time.monotonic() >= self.spare_due:
                self.start_spare()
        return self.stop(wake_up)

    def housekeeping(self, wake_up: int) -> None:
        """What each turn of the loop owes to the dead, to systemd and to the journal. A flood turns it fast."""
        drain(wake_up)
        self.bury()
        now = time.monotonic()
        self.say_dropped(now)
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
        return reading

    def child(self, role: "Callable[[], int]") -> "NoReturn":
        """In a forked child: run `role`, which calls leave_the_parent(), as all that it does."""
        status = monitor.SOFTWARE
        try:
            status = role()
        except BaseException:
            sys.excepthook(*sys.exc_info())  # a programming error: to stderr, which is the journal or nothing
        finally:
            os._exit(status)

    def forget_signals(self) -> None:
        """In a forked child: it is told to end by signals of its own."""
        signal.set_wakeup_fd(-1)
        for each in WAKE_UP:
            signal.signal(each, signal.SIG_DFL)
        os.setsid()  # the terminal of a daemon in the foreground interrupts the parent alone

    def leave_the_parent(self) -> None:
        """In a forked child: do without what belongs to the parent."""
        self.forget_signals()
        journal.Lost.entries = 0  # the parent says them
        for fd in self.wake_up or ():
            os.close(fd)
        for listener in self.listeners:
            listener.close()
        if self.spare:
            self.spare.dismiss()  # the parent alone has the other end: the spare leaves when it ends
        self.notifier.close()

    def status(self) -> str:
        """What systemd shows."""
        return f"{len(self.slots.running)} sessions, {self.dropped} connections refused"

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
        source = source_of(address, self.settings.source_prefix)
        if (limit := self.slots.limit_reached(source, now)) is not None:
            self.drop(address, limit, now)
            return
        spare, self.spare = self.spare, None
        if spare and spare.give(connection.fileno(), address, port):
            self.slots.started(spare.pid, source, now)
            return
        try:
            pid = os.fork()
        except OSError as error:
            self.drop(address, str(error.strerror), now)
            return
        if pid == 0:
            self.child(lambda: self.session_of(connection.detach(), address, port))
        self.slots.started(pid, source, now)

    def session_of(self, fd: int, address: str, port: int) -> int:
        """In the child: the session of a client that is there. Returns the exit status."""
        self.leave_the_parent()
        self.relay_end.close()
        return self.session(Connection(fd, address, port))

    def session(self, connection: Connection, child: "preauth.Preauth | None" = None) -> int:
        """In the child: one session, if the rules allow it. Returns the exit status."""
        outcome = monitor.SUCCESS
        try:
            if arrived := arrive(connection, self.facts):
                outcome = monitor.serve(arrived, helpers.HelperRelay(self.relay), child)
        except SettingWrong as wrong:  # rules that have been written since the start
            refuse_to_serve(connection, wrong)
            return monitor.CONFIG
        if outcome in (monitor.SUCCESS, monitor.SERVED):
            return exit_status.status(outcome == monitor.SERVED, journal.Lost.entries)
        return outcome

    def start_spare(self) -> None:
        """Fork the session of the next client before it comes."""
        self.spare_due = time.monotonic() + TICK  # if it cannot be had: a client that comes before is told why
        ends: list[_socket.socket] = []
        try:
            ours, theirs = way = message_pair()
            ends += way
            pairs = message_pair(), message_pair()  # between the session and its preauth child
            ends += [end for pair in pairs for end in pair]
            pid = os.fork()
            if pid == 0:
                self.child(lambda: self.spare_session(ours, theirs, pairs))
            self.spare = Spare(pid, ours)
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

    def spare_session(self, parents: _socket.socket, way: _socket.socket, pairs: "preauth.Pairs") -> int:
        """In the child: wait for a client with all forks done. Returns the exit status.

        The fork is the first thing done: each page written to before it would be copied once more behind it. `parents`
        is the other end of `way`: this process leaves when the parent alone has it, and closes it.
        """
        try:
            child = preauth.start(None, 0, self.settings, self.facts.identity, pairs, self.forget_signals)
        except OSError:
            child = None  # perhaps it can be had when there is a client
            for end in (end for pair in pairs for end in pair):
                end.close()
        parents.close()
        self.leave_the_parent()
        self.relay_end.close()
        if connection := client_from(way):
            return self.session(connection, child)
        if child:
            child.end()
        return monitor.SUCCESS

    def drop(self, address: str, limit: str, now: float) -> None:
        """Count a connection that is not served."""
        self.dropped += 1
        self.unsaid += 1
        self.last_dropped = address, limit
        self.say_dropped(now)

    def say_dropped(self, now: float) -> None:
        """Log what was dropped, but not more often than every min_delay."""
        if self.unsaid and now >= self.log_due:
            address, limit = self.last_dropped
            journal.send(journal.LIMIT_REACHED, rhost=address, limit=limit, dropped=self.unsaid)
            self.log_due = now + self.settings.min_delay
            self.unsaid = 0

    def bury(self) -> bool:
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
            if pid == self.helper_pid:
                self.helper_pid = 0
                self.helper_due = now
                if status and not self.asked_to_stop:  # else it has left, as it should
                    journal.send(journal.HELPER_DIED, reason=f"wait status {status}")
                    self.helper_due = now + TICK

    def start_helper(self) -> None:
        """Fork the authentication helper at the other end of the relay. What was asked meanwhile waits there."""
        try:
            pid = os.fork()
        except OSError as error:
            journal.send(journal.HELPER_DIED, reason=str(error))
            self.helper_due = time.monotonic() + TICK
            return
        if pid == 0:
            self.child(self.helper)
        self.helper_pid = pid

    def helper(self) -> int:
        """In the child: answer the relay. Returns the exit status."""
        self.leave_the_parent()
        self.relay.close()
        # Where an update has been installed it leaves, and the parent forks one that loads what is there now.
        pool.keep(pool.Relay(self.relay_end), Helper(self.settings).serve, math.inf, Loaded().is_outdated)
        return monitor.SUCCESS

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
            # The helper has its settings from its start. The old one leaves when the last session that may ask it has.
            self.relay.close()
            self.relay_end.close()
            self.relay, self.relay_end = relay
            self.start_helper()
            self.dismiss_spare()
            journal.send(journal.RELOADED)
        self.notifier.ready(self.status())

    def stop(self, wake_up: int) -> int:
        """No new sessions; those that run may end by themselves, for a while. Returns the exit status."""
        for listener in self.listeners:
            listener.close()
        self.relay.close()  # the helper leaves when the last session has closed its own
        self.dismiss_spare()
        self.notifier.tell("STOPPING=1")
        self.notifier.put_off(self.settings.stop_timeout + LAST_WORDS)
        self.wait_for_children(wake_up, self.settings.stop_timeout)
        self.end_children(signal.SIGTERM)
        self.wait_for_children(wake_up, LAST_WORDS)
        self.end_children(signal.SIGKILL)
        return monitor.SUCCESS

    def wait_for_children(self, wake_up: int, patience: float) -> None:
        """Until all have ended, but not longer."""
        deadline = time.monotonic() + patience
        while not self.bury() and (left := deadline - time.monotonic()) > 0:
            select.select([wake_up], [], [], min(left, TICK))
            self.housekeeping(wake_up)

    def end_children(self, how: int) -> None:
        """End what still runs. A helper of sessions that run still leaves with them."""
        for pid in [*self.slots.running, *([self.helper_pid] if self.helper_pid else [])]:
            end(pid, how)

    def end_stopped(self, now: float) -> None:
        """End sessions that stand still for as long as a client may be silent."""
        for pid in self.stopped.overdue(now, self.settings.timeout):
            journal.send(journal.SESSION_STOPPED, pid=pid)
            end(pid, signal.SIGKILL)


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
