"""Who delivers: Debian's programs as a mail server runs them, and its lock tools around a plain append."""

import fcntl
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from . import postfix
from .namespace import User

SECONDS = 120  # a program that takes longer is stuck, and the run has failed
PIECES = 3  # what is appended in several writes is seen half by who ignores the lock


def run(
    words: Sequence[str], message: bytes = b"", user: User | None = None, environment: dict[str, str] | None = None
) -> bool:
    """Whether the program says that it has done it."""
    identity: dict[str, Any] = {"user": user.uid, "group": user.uid, "extra_groups": []} if user else {}
    done = subprocess.run(words, input=message, capture_output=True, timeout=SECONDS, env=environment, **identity)
    return bool(done.returncode == 0)


def procmail(user: User, message: bytes) -> bool:
    """Lock file, then fcntl from the end of the mailbox on."""
    return run(["procmail", "-d", user.name], message)


def maildrop(user: User, message: bytes) -> bool:
    """Lock file, then fcntl."""
    return run(["maildrop", "-d", user.name], message)


def exim(user: User, message: bytes) -> bool:
    """Lock file, then fcntl without waiting; one that it cannot deliver now stays in its queue, and is accepted."""
    return run(["exim4", "-odi", "-oi", "-f", "sender@race.test", f"{user.name}@race.test"], message)


def dovecot_lda(user: User, message: bytes) -> bool:
    """As an MTA starts it, as the user. Names have sizes."""
    environment = {"PATH": os.defpath, "HOME": str(user.home), "USER": user.name}
    return run(["/usr/lib/dovecot/dovecot-lda", "-c", "/etc/dovecot/race.conf"], message, user, environment)


def postfix_local(user: User, message: bytes) -> bool:
    """Accepted; its local(8) delivers later."""
    return run(["/usr/sbin/sendmail", "-i", "-f", f"sender@{postfix.LOCAL}", f"{user.name}@{postfix.LOCAL}"], message)


def postfix_virtual(user: User, message: bytes) -> bool:
    """The same by virtual(8)."""
    return run(["/usr/sbin/sendmail", "-i", "-f", f"sender@{postfix.LOCAL}", f"{user.name}@{postfix.VIRTUAL}"], message)


def append(user: User, message: bytes, locked: bool) -> None:
    fd = os.open(user.mailbox, os.O_WRONLY | os.O_APPEND)
    try:
        if locked:
            fcntl.lockf(fd, fcntl.LOCK_EX)
        whole = b"From sender@race.test Thu Jan  1 00:00:00 1970\n" + message + b"\n"
        step = len(whole) // PIECES + 1
        for place in range(0, len(whole), step):
            os.write(fd, whole[place : place + step])
            os.sched_yield()
    finally:
        os.close(fd)


def dotlockfile(user: User, message: bytes) -> bool:
    """A program that knows lock files only (our PID is in it)."""
    lock = f"{user.mailbox}.lock"
    if not run(["dotlockfile", "-l", "-p", "-r", "60", "-i", "1", lock], user=user):
        return False
    append(user, message, locked=False)
    return run(["dotlockfile", "-u", lock], user=user)


def mutt_dotlock(user: User, message: bytes) -> bool:
    """The other order: lock file (empty, mode 0) first, and then a wait for fcntl without an end."""
    if not run(["mutt_dotlock", "-p", "-r", "60", str(user.mailbox)], user=user):
        return False
    append(user, message, locked=True)
    return run(["mutt_dotlock", "-p", "-u", str(user.mailbox)], user=user)


def fcntl_alone(user: User, message: bytes) -> bool:
    """The lock that all programs of Debian take, and no program to start: some thousand deliveries a second."""
    append(user, message, locked=True)
    return True


def reckless(user: User, message: bytes) -> bool:
    """No lock at all: what it loses shows that this race can see a loss."""
    append(user, message, locked=False)
    return True


TO_MBOX = (procmail, maildrop, exim, dotlockfile, mutt_dotlock, fcntl_alone, reckless)
TO_MAILDIR = (procmail, maildrop, exim, dovecot_lda, postfix_local, postfix_virtual)
WAYS = {way.__name__: way for way in (*TO_MBOX, *TO_MAILDIR)}
# Without fcntl they are safe only where popad may make lock files, too.
ONLY_AT_HOME = ("dotlockfile",)
