"""`popad convert [FROM] TO`: maildrops from mbox to Maildir and back, each in a process of its user."""

import argparse
import json
import os
import pwd
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

import signal

from popad.auth import identity
from popad.auth.identity import Owner
from popad.commands import as_user
from popad.commands.accounts import Accounts
from popad.commands.effective import Effective
from popad.errors import ContractBroken, MaildropUnavailable
from popad.maildrop.conversion.building import NotConverted, NothingThere
from popad.maildrop.conversion.conversion import FORMATS, convert
from popad.maildrop.conversion.report import ENDING, Report
from popad.maildrop.private import KEY_OCTETS, SharedDirectory, of_updates
from popad.privsep.channel import Channel
from popad.settings import Settings
from popad.values import maildrop

INTERRUPTED = 130  # the shells' exit status for SIGINT
QUIET = 2.0  # seconds without a word about how far it is, and between two
NUMBER, TEXT = 20, 4000  # octets of what a process of a user may say
COUNTS = ("messages", "octets", "listed", "flags", "changed", "left_out", "arrived")
TEXTS = ("renamed", "trouble")
SHAPES = {
    b"at": (NUMBER, NUMBER),
    b"done": (NUMBER,) * len(COUNTS) + (TEXT,) * len(TEXTS),
    b"failed": (TEXT,),
    b"missing": (TEXT,),
}


def wrong(given: argparse.Namespace) -> str:
    """What is wrong with how it is called; "" for nothing."""
    for name, text in (("TO", given.to), ("FROM", vars(given)["from"])):
        try:
            maildrop(given.to if text is None else text)
        except ValueError as reason:
            return f"{name}: {text!a} {reason}"
    if given.all and given.user:
        return "--all and --user do not go together"
    if not given.all and not given.user and os.geteuid() == 0:
        return "root has to say whose mail it is: --user NAME, or --all"
    if given.all and not any(word in given.to for word in ("{user}", "{home}")):
        return "TO: one place for several users; {user} and {home} stand for what differs"
    return ""


