"""The work that servers are given. Each function does one round of it on one server and adds to the figures."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.bench import generator, mail, tls
from tests.bench.figures import LOGIN_STEPS, Figures
from tests.bench.generator import PASSWORD, Run, Script, ServerFailed
from tests.bench.ratios import ACCEPT, DAEMON, LINE_OF_PYTHON, MAILDIR, TLS_ACCEPT, TLS_DAEMON, TLS_ONE, TLS_SHARED
from tests.bench.servers import FLOOR, Running, Server, answer_with
from tests.support import instances
from tests.support.instances import Variant
from tests.support.machine import Machine
from tests.support.pop3 import Pop3

USERS = [f"c{number}" for number in range(20)]  # with SMALL messages each
SMALL = 10
BIG, BIG_OCTETS = 20_000, 8_500
ONE_OCTETS = 100_000_000
GROWTH_OCTETS = 1_000
BETWEEN_POLLS = 1.0  # seconds, in which a server may write down what it has learnt: real clients come minutes later
IDLE = 20
STEADY_OCTETS, STEADY_SECONDS = 50_000, 10.0
CLIENTS = 8
MOST_ROUNDS = 5
BIG_USERS, LOOK_USERS = ([f"{name}{number}" for number in range(MOST_ROUNDS)] for name in ("big", "look"))


@dataclass(frozen=True)
class Size:
    """How much of each work a round is."""

    login: int  # sessions of one client, and of eight
    login_by_eight: int
    small_seconds: float
    later: int  # opens of a mailbox that is known
    stalled_seconds: float  # a session of RETR or DELE that takes longer is cut, and the rest extrapolated
    greetings: int
    growth: Sequence[int]


QUICK = Size(40, 120, 1.5, 3, 5.0, 12, (20_000, 200_000))
FULL = Size(120, 300, 5.0, 5, 20.0, 50, (10, 100, 1_000, 10_000, 20_000, 100_000, 200_000))


@dataclass(frozen=True)
class Work:
    """A row of the list below. `floor`: the generator's own floor is measured as well."""

    name: str
    title: str
    go: Callable[[Running, Size, Figures, int], None]
    rounds: int
    quick_rounds: int = 1
    floor: bool = False
    only: Sequence[str] = ()  # servers; none: all
    quick_only: Sequence[str] = ()  # the same for --quick

    def concerns(self, server: Server, quick: bool) -> bool:
        if server.name == FLOOR:
            return self.floor
        wanted = (quick and self.quick_only) or self.only
        return server.name in wanted if wanted else not server.works


def prepare(running: Running) -> None:
    """Users with small mailboxes, opened once: what a server keeps of a mailbox it has."""
    mail.add_users(
        running.machine, [*USERS, *BIG_USERS, *LOOK_USERS, "one", "maildir", *(f"grow{count}" for count in FULL.growth)]
    )
    if not running.server.store:
        return
    for name in USERS:
        mail.deliver(running.machine, running.server.store, name, mail.messages(SMALL, mail.SMALL_OCTETS))
    running.make_room(len(USERS))
    for name in USERS:
        generator.run(running.machine, small_session(name))


# -- many short sessions ----------------------------------------------------------------------------------------------


def login_session(name: str = "c%c") -> Script:
    return Script().login(name).add("STAT", "STAT").add("QUIT", "QUIT")


def small_session(name: str = "c%c") -> Script:
    script = Script().login(name).add("STAT", "STAT").add("UIDL", "UIDL", many=True).add("LIST", "LIST", many=True)
    return script.add("RETR", *(f"RETR {number}" for number in range(1, SMALL + 1)), many=True).add("QUIT", "QUIT")


def login(running: Running, size: Size, figures: Figures, _round: int) -> None:
    """USER PASS STAT QUIT, one client after the other, then eight at once."""
    name = running.server.name
    running.make_room(size.login)
    alone = generator.run(running.machine, login_session(), sessions=size.login)
    figures.add(name, "login_ms", *(session.seconds * 1000 for session in alone.sessions))
    for step in LOGIN_STEPS:
        figures.add(name, f"login_step_ms/{step}", *(each.steps[step].seconds * 1000 for each in alone.sessions))
    running.make_room(size.login_by_eight)
    eight = generator.run(
        running.machine, login_session(), clients=CLIENTS, sessions=size.login_by_eight, seconds=size.small_seconds * 2
    )
    figures.add(name, "login_rate", eight.rate)
    figures.add(name, "login_load", eight.load)


