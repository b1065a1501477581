"""Users and their mail, the same for every server, in the store that it reads: an mbox or a Maildir."""

from __future__ import annotations

import base64
import os
import random
import shutil
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from tests.bench.generator import PASSWORD
from tests.support.machine import Machine

FIRST_UID = 2000
MAIL_GID = 8
# Both popa3d and popad wait for the clock where a mailbox was modified this very moment.
AGE_SECONDS = 1000
FROM_LINE = b"From sender@example.org Thu Jan  1 00:00:00 1970\n"
SMALL_OCTETS = 4096
LF = b"\n"


@cache
def _lines() -> bytes:
    """Text to cut bodies from: 1 MB of lines of 0 to 76 octets, 36 on average, a few of which start with a dot."""
    generator = random.Random(5)
    words = [bytes(generator.choices(b"abcdefghijklmnopqrstuvwxyz", k=generator.randint(2, 11))) for _ in range(500)]
    made = bytearray()
    while len(made) < 1_000_000:
        line = b" ".join(generator.choices(words, k=10))[: generator.randint(0, 76)]
        made += (b"." if generator.random() < 0.01 else b"") + line.capitalize() + b"\n"
    return bytes(made)


@cache
def _encoded() -> bytes:
    """A megabyte in base64."""
    return base64.encodebytes(random.Random(6).randbytes(57 * 18_000))


def message(number: int, octets: int) -> bytes:
    """Message `number`, of `octets` octets with LF as line ends, header included."""
    header = (
        "Return-Path: <sender@example.org>\n"
        f"Received: from mx.example.org by mail.example.net with ESMTPS id {number:08x};\n"
        "\tThu, 1 Jan 1970 00:00:00 +0000\n"
        "Date: Thu, 1 Jan 1970 00:00:00 +0000\n"
        f"From: A Sender <sender@example.org>\nTo: A Reader <reader@example.net>\nSubject: message {number}\n"
        f"Message-ID: <{number:08d}@example.org>\nMIME-Version: 1.0\nContent-Type: text/plain; charset=us-ascii\n\n"
    ).encode()
    left, text = octets - len(header), _lines()
    if octets > len(text) // 2:
        # What is as large as that is an attachment: base64, 76 characters a line.
        encoded = _encoded()
        return header + (encoded * (left // len(encoded) + 1))[: left - 1] + b"\n"
    start = number * 977 % 500_000
    start = text.index(b"\n", start) + 1
    return header + text[start : start + left - 1] + b"\n"


def messages(count: int, octets: int) -> Iterator[bytes]:
    """So many messages of that size each."""
    return (message(number, octets) for number in range(1, count + 1))


def add_users(machine: Machine, names: Iterable[str]) -> None:
    """Users with PASSWORD. A cheap hash (MD5-crypt): the servers are measured, not crypt."""
    hashed = machine.run(["openssl", "passwd", "-1", PASSWORD]).stdout.strip()
    passwd, shadow, group = [], [], []
    for uid, name in enumerate(names, FIRST_UID):
        passwd.append(f"{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n")
        shadow.append(f"{name}:{hashed}:19000:0:99999:7:::\n")
        group.append(f"{name}:x:{uid}:\n")
        home = machine.root / "home" / name
        home.mkdir(mode=0o700)
        os.chown(home, uid, uid)
    for file, lines in (("passwd", passwd), ("shadow", shadow), ("group", group)):
        with (machine.root / "etc" / file).open("a") as opened:
            opened.writelines(lines)


def deliver(machine: Machine, store: str, name: str, content: Iterable[bytes], *, sized: bool = False) -> None:
    """Give a user exactly this mail, as a delivery agent leaves it. `sized`: with S= and W= in a Maildir's names."""
    remove(machine, store, name)
    home = (machine.root / "home" / name).stat()
    then = time.time() - AGE_SECONDS
    if store == "mbox":
        path = machine.root / "var/mail" / name
        with path.open("wb") as mailbox:
            for each in content:
                mailbox.write(FROM_LINE + each + b"\n")
        path.chmod(0o660)
        os.chown(path, home.st_uid, MAIL_GID)
        os.utime(path, (then, then))
    elif store == "maildir":
        directory = maildir(machine, name)
        for folder in (directory, *(directory / sub for sub in ("tmp", "cur", "new"))):
            folder.mkdir(mode=0o700)
            os.chown(folder, home.st_uid, home.st_gid)
        for number, each in enumerate(content):
            sizes = f",S={len(each)},W={len(each) + each.count(LF)}" if sized else ""
            path = directory / "new" / f"{int(then)}.M{number:06d}P1.mx{sizes}"
            path.write_bytes(each)
            path.chmod(0o600)
            os.chown(path, home.st_uid, home.st_gid)
            os.utime(path, (then, then))


def remove(machine: Machine, store: str, name: str) -> None:
    """Take all mail of a user away, and what servers keep beside it."""
    if store == "mbox":
        (machine.root / "var/mail" / name).unlink(missing_ok=True)
    shutil.rmtree(machine.root / "home" / name / "mail", ignore_errors=True)
    shutil.rmtree(maildir(machine, name), ignore_errors=True)


def maildir(machine: Machine, name: str) -> Path:
    return machine.root / "home" / name / "Maildir"
