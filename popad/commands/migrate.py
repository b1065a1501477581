"""`popad migrate`: what clients that leave mail on the server will see after a move from another one, user by user, and
the lists of ids that keep them from fetching it again.

Root finds out who the users are, and prints; a user's mail, and the old server, are read in a child that is the user.
"""

import argparse
import json
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from popad.commands.known_ids import Found, Host, Step
    from popad.privsep.channel import Channel
    from popad.privsep.spawn import Child
    from popad.settings import Settings

    Look = Callable[[str, str, Step], Found]  # of a user with this name and maildrop, in a process of that user

from popad.auth import identity
from popad.commands import as_user
from popad.commands.accounts import Accounts
from popad.commands.effective import Effective
from popad.errors import ContractBroken, MaildropChanged, MaildropUnavailable, MaildropUnreadable, MessageGone
from popad.values import FORMER_SERVERS, former_server

POP3, POPA3D = "pop3", "popa3d"
OF_POP3 = ("server", "tls", "stls", "ca", "login", "passwords")  # options that go with --from pop3 alone
MOST = 1000  # messages of a user that are told one by one
MOST_LINES = 10  # of them, where people read it
NUMBER, ID, REASON = 20, 100, 400  # octets of what a child says
SHAPES = {
    b"step": (NUMBER, NUMBER),
    b"change": (NUMBER, ID, REASON),
    b"missing": (NUMBER, ID),
    b"done": (*[NUMBER] * 5, REASON),
    b"failed": (REASON,),
}
COUNTS = ("messages", "stay", "change", "new", "missing")
PATIENCE = 2.0  # seconds without a word about how far it is
EACH_STEP = 0.5  # seconds between two words of a child
INTERRUPTED = 130  # the shells' exit status for SIGINT


def wrong_options(given: argparse.Namespace) -> str:
    """What is wrong with how `popad migrate` is called; "" for nothing."""
    if bool(given.user) == given.all:
        return "either --user or --all"
    if given.tls and given.stls:
        return "--tls and --stls do not go together"
    if source(given) == POP3:
        if not given.server:
            return f"--from {POP3} needs --server"
        if given.login is not None and "{user}" not in given.login:
            return "--login must have {user} in it"
        from popad.commands.old_server import address_of

        try:
            address_of(given.server, "tls" if given.tls else "")
        except ValueError as wrong:
            return str(wrong)
        return ""
    if options := [option for option in OF_POP3 if getattr(given, option)]:
        return f"--{options[0]} goes with --from {POP3}"
    try:
        if source(given) != POPA3D and not former_server(source(given)):
            raise ValueError
    except ValueError:
        return f"--from must be {', '.join(FORMER_SERVERS)}, dovecot:FORMAT, {POPA3D} or {POP3}"
    return ""


def migrate(environ: "Mapping[str, str]", given: argparse.Namespace) -> int:
    """Do what was asked for. Returns the exit status: 1 where ids change or are not found, or a user has failed."""
    effective = Effective(environ)
    settings = effective.settings
    for wrong in effective.unusable:
        complain(f"{wrong}: nobody is served (popad check)")
    if effective.unusable:
        return 1
    try:
        look = way(given, settings)
        accounts = Accounts(settings)
        names = list(dict.fromkeys(accounts.all() if given.all else given.user))
        rows = []
        progress = Progress(len(names))
        for name in names:
            rows.append(row_of(name, accounts, look, progress))
            if not given.json:
                print(*in_words(rows[-1]), sep="\n", flush=True)
    except (identity.Unavailable, OSError, ValueError) as wrong:
        return complain(str(wrong))
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    whole = sums(given, rows, setting_for(given, settings, rows))
    print(json.dumps(whole, indent=1) if given.json else "\n".join(in_all(whole)))
    return int(any(whole[what] for what in ("change", "missing", "failed")))


def source(given: argparse.Namespace) -> str:
    """What stands behind --from, which is no name in Python."""
    return str(vars(given)["from"])