def small(running: Running, size: Size, figures: Figures, _round: int) -> None:
    """Ten messages of 4 kB: USER PASS STAT UIDL LIST RETR 1 to 10 QUIT."""
    name = running.server.name
    running.make_room(40)
    alone = generator.run(running.machine, small_session(), sessions=40, seconds=size.small_seconds)
    figures.add(name, "small_ms", *(session.seconds * 1000 for session in alone.sessions))
    sessions = 200 if running.server.slots else 100_000  # with slots: no more than are free, and enough at 40 ms a RETR
    running.make_room(sessions)
    eight = generator.run(
        running.machine, small_session(), clients=CLIENTS, sessions=sessions, seconds=size.small_seconds
    )
    check_octets(eight, "RETR", SMALL * mail.SMALL_OCTETS)
    figures.add(name, "small_rate", eight.rate)
    figures.add(name, "small_load", eight.load)


def check_octets(run: Run, label: str, least: int) -> None:
    """A server that sends less than the mail is not measured."""
    for session in run.sessions:
        if not session.cut and session.steps[label].octets < least:
            raise ServerFailed(f"{label}: {session.steps[label].octets} octets of {least}")


def greeting(running: Running, size: Size, figures: Figures, _round: int) -> None:
    """From connect to the greeting, each from a unit that starts: popad, and one line of Python in the same unit."""
    for variant in beside_a_line(running, size, lambda client: client.sendall(b"QUIT\r\n")):
        figures.add(variant.name, "greeting_ms", *(sample.first for sample in variant.samples))


def session(running: Running, size: Size, figures: Figures, _round: int) -> None:
    """The same to the end of the stream, of a session with a login."""
    for variant in beside_a_line(running, size, log_in):
        figures.add(variant.name, "session_ms", *(sample.end for sample in variant.samples))


def log_in(client: socket.socket) -> None:
    """USER PASS STAT QUIT, each after the reply to the one before."""
    for line in (f"USER {USERS[0]}", f"PASS {PASSWORD}", "STAT", "QUIT"):
        client.sendall(f"{line}\r\n".encode())
        if not (reply := client.recv(4096)).startswith(b"+OK"):
            raise ServerFailed(f"{line.split()[0]}: {reply!r}")


def beside_a_line(running: Running, size: Size, talk: Callable[[socket.socket], None]) -> list[Variant]:
    """popad whose clients `talk` to it, and one line of Python in the same unit, measured."""
    unit, service = instances.popad_unit()
    line = [
        "ExecStart=/usr/bin/python3 -I -S -c 'print(\"+OK hello\")'",
        "StandardOutput=socket",
        *instances.without(service, ["Type", "NotifyAccess"]),
    ]
    variants = [
        Variant(LINE_OF_PYTHON, line, unit),
        Variant(ACCEPT, ["ExecStart=/usr/sbin/popad", *service], unit, talk=talk),
    ]
    instances.lay_out(running.machine, variants)
    instances.measure(running.machine, variants, size.greetings)
    running.machine.run(["systemctl", "stop", *(f"bench{number}.socket" for number in range(len(variants)))])
    return variants


# -- large mailboxes --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def delivered(running: Running, name: str, count: int, octets: int, *, sized: bool = False) -> Iterator[None]:
    """Mail for a user who has had none, taken away afterwards: it lies in memory."""
    server = running.server
    if server.name == FLOOR:
        answer_with(running.machine, count, octets)
        yield
        answer_with(running.machine, SMALL, mail.SMALL_OCTETS)
        return
    mail.deliver(running.machine, server.store, name, mail.messages(count, octets), sized=sized)
    try:
        yield
    finally:
        mail.remove(running.machine, server.store, name)


def open_session(name: str) -> Script:
    return Script().login(name).add("STAT", "STAT").add("QUIT", "QUIT")


def opened(running: Running, name: str, sessions: int = 1) -> list[float]:
    """Seconds from connect to the reply to STAT: some servers open the mailbox with PASS, some later."""
    running.make_room(sessions)
    done = generator.run(running.machine, open_session(name), sessions=sessions)
    return [session.until("STAT") for session in done.sessions]


