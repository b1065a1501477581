"""`popad inspect [MAILDROP]`: what popad would serve of one maildrop, and why it would refuse it. Nothing is changed.

Root finds out whose it is, and prints; the maildrop is read in a child that is that user.
"""

import argparse
import os
import pwd
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from popad.privsep.channel import Channel
    from popad.privsep.spawn import Child
    from popad.settings import Settings

from popad.auth import identity, nss
from popad.auth.identity import Owner
from popad.commands import as_user, units
from popad.commands.accounts import Accounts
from popad.commands.effective import Effective
from popad.commands.inspection.look import Places, look
from popad.commands.inspection.said import LISTS, NUMBERS, SHAPES, Hearing, Telling
from popad.commands.inspection.shown import AsJson, AsText
from popad.commands.report.shown import plain
from popad.commands.sandbox import Sandbox
from popad.errors import ContractBroken
from popad.values import maildrop, maildrop_of_user

FORMATS = ("mbox", "maildir")
PATIENCE = 2.0  # seconds without a word about how far it is, and between two
INTERRUPTED = 130  # the shells' exit status for SIGINT
FIRST = {False: 10, True: 1000}  # rows of a list that are shown without --all: to people; with --json


class NotFound(Exception):
    """Whose maildrop it is cannot be told, or nobody is served it. The text is for an administrator."""


def wrong(given: argparse.Namespace) -> str:
    """What is wrong with how it is called; "" for nothing."""
    if given.format is not None and given.format not in FORMATS:
        return f"--format: {given.format!a} is not {' or '.join(FORMATS)}"
    if given.maildrop is None:
        if given.format is not None:
            return "--format goes with MAILDROP"
        if given.user is None and os.geteuid() == 0:
            return "root has to say what is meant: MAILDROP, or --user NAME"
        return ""
    scheme = given.maildrop.partition(":")[0]
    if scheme in FORMATS and given.format not in (None, scheme):
        return f"--format: {given.maildrop!a} says {scheme}"
    try:
        if scheme not in FORMATS:
            maildrop_of_user(f"mbox:{os.path.abspath(given.maildrop)}")
        elif given.user is not None:
            maildrop(given.maildrop)  # {user} and {home} are known
        else:
            maildrop_of_user(given.maildrop)
    except ValueError as reason:
        return f"MAILDROP: {given.maildrop!a} {reason}"
    return ""


def inspect(environ: "Mapping[str, str]", given: argparse.Namespace) -> int:
    """Print what is found. Returns the exit status: 0 where it would be served and nothing is wrong, else 1."""
    effective = Effective(environ)
    settings = effective.settings
    if effective.unusable:
        return complain(f"{effective.unusable[0]}: nobody is served (popad check)")
    show: AsText | AsJson = AsJson() if given.json else AsText()
    try:
        owner, what = meant(given, settings)
        show.begin(what, owner.name)
        sandboxed(what, show, is_served_there=given.maildrop is None)
        most = None if given.all else FIRST[given.json]
        child = as_user.begin(owner, work(what, settings, most))
        try:
            hear(child, show, Hearing(most))
        finally:
            child.end()
    except (NotFound, identity.LoginFailed, identity.Unavailable, OSError) as reason:
        return complain(str(reason))
    except ContractBroken as broken:
        return complain(f"the process that looks at it has failed: {broken}")
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    return show.end()


def work(what: str, settings: "Settings", most: int | None) -> "Callable[[Channel], None]":
    """What is done as the user, with what only root can open."""
    places = Places(settings)
    return lambda channel: look(what, settings, places, Telling(channel, most))


# -- who and where


def meant(given: argparse.Namespace, settings: "Settings") -> tuple[Owner, str]:
    """Who to become, and the maildrop (SCHEME:PATH). Raises NotFound, LoginFailed, Unavailable, OSError."""
    name = given.user
    if name is None and given.maildrop is None:
        name = pwd.getpwuid(os.geteuid()).pw_name
    if given.maildrop is None:
        _, owner, what = Accounts(settings).find(name)
    else:
        what = with_scheme(given, settings)
        if name is not None:
            owner = identity.owner(name, settings)
            what = identity.place(what, owner.name, owner.home)
        else:
            owner = owner_of(what.partition(":")[2], settings)
    if not as_user.is_possible(owner):
        raise NotFound(f"{what}: only root can become {owner.name}")
    return owner, what


