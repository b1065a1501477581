"""The sessions that there are: those of popad@.service, as systemd has them, and those of the standalone daemon, which
are processes of its control group, or such that have its command line.

Who a session is, and since when, is the kernel's, systemd's and root's word. What is the session's own (standing.py) is
its mail and the name of a virtual user.
"""

import pwd
import re
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from popad.commands import processes, units
from popad.commands.processes import Process
from popad.commands.standing import AUTHORIZATION, TRANSACTION, Standing
from popad.configuration import CONFIGURATION, configuration
from popad.errors import SettingWrong
from popad.settings import PREAUTH_UIDS, Settings
from popad.sources import packed

STARTING, ENDING = "starting", "ending"
PROPERTIES = ("Id", "ActiveState", "Job", "MainPID", "ExecMainStartTimestamp", "StatusText", "ControlGroup")
# What systemd calls an instance: a number, our address and port, and the client's (an IPv6 address has no brackets).
INSTANCE = re.compile(r"popad@[0-9]+-.+:[0-9]+-(?P<address>.+):(?P<port>[0-9]+)\.service")
CLIENT = re.compile(r"(?P<address>\S+) (?P<port>[0-9]+) (?P<since>[0-9]+)(?: (?P<proxy>\S+))?")  # session/shown.py
PEER = re.compile(r"\S+ +\S+ +\S+ +(?P<address>\S+):(?P<port>[0-9]+) ")
HEARD = re.compile(r" lastrcv:(?P<milliseconds>[0-9]+)")


class Session:
    """A live session. What is not known is "" or None."""

    def __init__(self, process: Process | None, address: str = "", port: int | None = None) -> None:
        """`process` is None where systemd has not started one yet; address and port are of the other end of its TCP
        connection.
        """
        self.process = process
        self.peer = octets(address), port
        self.address = address
        self.port = port
        self.proxy = ""  # the address of the one that the client has come by
        self.unit = ""
        self.user = ""  # by the session's own word, where that is another name than the account's
        self.account = ""  # who its process is
        self.state = AUTHORIZATION
        self.tls = ""  # the version
        self.messages: int | None = None
        self.deleted: int | None = None
        self.since: int | None = None  # seconds of the epoch
        self.idle: int | None = None  # seconds since the client has sent something

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    @property
    def who(self) -> str:
        """For people: the user, and whose process it is where that is not the same."""
        return f"{self.user} ({self.account})" if self.user else self.account

    def stands(self, standing: Standing, *, logged_in: bool) -> None:
        """Take what the session says of itself. What it says of a login counts where there has been one."""
        self.tls = standing.tls
        if standing.rhost and octets(standing.rhost) != octets(self.address):
            self.address, self.port, self.proxy = standing.rhost, None, self.address
        if logged_in and self.process:
            self.state = TRANSACTION
            self.account = account_of(self.process.uid)
            self.user = standing.user if standing.user != self.account else ""
            self.messages, self.deleted = standing.messages, standing.deleted


def sessions() -> tuple[list[Session], bool]:
    """All, the oldest first; and whether there are some of which this user may not see more than whose they are.

    Raises OSError where systemd does not answer.
    """
    shown = units.show_all([units.SESSION.replace("@", "@*"), units.DAEMON], PROPERTIES) if units.are_there() else []
    found = [session for unit in shown if unit.get("Id") != units.DAEMON and (session := of_unit(unit))]
    groups = [unit.get("ControlGroup", "") for unit in shown if unit.get("Id") == units.DAEMON]
    of_daemon, is_all = of_processes(daemons(groups), helpers(), groups)
    found += of_daemon
    add_idle(found)
    return sorted(found, key=lambda each: (each.since or 0, each.pid or 0)), is_all


def of_unit(shown: "Mapping[str, str]") -> Session | None:
    """The session of an instance of popad@.service; None where it has none any more."""
    active, pid = shown.get("ActiveState"), int(shown.get("MainPID") or 0)
    waits = active in ("inactive", "failed") and (shown.get("Job") or "0") != "0"
    process = processes.look(pid) if pid else None
    # A kernel that keeps no groups says "/" of all.
    if process and process.group not in ("", "/", shown.get("ControlGroup")):
        process = None  # the session has ended since, and another has its number
    if not process and active != "activating" and not waits:
        return None
    named = INSTANCE.fullmatch(shown["Id"])
    session = Session(process, named["address"] if named else "", int(named["port"]) if named else None)
    session.unit = shown["Id"]
    if since := re.fullmatch(r"@([0-9]+)", shown.get("ExecMainStartTimestamp", "")):
        session.since = int(since[1])
    standing = Standing(shown.get("StatusText", ""))
    session.stands(standing, logged_in=process is not None and is_user(process, ()))
    if active == "deactivating":
        session.state = ENDING
    elif not standing.state and session.state == AUTHORIZATION:
        session.state = STARTING
    return session


