"""Transcripts (transcripts/README.md): how a file is read, and how it is played in process or over a connection."""

import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from popad.errors import MaildropChanged, MaildropUnavailable, MaildropUnreadable, PeerGone
from popad.maildrop.maildrop import Maildrop
from popad.maildrop.mbox.store import Mbox
from popad.maildrop.private import SharedDirectory
from popad.net import arrival
from popad.protocol import authorization, replies, transaction
from popad.protocol.dialogue import converse
from popad.protocol.lines import Lines
from popad.protocol.sasl import MECHANISMS, allowed
from popad.session import monitor
from popad.settings import Settings
from tests.support.peer import Peer

DIRECTORY = Path(__file__).parents[1] / "transcripts"
NAME, PASSWORD = b"alice", b"secret"
LOGIN = ["S: +OK ...", "C: USER alice", "S: +OK ...", "C: PASS secret"]
ESCAPE = re.compile(r"\\(?:\(([^*]*)\*(\d+)\)|x([0-9a-f]{2})|(.))")
PLAIN = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}

# What a client may do over a connection without TLS, with POPAD_AUTH=file.
MAY = authorization.MAY_LOG_IN | sum(MECHANISMS[name].may for name in (b"SCRAM-SHA-256", b"PLAIN", b"LOGIN"))

Mails = dict[str, bytes]
# What the client sends, or another program does to the mailbox at that path.
Step = bytes | Callable[[Path], None]


class Nobody:
    """In place of the auth helper: in process there is none, and no transcript asks it a second time."""

    def ask(self, *fields: bytes) -> bytes | None:
        raise NotImplementedError

    def tell(self, *fields: bytes) -> None:
        raise NotImplementedError


