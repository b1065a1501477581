"""`popad test-login NAME`: what becomes of a login, step by step: the name, the account, the mailbox, its locks and the
sandbox; then a real one, over the port that is served, with what the journal has of it.
"""

import argparse
import os
import socket
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from popad.privsep.channel import Channel

from popad.auth import credentials, identity
from popad.auth.identity import Owner
from popad.auth.verdict import MAX_PASSWORD
from popad.commands import as_user, units
from popad.commands.effective import Effective
from popad.commands.listening import address_of, configured
from popad.commands.sandbox import Sandbox
from popad.errors import MaildropUnavailable
from popad.maildrop.maildir.directories import Directories
from popad.maildrop.mbox.file import open_mailbox
from popad.settings import Settings

POP3_PORT = 110
ANSWER = 90.0  # seconds for one answer: more than POPAD_AUTH_TIMEOUT has as it comes
ENTRIES = 2.0  # seconds until the journal has what the session has written
REPORT_OCTETS = 1000
# Events after which the journal has all of a session.
ENDS = {"session-closed", "login-failed", "login-refused", "login-unavailable", "maildrop-refused", "contract-broken"}
INTERRUPTED = 130  # the shells' exit status for SIGINT


class Stopped(Exception):
    """A step that a login does not get beyond; the text is said."""


def wrong(given: argparse.Namespace) -> str:
    """What is wrong with how it is called; "" for nothing."""
    try:
        if given.address is not None:
            address_of(given.address)
    except ValueError as reason:
        return f"--address: {reason}"
    return ""


def try_login(environ: "Mapping[str, str]", name: str, address: str | None) -> int:
    """Print a line a step. Returns the exit status: 1 where a login does not succeed."""
    effective = Effective(environ)
    for wrong in effective.unusable:
        say("settings", f"{wrong}: nobody is served (popad check)")
    try:
        if effective.unusable:
            return 1
        owner, maildrop = account(name, effective.settings)
        for line in mailbox(owner, maildrop, effective.settings):
            say("mailbox", line)
        served = sandbox(effective.unit, maildrop)
        if served:
            say("sandbox", served)
        return log_in(name, *reached(address))
    except (Stopped, identity.LoginFailed, identity.Unavailable) as stopped:
        say("refused", str(stopped))
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED


def say(step: str, text: str) -> None:
    """One line of the report."""
    print(f"{step + ':':10} {text}")


def account(name: str, settings: Settings) -> tuple[Owner, str]:
    """Who is meant, and the maildrop. Raises LoginFailed, Unavailable and Stopped."""
    user = identity.user_of(os.fsencode(name), settings)
    say("name", f"{name!a} is {user!a}" if user != name else f"{name!a}")
    own = ""
    if settings.auth == "file":
        own = maildrop_in_file(user, settings.credentials)
        say("password", f"a line of {settings.credentials}" + (f", with {own}" if own else ""))
    else:
        say("password", f"PAM, service {settings.pam_service}")
    owner = identity.owner(user, settings)
    groups = f", groups {' '.join(map(str, owner.groups))}" if owner.groups else ""
    say("account", f"uid {owner.uid}, gid {owner.gid}{groups}, home {owner.home or 'none'}")
    return owner, identity.place(own or settings.maildrop, owner.name, owner.home)


def maildrop_in_file(user: str, path: str) -> str:
    """The maildrop in the user's line of the credentials file, if it has one. Raises Stopped where there is no line."""
    try:
        text, _ = credentials.read(path)
        for number, line in enumerate(text.split("\n"), 1):
            fields = line.split()
            if fields and fields[0] == user:
                credentials.parse(fields, f"{path}:{number}")
                return fields[2] if len(fields) > 2 else ""
    except (credentials.FileWrong, OSError) as wrong:
        raise Stopped(str(wrong)) from None
    raise Stopped(f"{path} has no line for {user!a}")


def mailbox(owner: Owner, maildrop: str, settings: Settings) -> "Iterator[str]":
    """The mailbox as the user sees it, outside of the unit's sandbox."""
    store, _, path = maildrop.partition(":")
    yield maildrop
    if not as_user.is_possible(owner):
        yield "not looked at: only root can become its user"
        return

    def look(channel: "Channel") -> None:
        channel.send(("\n".join(seen(store, path, settings)).encode("utf-8", "backslashreplace")[:REPORT_OCTETS],))

    child = as_user.begin(owner, look)
    try:
        yield from child.channel.receive([REPORT_OCTETS], ANSWER)[0].decode("utf-8", "replace").splitlines()
    finally:
        child.end()


