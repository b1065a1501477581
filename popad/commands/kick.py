"""`popad kick`: ends sessions as a stop of the machine would. They remove nothing; an update that has begun is
finished.

The kernel decides who may: root, and a user for sessions of the user's own.
"""

import argparse
import json
import os
import pwd
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

from popad import journal
from popad.commands import processes
from popad.commands.sessions import Session, account_of, sessions
from popad.commands.who import NOT_ALL
from popad.sources import is_in, network

PATIENCE = 15.0  # seconds for sessions to end: more than one waits for a lock, see POPAD_LOCK_TIMEOUT
NOBODY = 2**32 - 1  # /proc/self/loginuid of what no login has started
ENDED = "ended"
GONE = "had ended by itself"
NOT_ALLOWED = "only root, or its user, may end it"
NO_PROCESS = "systemd has not started it yet"
AT_WORK = "has been told to end, and finishes its update or waits for a lock"
KINDS = ("user", "address", "session")


def wrong(given: argparse.Namespace) -> str:
    """What is wrong with the arguments; "" for nothing."""
    asked = [kind for kind in KINDS if getattr(given, kind)]
    if len(asked) > 1:
        return f"--{asked[0]} and --{asked[1]} do not go together"
    if asked and not is_possible(asked[0], given.who):
        return f"{given.who} is no {asked[0]}"
    return ""


def is_possible(kind: str, text: str) -> bool:
    """Whether WHO can be one of this kind."""
    if kind == "session":
        return text.isascii() and text.isdigit()
    if kind == "address":
        try:
            network(text)
        except (OSError, ValueError):
            return False
    return True


def kick(environ: "Mapping[str, str]", given: argparse.Namespace) -> int:
    """End them. Returns the exit status: 0 where there was one, and all have ended."""
    kind = next((kind for kind in KINDS if getattr(given, kind)), "") or next(
        kind for kind in ("session", "address", "user") if is_possible(kind, given.who)
    )
    try:
        found, is_all = sessions()
    except OSError as error:
        return complain(str(error))
    chosen = [each for each in found if is_meant(each, kind, given.who)]
    if not chosen:
        return complain(f"there is no session of the {kind} {given.who}" + ("" if is_all else f"; {NOT_ALL}"))
    outcomes = end(chosen, who_asks(environ))
    for each, outcome in zip(chosen, outcomes, strict=True):
        if given.json:
            said = {"session": each.pid, "user": each.user or each.account or None, "address": each.address or None}
            print(json.dumps({**said, "outcome": outcome}))
        else:
            print(f"session {each.pid or '-'} of {each.who or 'nobody yet'} from {each.address or '-'}: {outcome}")
    return 0 if set(outcomes) <= {ENDED, GONE} else 1


def is_meant(session: Session, kind: str, text: str) -> bool:
    """Whether WHO means this session."""
    if kind == "session":
        return session.pid == int(text)
    if kind == "address":
        return is_in(session.address, [network(text)])
    return text in (session.user, session.account)


def end(chosen: "Sequence[Session]", by: str) -> list[str]:
    """Tell all of them, then wait for all; what became of each."""
    told: dict[int, int] = {}  # the pidfd of each
    outcomes = []
    for place, session in enumerate(chosen):
        outcome, told_by = tell(session)
        outcomes.append(outcome)
        if told_by is not None:
            told[place] = told_by
            note(session, by)
    deadline = time.monotonic() + PATIENCE
    for place, process in told.items():
        left = max(deadline - time.monotonic(), 0)
        outcomes[place] = ENDED if select.select([process], [], [], left)[0] else AT_WORK
        os.close(process)
    return outcomes


def tell(session: Session) -> tuple[str, int | None]:
    """SIGTERM to its process, and to no other that has the number now; what became of it, and the pidfd to wait on."""
    if not session.process:
        return NO_PROCESS, None
    try:
        process = os.pidfd_open(session.process.pid)
    except ProcessLookupError:
        return GONE, None
    try:
        # Who has the number now is what pidfd_open() has found, or this fails; it is the session if it began then.
        now = processes.look(session.process.pid)
        if not now or (now.started, now.group) != (session.process.started, session.process.group):
            raise ProcessLookupError
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except (ProcessLookupError, PermissionError) as error:
        os.close(process)
        return (NOT_ALLOWED if isinstance(error, PermissionError) else GONE), None
    return AT_WORK, process


def note(session: Session, by: str) -> None:
    """For the journal: who has done it. Its own end is another entry, of the session."""
    journal.send(
        journal.SESSION_KICKED,
        rhost=session.address or None,
        rport=session.port,
        user=session.user or session.account or None,
        pid=session.pid,
        by=by,
    )


def who_asks(environ: "Mapping[str, str]") -> str:
    """Who runs this, and in parentheses who that is by the login and by sudo: the kernel keeps the former, the latter
    is what the environment says to root.
    """
    user = account_of(os.getuid())
    others: list[str] = []
    try:
        if (login := int(processes.text(os.getpid(), "loginuid"))) != NOBODY:
            others.append(account_of(login))
    except (OSError, ValueError):
        pass
    if os.getuid() == 0 and (name := environ.get("SUDO_USER", "")) and is_account(name):
        others.append(name)
    others = [each for each in dict.fromkeys(others) if each != user]
    return f"{user} ({', '.join(others)})" if others else user


def is_account(name: str) -> bool:
    """Whether there is a user of this name."""
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        return False
    return True


def complain(text: str) -> int:
    """Say what is wrong. Returns the exit status."""
    sys.stderr.write(f"popad kick: {text}\n")
    return 1