def way(given: argparse.Namespace, settings: "Settings") -> "Look":
    """How the ids are found. Raises OSError, ValueError for passwords that cannot be read."""
    from popad.commands import known_ids

    server, host = source(given), known_ids.Host(settings)
    if server != POP3:
        former = former_server(server) or (POPA3D, "")
        if server == "dovecot" and settings.uidl and settings.uidl[0] == "dovecot":
            former = settings.uidl  # with its format

        def look(_: str, maildrop: str, step: "Step") -> "Found":
            return known_ids.by_traces(maildrop, host, former, given.dry_run, step)

        return look
    return way_to_server(given, host)


def way_to_server(given: argparse.Namespace, host: "Host") -> "Look":
    """By asking the old server. Raises OSError, ValueError."""
    from popad.auth.credentials import FileWrong
    from popad.commands import asked_ids, passwords
    from popad.commands.old_server import Asked, NotAnswered, Server, address_of

    tls = "tls" if given.tls else "stls" if given.stls else ""
    server = Server(*address_of(given.server, tls), tls, given.ca)
    try:
        known = passwords.read(given.passwords)
    except FileWrong as wrong:
        raise ValueError(str(wrong)) from None
    template = given.login or "{user}"

    def look(name: str, maildrop: str, step: "Step") -> "Found":
        password = known.of(name)
        known.forget()
        if password is None:
            raise NotAnswered(f"no password for {name!a}")

        def ask() -> Asked:
            return Asked(server, template.replace("{user}", name), password)

        return asked_ids.by_asking(maildrop, host, ask, given.dry_run, step)

    return look


def row_of(name: str, accounts: Accounts, look: "Look", progress: "Progress") -> "dict[str, Any]":
    """What was found of one user, as --json shows it."""
    row: dict[str, Any] = {"user": name, "maildrop": None, **dict.fromkeys(COUNTS, 0), "list": None}
    row |= {"changes": [], "not_found": [], "error": None}
    progress.begin(name)
    try:
        user, owner, row["maildrop"] = accounts.find(name)
        if not as_user.is_possible(owner):
            row["error"] = "only root can become its user"
            return row
        child = as_user.begin(owner, lambda channel: tell(channel, lambda step: look(user, row["maildrop"], step)))
        try:
            hear(child, row, progress)
        finally:
            child.end()
    except (identity.LoginFailed, identity.Unavailable, OSError) as failure:
        row["error"] = str(failure)
    except ContractBroken as broken:
        row["error"] = f"the process that looked at it has failed: {broken}"
    return row