def big(running: Running, size: Size, figures: Figures, round_: int) -> None:
    """20,000 messages, 170 MB: opened, listed, fetched one after the other, deleted."""
    server, machine, user = running.server.name, running.machine, BIG_USERS[round_]
    if server != FLOOR:
        with delivered(running, LOOK_USERS[round_], BIG, BIG_OCTETS):
            running.make_room(1)
            look = Script().login(LOOK_USERS[round_]).add("UIDL", "UIDL", many=True).add("QUIT", "QUIT")
            figures.add(server, "big_look_s", generator.run(machine, look).sessions[0].until("UIDL"))
    with delivered(running, user, BIG, BIG_OCTETS):
        if server != FLOOR:
            figures.add(server, "big_first_s", *opened(running, user))
            figures.add(server, "big_later_s", *opened(running, user, size.later))
            for metric in ("big_uidl_first_s", "big_uidl_later_s"):
                running.make_room(1)
                script = Script().login(user).add("UIDL", "UIDL", many=True).add("QUIT", "QUIT")
                figures.add(server, metric, generator.run(machine, script).sessions[0].steps["UIDL"].seconds)
        running.make_room(1)
        retr = Script().login(user).add("RETR", *(f"RETR {number}" for number in range(1, BIG + 1)), many=True)
        done = generator.run(machine, retr.add("QUIT", "QUIT"), limit=size.stalled_seconds * 2)
        check_octets(done, "RETR", BIG * BIG_OCTETS if server != FLOOR else 0)
        add_whole(figures, server, "big_retr_s", done, "RETR")
        if server == FLOOR:
            return
        for metric, last in (("big_dele_first_s", 1), ("big_dele_all_s", BIG - 1)):
            running.make_room(1)
            dele = Script().login(user).add("DELE", *(f"DELE {number}" for number in range(1, last + 1)))
            session = generator.run(machine, dele.add("QUIT", "QUIT"), limit=size.stalled_seconds * 3).sessions[0]
            if session.cut:
                raise ServerFailed(f"DELE: {session.steps['DELE'].commands} in {size.stalled_seconds * 3:.0f} s")
            figures.add(server, metric, session.steps["DELE"].seconds + session.steps["QUIT"].seconds)


def add_whole(figures: Figures, server: str, metric: str, run: Run, label: str) -> None:
    """The seconds of BIG commands; where the session was cut, from those that it had time for."""
    step = run.sessions[0].steps[label]
    note = f"extrapolated from {step.commands} of {BIG} messages" if step.commands < BIG else ""
    figures.add(server, metric, step.seconds * BIG / step.commands, note=note)


def one(running: Running, _size: Size, figures: Figures, _round: int) -> None:
    """One message of 100 MB, fetched three times."""
    with delivered(running, "one", 1, ONE_OCTETS):
        if running.server.name != FLOOR:
            opened(running, "one")
        running.make_room(3)
        script = Script().login("one").add("RETR", "RETR 1", many=True).add("QUIT", "QUIT")
        done = generator.run(running.machine, script, sessions=3)
        check_octets(done, "RETR", ONE_OCTETS)
        steps = [session.steps["RETR"] for session in done.sessions]
        figures.add(running.server.name, "one_mb_s", *(step.octets / 1e6 / step.seconds for step in steps))


def growth(running: Running, size: Size, figures: Figures, _round: int) -> None:
    """Mailboxes from 10 to 200,000 messages of 1 kB: the first login and later ones."""
    for count in size.growth:
        user = f"grow{count}"
        with delivered(running, user, count, GROWTH_OCTETS):
            figures.add(running.server.name, f"growth_first_s/{count}", *opened(running, user))
            figures.add(running.server.name, f"growth_later_s/{count}", *opened(running, user, size.later))


# -- Maildirs ---------------------------------------------------------------------------------------------------------


def maildir(running: Running, size: Size, figures: Figures, _round: int) -> None:
    """20,000 files: opened, listed, fetched one after the other, deleted; without sizes in their names, and with S= and
    W=. For popad a Maildir of 200,000, too.
    """
    for kind, sized in (("maildir", False), ("maildir_sized", True)):
        with delivered(running, "maildir", BIG, BIG_OCTETS, sized=sized):
            maildir_of(kind, running, size, figures)
    server = running.server.name
    if server == MAILDIR:
        with delivered(running, "maildir", 10 * BIG, GROWTH_OCTETS):
            polled(running, "maildir")
            figures.add(server, "maildir_growth_s", *polled(running, "maildir", size.later))
            before = steady_pss(running.machine)
            with Pop3(running.machine.connect("127.0.0.1", 110)).logged_in("maildir", PASSWORD):
                figures.add(server, "maildir_growth_mb", (steady_pss(running.machine) - before) / 1e6)


def polled(running: Running, name: str, sessions: int = 1) -> list[float]:
    """Seconds until the reply to STAT, with time before each session."""
    taken = []
    for _ in range(sessions):
        time.sleep(BETWEEN_POLLS)
        taken += opened(running, name)
    return taken