class Transcript:
    """A file: its mailboxes and its lines, each as (mark, text) with a mark of C: C- S: ! END LEAVE."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.head: list[str] = []
        self.settings: dict[str, str] = {}
        self.lines: list[tuple[str, str]] = []
        self.mails = read_mails(DIRECTORY / "messages.txt")
        before = after = ""
        mail = ""
        for text in path.read_text().splitlines():
            mark, _, rest = text.partition(" ")
            if text.startswith("#"):
                self.head.append(text.removeprefix("#").strip())
            elif mark == "mailbox:":
                before = rest
            elif mark == "afterwards:":
                after = rest
            elif mark == "setting:":
                name, _, value = rest.partition("=")
                self.settings[name] = value
            elif mark == "mail":
                mail = rest
                self.mails[mail] = b""
            elif text.startswith("|"):
                self.mails[mail] += mail_line(text)
            elif text == "LOGIN":
                self.lines += [(line[:2], line[3:]) for line in LOGIN]
            elif mark in ("C:", "C-", "S:", "!", "END", "LEAVE"):
                self.lines.append((mark, rest))
            elif text:
                raise ValueError(f"{path.name}: {text}")
        if not before or not after or self.lines[-1][0] not in ("END", "LEAVE"):
            raise ValueError(f"{path.name}: no mailbox:, no afterwards:, or no END")
        self.before = self.mailbox(before)
        self.after = self.before if after == "unchanged" else self.mailbox(after)

    def mailbox(self, names: str) -> bytes | None:
        """The octets of a mailbox; None for no file."""
        if names in ("empty", "missing"):
            return b"" if names == "empty" else None
        return b"".join(self.mails[name] for name in names.split())

    def action(self, text: str) -> Callable[[Path], None]:
        """What another program does."""
        verb, _, rest = text.partition(" ")

        def act(path: Path) -> None:
            if verb == "append":
                with path.open("ab") as file:
                    file.write(self.mailbox(rest) or b"")
            elif verb == "rewrite":
                with path.open("r+b") as file:
                    file.write(self.mailbox(rest) or b"")
                    file.truncate()
            elif verb == "replace":
                fresh = path.with_name("fresh")
                fresh.write_bytes(self.mailbox(rest) or b"")
                os.chown(fresh, path.stat().st_uid, path.stat().st_gid)
                fresh.rename(path)
            elif verb == "remove":
                path.unlink()
            else:
                raise ValueError(text)

        return act

    def steps(self) -> list[Step]:
        """What happens to the server, with the octets between two actions together."""
        steps: list[Step] = []
        for mark, text in self.lines:
            if mark == "!":
                steps.append(self.action(text))
            elif mark in ("C:", "C-"):
                octets = octets_of(text) + (b"\r\n" if mark == "C:" else b"")
                if steps and isinstance(last := steps[-1], bytes):
                    steps[-1] = last + octets
                else:
                    steps.append(octets)
        return steps

    def expected(self) -> "re.Pattern[bytes]":
        """All that the server sends."""
        return re.compile(b"".join(pattern(text) for mark, text in self.lines if mark == "S:"))


def pattern(text: str) -> bytes:
    """A line of the server as a pattern."""
    if text.endswith(" ..."):
        return re.escape(octets_of(text[:-4])) + b"(?: [^\r\n]*)?\r\n"
    return re.escape(octets_of(text)) + b"\r\n"


def octets_of(text: str) -> bytes:
    """A text with its escapes."""
    octets = b""
    place = 0
    for found in ESCAPE.finditer(text):
        octets += text[place : found.start()].encode()
        repeated, count, code, plain = found.groups()
        if count:
            octets += octets_of(repeated) * int(count)
        else:
            octets += bytes.fromhex(code) if code else PLAIN[plain]
        place = found.end()
    return octets + text[place:].encode()


def mail_line(text: str) -> bytes:
    if text.startswith("|-"):
        return octets_of(text[2:])
    return octets_of(text[1:]) + b"\n"


def read_mails(path: Path) -> Mails:
    mails: Mails = {}
    name = ""
    for text in path.read_text().splitlines():
        if text.startswith("mail "):
            name = text[5:]
            mails[name] = b""
        elif text.startswith("|"):
            mails[name] += mail_line(text)
    return mails


def play(steps: Sequence[Step], mailbox: Path, state: SharedDirectory, settings: Settings) -> bytes:
    """What the client receives in a session without processes: what session.py does with protocol and maildrop."""
    peer = Peer(*(step if isinstance(step, bytes) else functools.partial(step, mailbox) for step in steps))
    peer.write(arrival.GREETING)
    login, lines = authorization.Authorization(MAY, Nobody()), Lines()
    try:
        converse(peer, lines, authorization.TABLE, login, settings.max_argument)
        if login.login is not None:
            if login.login[-2:] != (NAME, PASSWORD):
                peer.write(monitor.WRONG)
            else:
                transact(peer, lines.rest(), mailbox, state, settings)
    except (PeerGone, MaildropChanged, MaildropUnreadable):
        pass  # the session ends without another word
    return peer.received


def transact(peer: Peer, ahead: bytes, mailbox: Path, state: SharedDirectory, settings: Settings) -> None:
    journal = state.files_of(str(mailbox))
    try:
        store = Mbox(str(mailbox), journal, settings.lock_timeout, settings.max_messages, settings.max_octets)
    except MaildropUnavailable as failure:
        peer.write(replies.err("the mailbox is not available", failure.code))
        return
    try:
        drop = Maildrop(store)
        peer.write(replies.ok(f"{drop.messages} messages ({drop.octets_in_all} octets)"))
        converse(
            peer,
            Lines(ahead),
            transaction.TABLE,
            transaction.Transaction(drop, sasl=allowed(MAY)),
            settings.max_argument,
        )
    finally:
        if store.fd >= 0:
            os.close(store.fd)


def splits(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """The same steps with the octets of one of them in two pieces, at every place."""
    for number, step in enumerate(steps):
        if isinstance(step, bytes):
            for place in range(1, len(step)):
                yield [*steps[:number], step[:place], step[place:], *steps[number + 1 :]]


def singles(steps: Sequence[Step]) -> list[Step]:
    """The same steps, an octet at a time."""
    single: list[Step] = []
    for step in steps:
        if isinstance(step, bytes):
            single += [bytes([octet]) for octet in step]
        else:
            single.append(step)
    return single