def with_scheme(given: argparse.Namespace, settings: "Settings") -> str:
    """The maildrop as POPAD_MAILDROP has it; a path alone has the format that is given, or that of the settings."""
    if given.maildrop.partition(":")[0] in FORMATS:
        return str(given.maildrop)
    scheme = given.format or settings.maildrop.partition(":")[0]
    return f"{scheme}:{os.path.abspath(given.maildrop)}"


def owner_of(path: str, settings: "Settings") -> Owner:
    """Whose it is: the owner of what is there. Not root's, whom popad serves no mail. Raises NotFound, OSError."""
    if os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
    else:
        uid = os.lstat(path.rstrip("/")).st_uid
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            raise NotFound(f"{path}: NSS knows no user with uid {uid}: whose it is, --user says") from None
        if reason := identity.why_refused(entry, settings):
            raise NotFound(f"{path}: it is {entry.pw_name}'s, who is not served: {reason}; whose it is, --user says")
    return Owner(entry.pw_name, entry.pw_dir, entry, nss.groups(entry))


def sandboxed(what: str, show: "AsText | AsJson", *, is_served_there: bool) -> None:
    """What the unit in use lets a session have of it. Of a maildrop that is only looked at nothing is wrong then."""
    place = os.path.dirname(what.partition(":")[2].rstrip("/"))
    for shape in units.in_use() if units.are_there() else ():
        unit = units.SHAPES[shape][1][0]
        box = Sandbox(unit, units.show(unit))
        missing = mend = ""
        if directive := box.hides(place):
            missing, mend = f"{unit} does not see {place} ({directive})", ": popad check has the line to write"
        elif not box.writes(place):
            missing, mend = f"{unit} may not write to {place}", f": [Service] ReadWritePaths=-{place}"
        show.fact("sandbox", missing or f"{unit} may write to {place}")
        if missing and is_served_there:
            show.wrong(missing + mend)


# -- what the child says


def hear(child: "Child", show: "AsText | AsJson", hearing: Hearing) -> None:
    """All of it, shown. Raises ContractBroken."""
    progress = Progress()
    while True:
        kind, *fields = as_user.receive(child.channel, SHAPES, PATIENCE, progress.say)
        name = kind.decode()
        if name in LISTS:
            hearing.row(name)
            show.row(name, dict(columns(name, fields)))
        elif kind == b"step":
            progress.say(as_user.number(fields[0]), as_user.number(fields[1]))
        elif kind == b"listed":
            name = as_user.readable(fields[0])
            hearing.listed(name)
            show.listed(name, as_user.number(fields[1]))
        elif kind == b"count":
            hearing.word()
            show.count(as_user.readable(fields[0]), as_user.number(fields[1]))
        elif kind == b"served":
            hearing.end()
            show.verdict("", "")
            return
        else:
            words = list(map(as_user.readable, fields))
            hearing.word()
            if kind == b"fact":
                show.fact(*words)
            elif kind == b"wrong":
                show.wrong(*words)
            elif kind == b"note":
                show.note(*words)
            else:
                hearing.end()
                show.verdict(*words)
                return


def columns(name: str, fields: "list[bytearray]") -> "Iterator[tuple[str, int | str]]":
    """The cells of a row. Raises ContractBroken."""
    for column, field in zip(LISTS[name], fields, strict=True):
        yield column, as_user.number(field) if column in NUMBERS else as_user.readable(field)


class Progress:
    """A word on standard error about how far it is, where it takes long."""

    def __init__(self) -> None:
        self.said = time.monotonic()

    def say(self, done: int = 0, of: int = 0) -> None:
        if time.monotonic() - self.said < PATIENCE:
            return
        self.said = time.monotonic()
        where = f"{done:,} of {of:,}" if of else "still looking, or waiting for a lock"
        sys.stderr.write(f"popad inspect: {where}\n")


def complain(text: str) -> int:
    """Say what is wrong, which may name a user's file. Returns the exit status."""
    sys.stderr.write(f"popad inspect: {plain(text)}\n")
    return 1