def maildir_of(kind: str, running: Running, size: Size, figures: Figures) -> None:
    """One kind of names."""
    server, machine, user = running.server.name, running.machine, "maildir"
    figures.add(server, f"{kind}_first_s", *polled(running, user))
    figures.add(server, f"{kind}_later_s", *polled(running, user, size.later))
    script = Script().login(user).add("UIDL", "UIDL", many=True).add("QUIT", "QUIT")
    figures.add(server, f"{kind}_uidl_s", generator.run(machine, script).sessions[0].steps["UIDL"].seconds)
    retr = Script().login(user).add("RETR", *(f"RETR {number}" for number in range(1, BIG + 1)), many=True)
    done = generator.run(machine, retr.add("QUIT", "QUIT"), limit=size.stalled_seconds * 2)
    check_octets(done, "RETR", BIG * BIG_OCTETS)
    add_whole(figures, server, f"{kind}_retr_s", done, "RETR")
    dele = Script().login(user).add("DELE", *(f"DELE {number}" for number in range(1, BIG + 1))).add("QUIT", "QUIT")
    session = generator.run(machine, dele, limit=size.stalled_seconds * 3).sessions[0]
    if session.cut:
        raise ServerFailed(f"DELE: {session.steps['DELE'].commands} in {size.stalled_seconds * 3:.0f} s")
    figures.add(server, f"{kind}_dele_all_s", session.steps["DELE"].seconds + session.steps["QUIT"].seconds)


# -- TLS --------------------------------------------------------------------------------------------------------------


def with_tls(running: Running, size: Size, figures: Figures, _round: int) -> None:
    """Handshakes, logins, 100 MB."""
    with delivered(running, "one", 1, ONE_OCTETS):
        tls.measure(running, figures, USERS[0], "one", ONE_OCTETS, size.small_seconds, size.login // 2)


# -- memory -----------------------------------------------------------------------------------------------------------


def idle(running: Running, _size: Size, figures: Figures, _round: int) -> None:
    """What each of 20 sessions that are logged in and wait adds to the memory of all processes."""
    running.make_room(IDLE)
    before = steady_pss(running.machine)
    with contextlib.ExitStack() as sessions:
        for number, name in enumerate(USERS[:IDLE]):
            client = Pop3(running.machine.connect("127.0.0.1", 110, source=f"127.9.9.{number + 1}"))
            sessions.enter_context(client.logged_in(name, PASSWORD))
        figures.add(running.server.name, "idle_mb", (steady_pss(running.machine) - before) / IDLE / 1e6)


def steady_pss(machine: Machine) -> int:
    """Octets of memory (PSS) of all processes, once they have stopped coming and going."""
    last, found = 0, pss(machine)
    deadline = time.monotonic() + STEADY_SECONDS
    while abs(found - last) > STEADY_OCTETS and time.monotonic() < deadline:
        time.sleep(0.2)  # between two looks
        last, found = found, pss(machine)
    return found


def pss(machine: Machine) -> int:
    """Octets of all processes but the journal: what that maps of its files grows as it writes."""
    total = 0
    for process in (machine.root / "proc").iterdir():
        # It may end while it is looked at.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if process.name.isdigit() and (process / "comm").read_text() != "systemd-journal\n":
                lines = (process / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


WITHOUT_THE_SLOWEST = (ACCEPT, DAEMON, "popa3d", "dovecot", "dovecot-tuned")
WORKS = {
    work.name: work
    for work in (
        Work("login", "Login: USER, PASS, STAT, QUIT", login, MOST_ROUNDS, 2, floor=True),
        Work("small", "Small: ten messages of 4 kB", small, MOST_ROUNDS, 2, floor=True),
        Work("greeting", "Greeting: from connect to the first line", greeting, 2, only=[ACCEPT]),
        Work("session", "A session that systemd starts: login, STAT, QUIT", session, 2, only=[ACCEPT]),
        Work("idle", "Memory of an idle session", idle, 3),
        Work("one", "One message of 100 MB, an attachment", one, 3, floor=True, quick_only=WITHOUT_THE_SLOWEST),
        Work(
            "big",
            "Big: 20,000 messages, 170 MB",
            big,
            2,
            floor=True,
            quick_only=WITHOUT_THE_SLOWEST,
        ),
        Work("maildir", "Maildir: 20,000 files", maildir, 3, only=[MAILDIR, "dovecot-tuned", "courier"]),
        Work("tls", "TLS", with_tls, 3, only=[TLS_DAEMON, TLS_ACCEPT, TLS_ONE, TLS_SHARED]),
        Work("growth", "Growth: 10 to 200,000 messages", growth, 1, quick_only=[DAEMON, "popa3d"]),
    )
}
