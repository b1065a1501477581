"""Every recipe of the documents, word for word: blocks of the man pages and the README, and of comments in units."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.here import CHECKOUT

PAGES = ("popad.8", "popad-admin.8", "popad.conf.5", "popad-credentials.5", "popad-delivery.7")
# Words of each block of popad-delivery(7), which test_delivery.py tries where the programs are.
DELIVERIES = (
    "'home_mailbox ='",
    "home_mailbox = Maildir/",
    "virtual_mailbox_domains",
    "jane@example.org jane/",
    "POPAD_VIRTUAL_USER=vmail",
    "maildir_home",
    "mail_spool",
    'action "local" maildir',
    "procmail -a",
    "DEFAULT=$HOME/Maildir/",
    "mailbox_command = maildrop",
    'DEFAULT="$HOME/Maildir"',
    "maildirmake.maildrop",
    "dovecot-lda -a",
    "mail_location",
    "mail_driver",
)


@dataclass(frozen=True)
class Block:
    """What a document shows to be typed or written: the document's file name, and the lines."""

    document: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The lines that somebody types, without the prompt."""
        return [line.removeprefix("# ") for line in self.text.splitlines()]


def blocks() -> list[Block]:
    """All of them."""
    return [*_pages(), *indented("README.md"), *_units()]


def _pages() -> Iterator[Block]:
    for page in PAGES:
        text = (CHECKOUT / "packaging/man" / page).read_text()
        for literal in re.findall(r"^\.Bd -literal.*\n((?:.*\n)+?)\.Ed$", text, re.M):
            yield Block(page, literal.replace("\\e", "\\").rstrip("\n"))


def indented(path: str) -> Iterator[Block]:
    """The blocks of a document in Markdown, in its order."""
    document = CHECKOUT / path
    for found in re.findall(r"(?<=\n\n)(?:    .*\n)+", document.read_text()):
        yield Block(document.name, "\n".join(line[4:] for line in found.splitlines()))


def _units() -> Iterator[Block]:
    for unit in sorted((CHECKOUT / "units").iterdir()):
        for comment in re.findall(r"(?:^#   .*\n)+", unit.read_text(), re.M):
            yield Block(unit.name, "\n".join(line[4:] for line in comment.splitlines()))