def daemons(groups: "Container[str]") -> list[Process]:
    """The processes of standalone daemons: in these control groups, or with such a command line. (A session that was
    taken over may change its command line, and not its group.)
    """
    return [
        each
        for each in processes.everybody()
        if (each.group and each.group in groups) or is_daemon(processes.arguments(each.pid))
    ]


def is_daemon(arguments: "Sequence[str]") -> bool:
    """Whether this is the command line of `popad -D`."""
    for place, argument in enumerate(arguments):
        if argument.rpartition("/")[2] == "popad":
            return any(re.fullmatch(r"-[46]*D[46D]*", each) for each in arguments[place + 1 :])
    return False


def of_processes(
    found: "Sequence[Process]", helpers: "Container[int]", groups: "Container[str]" = ()
) -> tuple[list[Session], bool]:
    """Which of them are sessions; and whether all of those could be looked into.

    Only root can. Whoever has logged in is known by the uid alone, so no session can hide; that of any user's program
    with such a command line does not count. Where all processes have one uid, as nobody was root, what a session says
    is all that there is.
    """
    owner = 0 if any(each.uid == 0 for each in found) else min((each.uid for each in found), default=0)
    pids = {each.pid for each in found if each.uid == owner}  # a user's program may have begun others
    sessions: dict[int, Session] = {}
    is_all = True
    for each in found:
        try:
            shown = processes.shown(each.pid, owner)
        except PermissionError:
            shown, is_all = None, False
        is_ours = each.parent in pids or (each.group != "" and each.group in groups)
        has_user = owner == 0 and is_ours and is_user(each, helpers)
        if shown or has_user:
            name, line = shown or ("", "")
            standing = Standing(line)
            sessions[each.pid] = of_memory_file(each, name)
            sessions[each.pid].stands(standing, logged_in=has_user or (owner != 0 and standing.state == TRANSACTION))
    # What a session has forked is none (the second process of a scan).
    return [each for each in sessions.values() if each.process and each.process.parent not in sessions], is_all


def of_memory_file(process: Process, name: str) -> Session:
    """A session whose client is in the name of its memory file; "" where that is not to be seen."""
    if not (client := CLIENT.fullmatch(name)):
        return Session(process)
    session = Session(process, client["address"], int(client["port"]) or None)
    session.since = int(client["since"])
    session.proxy = client["proxy"] or ""
    return session


def is_user(process: Process, helpers: "Container[int]") -> bool:
    """Whether it is the process of a user who has logged in."""
    return process.uid != 0 and process.uid not in PREAUTH_UIDS and process.uid not in helpers


def helpers() -> set[int]:
    """The uids of popad's own users."""
    try:
        settings = Settings(configuration(CONFIGURATION))
    except (SettingWrong, OSError, UnicodeDecodeError):
        settings = Settings({})  # `popad check` tells of that
    found = set()
    for name in (settings.user, settings.tls_user):
        try:
            found.add(pwd.getpwnam(name).pw_uid)
        except KeyError:
            pass
    return found


def account_of(uid: int) -> str:
    """The name of a user, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def add_idle(sessions: "Iterable[Session]") -> None:
    """What the kernel says of their connections, where ss(8) is there to ask it. Not where only the proxy's end of the
    client's connection is known.
    """
    heard = dict(silences(established()))
    for each in sessions:
        each.idle = heard.get(each.peer)


def established() -> str:
    """What ss says of TCP connections; nothing where there is none."""
    command = ["ss", "--no-header", "--tcp", "--numeric", "--info", "--oneline", "state", "established"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def silences(listed: str) -> "Iterator[tuple[tuple[bytes, int | None], int]]":
    """Of each connection the client (address, port), and for how many seconds it has sent nothing."""
    for line in listed.splitlines():
        if peer := PEER.match(line):
            heard = HEARD.search(line)  # not there where it is now
            silent = int(heard["milliseconds"]) // 1000 if heard else 0
            yield (octets(peer["address"].strip("[]")), int(peer["port"])), silent


def octets(address: str) -> bytes:
    """An address, however it is written."""
    try:
        return packed(address)
    except (OSError, ValueError):
        return address.encode("utf-8", "replace")