def convert_all(environ: "Mapping[str, str]", given: argparse.Namespace) -> int:
    """Convert what was asked for, and print a line for each maildrop. Returns the exit status: 1 where one was not."""
    effective = Effective(environ)
    settings, status = effective.settings, 0
    if effective.unusable:
        return complain(f"{effective.unusable[0]} (popad check)")
    state = of_updates(settings.state)
    if isinstance(state, MaildropUnavailable):
        return complain(state.reason)
    if os.geteuid() != 0 and state.key == bytes(KEY_OCTETS):
        return complain(f"{settings.state} is for sessions that root begins: run it as root, with --user")
    try:
        accounts = Accounts(settings, vars(given)["from"])
        for name in names(given, accounts):
            status |= one(name, given, accounts, state)
    except (OSError, identity.Unavailable) as error:
        return complain(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return INTERRUPTED
    return status


def names(given: argparse.Namespace, accounts: Accounts) -> "Iterable[str]":
    """Whose maildrops are meant."""
    if given.all:
        return sorted(accounts.all())
    return [given.user or pwd.getpwuid(os.geteuid()).pw_name]


def one(name: str, given: argparse.Namespace, accounts: Accounts, state: SharedDirectory) -> int:
    """Convert one user's, or say why not. Returns 1 where it was not; with --all, users without mail are left out."""
    source = target = ""
    began = time.monotonic()
    try:
        owner, source, target = places(name, given, accounts)
        said = in_a_child(owner, source, target, given, accounts.settings, state)
    except (identity.Refused, NothingThere) as nothing:
        return 0 if given.all else failed(name, source, target, str(nothing), given)
    except (identity.LoginFailed, identity.Unavailable, NotConverted) as failure:
        return failed(name, source, target, str(failure), given)
    except ContractBroken as broken:
        return failed(name, source, target, f"the process that converts it has failed: {broken}", given)
    seconds = round(time.monotonic() - began, 3)
    if given.json:
        print(json.dumps({"user": name, "from": source, "to": target, "converted": True, **said, "seconds": seconds}))
    else:
        print(f"{name}: {source} is {target}: " + ", ".join(sentences(said)))
    return int(bool(said["trouble"] or said["arrived"]))


def places(name: str, given: argparse.Namespace, accounts: Accounts) -> tuple[Owner, str, str]:
    """Who is meant, the source and the target. Raises LoginFailed, Unavailable, NotConverted."""
    _, owner, source = accounts.find(name)
    target = identity.place(given.to, owner.name, owner.home)
    if (source.partition(":")[0], target.partition(":")[0]) not in FORMATS:
        raise NotConverted(f"{source} has the format of {target} already")
    return owner, source, target


def in_a_child(
    owner: Owner,
    source: str,
    target: str,
    given: argparse.Namespace,
    settings: Settings,
    state: SharedDirectory,
) -> "dict[str, int | str]":
    """Convert as the user. Returns what was done. Raises NotConverted, ContractBroken."""
    if not as_user.is_possible(owner):
        raise NotConverted("only root can become another user")
    if given.group:
        owner.groups = [*owner.groups, group_id(given.group)]

    def work(channel: Channel) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # looked at between messages: nothing is to be left behind
        try:
            channel.send(outcome(Telling(channel)))
        except OSError:
            pass  # who has asked for it is gone

    def outcome(tell: Telling) -> "Sequence[bytes]":
        try:
            report = convert(source, target, settings, state, tell, renames=given.rename, writes_flags=given.flags)
        except NothingThere as missing:
            return b"missing", encoded(str(missing))
        except NotConverted as failure:
            return b"failed", encoded(str(failure))
        return b"done", *said_by(report)

    child = as_user.begin(owner, work, outlives=True)
    try:
        return heard(child.channel, owner.name)
    except KeyboardInterrupt:
        if child.pid:
            os.kill(child.pid, signal.SIGTERM)
        try:
            heard(child.channel, owner.name)  # that it has cleaned up
        except NotConverted:
            pass
        raise
    finally:
        child.end()


class Telling:
    """How far it is, for the process that has asked."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def __call__(self, done: int, count: int) -> None:
        try:
            self.channel.send((b"at", b"%d" % done, b"%d" % count))
        except OSError:
            raise NotConverted("who has asked for it is gone") from None


def said_by(report: Report) -> "Iterator[bytes]":
    """The fields of a report."""
    for name in COUNTS:
        yield b"%d" % getattr(report, name)
    for name in TEXTS:
        yield encoded(getattr(report, name))


def heard(channel: Channel, name: str) -> "dict[str, int | str]":
    """What the child says in the end; what it says before is shown. Raises NotConverted, ContractBroken."""
    began = shown = time.monotonic()
    line = "\r{}" if sys.stderr.isatty() else "{}\n"
    while True:
        kind, *fields = as_user.receive(channel, SHAPES, QUIET)
        if kind == b"failed":
            raise NotConverted(as_user.readable(fields[0]))
        if kind == b"missing":
            raise NothingThere(as_user.readable(fields[0]))
        if kind == b"done":
            if shown > began and sys.stderr.isatty():
                sys.stderr.write("\n")
            counts = {each: as_user.number(field) for each, field in zip(COUNTS, fields[: len(COUNTS)], strict=True)}
            return counts | {
                each: as_user.readable(field) for each, field in zip(TEXTS, fields[len(COUNTS) :], strict=True)
            }
        if time.monotonic() - shown > QUIET:
            shown = time.monotonic()
            sys.stderr.write(
                line.format(f"{name}: {as_user.number(fields[0])} of {as_user.number(fields[1])} messages")
            )
            sys.stderr.flush()


def encoded(text: str) -> bytes:
    """Text for the channel."""
    return text.encode("utf-8", "backslashreplace")[:TEXT]


def group_id(name: str) -> int:
    """Raises NotConverted."""
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise NotConverted(f"there is no group {name!a}") from None


def sentences(said: "dict[str, int | str]") -> "Iterator[str]":
    """A report as text."""
    yield f"{said['messages']} messages, {said['octets']} octets, all unique-ids kept ({said['listed']} by a list)"
    if said["flags"]:
        yield f"flags of {said['flags']}"
    if said["changed"]:
        yield f"{said['changed']} are longer, as an mbox needs them to be"
    if said["left_out"]:
        yield f"{said['left_out']} marked as deleted are left out"
    if said["arrived"]:
        yield f"{said['arrived']} HAVE COME SINCE, and are where they were"
    if said["renamed"]:
        yield f"what was converted is now {said['renamed']}"
    if said["trouble"]:
        yield str(said["trouble"])


def failed(name: str, source: str, target: str, reason: str, given: argparse.Namespace) -> int:
    """Say that one was not converted. Returns the exit status."""
    if given.json:
        print(json.dumps({"user": name, "from": source, "to": target, "converted": False, "reason": reason}))
    return complain(f"{name}: not converted: {reason}")


def complain(text: str) -> int:
    """Say what is wrong. Returns the exit status."""
    sys.stderr.write(f"popad convert: {text}\n")
    return 1
