"""Programs that deliver mail in a way that does not go with what popad serves, for `popad check`: popad-delivery(7)."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

OPENSMTPD = "/etc/smtpd.conf"  # Debian's, and nobody else's
MAILDIR = 'action "local" maildir alias <aliases>'


def wrong_delivery(maildrop: str) -> "Iterator[str]":
    """OpenSMTPD takes no fcntl(2) lock, so what it appends to an mbox may come into the middle of an update."""
    if not maildrop.startswith("mbox:"):
        return
    for number, words in actions():
        if "mbox" in words:
            yield (
                f"{OPENSMTPD}:{number}: OpenSMTPD takes no lock that popad sees, and mail in mbox files can be damaged:"
                f" write `{MAILDIR}` there, and POPAD_MAILDROP=maildir:{{home}}/Maildir into popad.conf"
            )


def described(maildrop: str) -> "Iterator[str]":
    """What it delivers to, where popad serves something else."""
    if maildrop.startswith("mbox:"):
        for number, words in actions():
            if "maildir" in words:
                yield f"{OPENSMTPD}:{number}: OpenSMTPD delivers to Maildirs, and POPAD_MAILDROP is mbox files"


def actions() -> "Iterator[tuple[int, list[str]]]":
    """The words of each line of smtpd.conf(5) that says where mail goes; nothing where it is not there."""
    if not os.path.exists(OPENSMTPD):
        return
    try:
        with open(OPENSMTPD, encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                words = line.partition("#")[0].split()
                if words[:1] == ["action"]:
                    yield number, words[2:]
    except OSError:
        pass  # it is for root to read
