"""Maildirs at random, of a kind each, for the parts that serve or look at them; and how one is put into its place."""

import os
import pwd
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.support.layouts import Layout
from tests.support.serving import OWNER

Mails = list[tuple[str, str, bytes]]  # directory, name, content
HEADER = b"Received: from x\nDate: Thu, 1 Jan 1970 00:00:00 +0000\nSubject: s\n\n"


def wire(content: bytes) -> int:
    return len(content) + content.count(b"\n") - content.count(b"\r\n") + (0 if content.endswith(b"\n") else 2)


def body(rng: random.Random, line_end: bytes = b"\n") -> bytes:
    lines = [
        rng.choice((b"", b"text", b".", b"..dot", b"\xff\xfe", b"x" * 900, b"From a")) for _ in range(rng.randint(0, 9))
    ]
    return HEADER.replace(b"\n", line_end) + line_end.join([*lines, b""])


def usual(rng: random.Random, number: int) -> str:
    return f"{1_600_000_000 + number}.M{rng.randrange(10**6)}P{rng.randrange(30000)}.host"


def plain(rng: random.Random) -> Mails:
    return [("new", usual(rng, n), body(rng)) for n in range(rng.randint(0, 9))]


def flagged(rng: random.Random) -> Mails:
    flags = ("", ":2,", ":2,S", ":2,RS", ":2,F", ":2,DFR")
    return [("cur", usual(rng, n) + rng.choice(flags), body(rng)) for n in range(rng.randint(1, 9))]


def sized(rng: random.Random) -> Mails:
    """Names with right sizes, as Dovecot, Courier and maildrop write them."""
    made: Mails = []
    for n in range(rng.randint(1, 9)):
        content = body(rng)
        name = usual(rng, n) + f",S={len(content)}" + (f",W={wire(content)}" if rng.random() < 0.5 else "")
        made.append((rng.choice(("new", "cur")), name + rng.choice(("", ":2,S")), content))
    return [(place, name.partition(":")[0] if place == "new" else name, content) for place, name, content in made]


def line_ends(rng: random.Random) -> Mails:
    return [
        ("new", usual(rng, n), rng.choice((body(rng, b"\r\n"), body(rng), body(rng).rstrip(b"\n") + b"x")))
        for n in range(rng.randint(1, 9))
    ]


def clutter(rng: random.Random) -> Mails:
    """With what is no message: names that begin with a dot, and other programs' files."""
    return [
        *plain(rng),
        ("new", ".hidden", body(rng)),
        ("cur", ".nfs0001", body(rng)),
        ("tmp", usual(rng, 99), body(rng)),
    ]


def other_names(rng: random.Random) -> Mails:
    """As qmail, Courier, exim and getmail name files, and as nobody should."""
    forms = (
        "{t}.{p}_{n}.host",
        "{t}.H{n}P{p}.host.example.org",
        "{t}.V801I{n}M{p}.host",
        "{t}.{p}.host",
        "msg.{n}",
        "{n}",
    )
    made = {}
    for n in range(rng.randint(1, 9)):
        made[rng.choice(forms).format(t=1_600_000_000 + n, p=rng.randrange(30000), n=n)] = body(rng)
    return [("new", name, content) for name, content in made.items()]


KINDS: dict[str, Callable[[random.Random], Mails]] = {
    "new alone": plain,
    "flags": flagged,
    "sizes in names": sized,
    "line ends": line_ends,
    "clutter": clutter,
    "other names": other_names,
}


def as_layout(name: str, mails: Mails) -> Layout:
    return Layout(name, {f"{part}/{file}": content for part, file, content in mails})


def put(place: Path, layout: Layout) -> None:
    if place.is_symlink():
        place.unlink()
    shutil.rmtree(place, ignore_errors=True)
    for part in ("new", "cur", "tmp"):
        (place / part).mkdir(parents=True)
    for name, content in layout.files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    layout.more(place)
    give_away(place)


def give_away(place: Path) -> None:
    owner = pwd.getpwnam(OWNER)
    for path in (place, place.resolve(), *place.resolve().rglob("*")):
        os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