def tell(channel: "Channel", look: "Callable[[Step], Found]") -> None:
    """In the child: say how far it is, and what was found."""
    from popad.commands.old_server import NotAnswered

    said = time.monotonic()

    def step(done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said > EACH_STEP:
            said = time.monotonic()
            channel.send((b"step", b"%d" % done, b"%d" % of))

    try:
        found = look(step)
    except (MaildropChanged, MaildropUnavailable, MaildropUnreadable, MessageGone, NotAnswered, OSError) as failure:
        channel.send((b"failed", octets(str(failure) or type(failure).__name__, REASON)))
        return
    for number, known, why in found.change[:MOST]:
        channel.send((b"change", b"%d" % number, octets(known, ID), octets(why, REASON)))
    for number, known in found.missing[:MOST]:
        channel.send((b"missing", b"%d" % number, octets(known, ID)))
    counts = found.messages, found.stay, len(found.change), found.new, len(found.missing)
    channel.send((b"done", *(b"%d" % count for count in counts), found.list.encode()))


def hear(child: "Child", row: "dict[str, Any]", progress: "Progress") -> None:
    """What the child says, put into the row. Raises ContractBroken."""
    while True:
        what, *fields = as_user.receive(child.channel, SHAPES, PATIENCE, progress.say)
        words = [as_user.readable(field) for field in fields]
        if what == b"step":
            progress.say(f"{words[0]} of {words[1]} messages")
        elif what == b"change":
            row["changes"].append({"message": as_user.number(fields[0]), "id": words[1], "why": words[2]})
        elif what == b"missing":
            row["not_found"].append({"message": as_user.number(fields[0]), "id": words[1]})
        elif what == b"failed":
            row["error"] = words[0]
            return
        else:
            row |= dict(zip(COUNTS, map(as_user.number, fields[:-1]), strict=True))
            row["list"] = words[-1]
            return
        if len(row["changes"]) > MOST or len(row["not_found"]) > MOST:
            raise ContractBroken("it says too much")


def octets(text: str, most: int) -> bytes:
    """Text as a child says it."""
    return text.encode("ascii", "backslashreplace")[:most]


class Progress:
    """A word on standard error about how far it is, where it takes long."""

    def __init__(self, users: int) -> None:
        self.users = users
        self.user = 0
        self.name = ""
        self.said = time.monotonic()

    def begin(self, name: str) -> None:
        """The next user."""
        self.user += 1
        self.name = name
        self.say()

    def say(self, what: str = "") -> None:
        """If nothing was said for some time."""
        if time.monotonic() - self.said < PATIENCE:
            return
        self.said = time.monotonic()
        sys.stderr.write(f"popad migrate: {self.name!a}, {self.user} of {self.users}{what and f': {what}'}\n")


def in_words(row: "dict[str, Any]") -> "Iterator[str]":
    """A user's row for people."""
    if row["error"] is not None:
        yield f"{row['user']}: failed: {row['error']}"
        return
    counts = [f"{row['messages']} messages", f"{row['stay']} ids stay", f"{row['change']} change"]
    counts += [f"{row['new']} new"] if row["new"] else []
    counts += [f"{row['missing']} of the server not found"] if row["missing"] else []
    yield f"{row['user']}: {row['maildrop']}: {', '.join(counts)}; list: {row['list']}"
    for each in row["changes"][:MOST_LINES]:
        yield f"  message {each['message']}: {each['why']}"
    if row["change"] > MOST_LINES:
        yield f"  and {row['change'] - MOST_LINES} more"
    for each in row["not_found"][:MOST_LINES]:
        yield f"  message {each['message']} of the server, {each['id']}, was not found here"
    if row["missing"] > MOST_LINES:
        yield f"  and {row['missing'] - MOST_LINES} more of the server"


def sums(given: argparse.Namespace, rows: "Sequence[dict[str, Any]]", setting: str | None) -> "dict[str, Any]":
    """All users together, as --json shows it."""
    return {
        "from": source(given),
        "dry_run": given.dry_run,
        **{what: sum(row[what] for row in rows) for what in COUNTS},
        "failed": sum(row["error"] is not None for row in rows),
        "setting": setting,
        "users": rows,
    }


def in_all(whole: "dict[str, Any]") -> "Iterator[str]":
    """The last lines for people."""
    users = len(whole["users"])
    yield (
        f"{users} user{'' if users == 1 else 's'}: {whole['stay']} ids stay, {whole['change']} change,"
        f" {whole['failed']} failed"
    )
    if whole["setting"]:
        yield f"popad.conf needs {whole['setting']}"


def setting_for(given: argparse.Namespace, settings: "Settings", rows: "Sequence[dict[str, Any]]") -> str | None:
    """What popad.conf needs, so that ids that are in Maildirs count; None for nothing."""
    server = source(given)
    if server in (POP3, POPA3D) or not any(row["stay"] and row["maildrop"].startswith("maildir:") for row in rows):
        return None
    former = former_server(server)
    if settings.uidl == former or (server == "dovecot" and settings.uidl and settings.uidl[0] == server):
        return None
    return f"POPAD_UIDL={server}"


def complain(wrong: str) -> int:
    """Say what is wrong. Returns the exit status."""
    sys.stderr.write(f"popad migrate: {wrong}\n")
    return 1