def seen(store: str, path: str, settings: Settings) -> "Iterator[str]":
    """In a process of the user."""
    if store == "maildir":
        yield from seen_of_maildir(path, settings)
        return
    try:
        fd = open_mailbox(path)
    except MaildropUnavailable as unavailable:
        yield f"cannot be opened: {unavailable}"
        return
    if fd < 0:
        yield "is not there: a maildrop without a message"
        return
    status = os.fstat(fd)
    yield f"can be opened: {status.st_size} octets, mode {stat.S_IMODE(status.st_mode):04o}, uid {status.st_uid}"
    if holder := who_locks(status):
        yield f"is locked (fcntl) by process {holder}: it is waited for, {settings.lock_timeout} s"
    if settings.locks != "fcntl" and os.path.lexists(lock := path + ".lock"):
        yield f"has a lock file, {lock}: it is waited for, {settings.lock_timeout} s"


def seen_of_maildir(path: str, settings: Settings) -> "Iterator[str]":
    """In a process of the user."""
    try:
        directories = Directories(path, missing_is_empty=settings.maildir_missing == "empty")
        names, in_new = directories.listing(settings.max_messages)
    except (MaildropUnavailable, OSError) as error:
        yield f"cannot be opened: {error}"
        return
    if not directories.are_there:
        yield "is not there: a maildrop without a message"
        return
    yield f"can be opened: {len(in_new)} messages in new, {len(names) - len(in_new)} in cur"
    if why := directories.why_read_only():
        yield f"can only be read: {why}"


def who_locks(status: os.stat_result) -> str:
    """The process that has a POSIX lock on a file; "" where none is seen. proc_locks(5)."""
    try:
        with open("/proc/locks", encoding="ascii", errors="replace") as rows:
            for row in map(str.split, rows):
                if row[1] == "POSIX" and row[5].rpartition(":")[2] == str(status.st_ino):
                    return row[4]
    except (OSError, IndexError):
        pass  # nobody tells
    return ""


def sandbox(unit: str, maildrop: str) -> str:
    """What the unit in use has of the directory; "" where no unit serves."""
    if not unit:
        return ""
    place = os.path.dirname(maildrop.partition(":")[2])
    box = Sandbox(unit, units.show(unit))
    if directive := box.hides(place):
        return f"{unit} does not see {place} ({directive})"
    if not box.writes(place):
        return f"{unit} may not write to {place}: [Service] ReadWritePaths=-{place}"
    return f"{unit} may write to {place}"


def reached(given: str | None) -> tuple[str, int]:
    """Where popad listens, as a client on this host reaches it."""
    if given is not None:
        return address_of(given)
    for shape in units.in_use() if units.are_there() else ():
        for host, port in configured(units.show(units.SHAPES[shape][0]).get("Listen", "")):
            return {"::": "127.0.0.1", "0.0.0.0": "127.0.0.1"}.get(host, host), port
    return "127.0.0.1", POP3_PORT


def log_in(name: str, host: str, port: int) -> int:
    """A session from the greeting to QUIT, in which nothing is read or deleted. Returns the exit status."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    password = ask()
    if not password:
        say("login", "not tried: no password was given")
        return 0
    began = time.time()
    try:
        with socket.create_connection((host, port), ANSWER) as client, client.makefile("rwb") as stream:
            own_port = client.getsockname()[1]
            said = stream.readline()
            say("greeting", f"{shown(said) or 'none'} ({where})")
            for command in (b"USER " + os.fsencode(name), b"PASS " + password, b"STAT", b"QUIT"):
                if not said.startswith(b"+OK"):
                    break
                stream.write(command + b"\r\n")
                stream.flush()
                said = stream.readline()
                say("PASS ..." if command.startswith(b"PASS ") else shown(command).partition(" ")[0], shown(said))
    except OSError as error:
        raise Stopped(f"{where}: {error}") from None
    for message in written(own_port, began):
        say("journal", message)
    return 0 if said.startswith(b"+OK") else 1


def ask() -> bytes:
    """The password, from the terminal or the first line of standard input; none where nobody gives one."""
    if sys.stdin.isatty():
        import getpass

        typed = os.fsencode(getpass.getpass("Password (empty: no login is tried): "))
    else:
        typed = sys.stdin.buffer.readline().rstrip(b"\r\n")
    if len(typed) > MAX_PASSWORD or b"\0" in typed:
        raise Stopped(f"a password has at most {MAX_PASSWORD} octets, none of them NUL")
    return typed


def shown(line: bytes) -> str:
    """What was said, as text that prints."""
    return line.rstrip(b"\r\n").decode("ascii", "backslashreplace")


def written(port: int, since: float) -> list[str]:
    """What the journal has of the session of the client with this port."""
    from systemd import journal

    deadline = time.monotonic() + ENTRIES
    while True:
        with journal.Reader() as reader:
            reader.add_match(SYSLOG_IDENTIFIER="popad")
            reader.add_match(POPAD_RPORT=str(port))
            reader.seek_realtime(since - 1)
            entries = [(str(entry.get("POPAD_EVENT", "")), str(entry.get("MESSAGE", ""))) for entry in reader]
        events = {event for event, _ in entries}
        if events & ENDS or time.monotonic() > deadline:
            return [message for _, message in entries] or ["nothing was found (who may read it: journalctl(1))"]
        time.sleep(0.05)
