"""Where popad and other readers of mbox files see messages: python3 -m tests.peers.readers [--each 20] [--seed 1]

Makes mailboxes as programs leave them, of which it knows the messages, and prints for each kind how many of them each
reader sees as they were made. Dovecot, mailutils and s-nail are Debian's, unpacked into the cache and not installed;
they run in a mount namespace. Needs root.
"""

import argparse
import mailbox
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from popad.maildrop.mbox.scan import Scan
from tests.support import here

CACHE = here.CACHE / "readers"
PACKAGES = ("dovecot-core", "mailutils", "s-nail")
NOBODY = 65534
DATE = "Thu Jan  1 00:00:00 1970"
PROSE = ("From the station go north.", "From there it is a mile.", "From Black's Law Dictionary:", "From a b c")
WORDS = "the of and to law a in is from From: To: mail >From".split()
Mail = tuple[str, str, bool]  # the From_ line, the message, whether a blank line stands behind it


def text(rng: random.Random, prose: bool) -> list[str]:
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(0, 9))) for _ in range(rng.randint(1, 12))]
    if prose:
        place = rng.randint(0, len(lines))
        lines[place:place] = ["", *rng.choices(PROSE, k=rng.randint(1, 3)), ""]
    return [re.sub("^From ", "from ", line) if not prose else line for line in lines]


def mails(rng: random.Random, lines: tuple[str, ...], prose: bool = False, blank: bool = True) -> list[Mail]:
    made = []
    for number in range(rng.randint(1, 8)):
        header = f"Date: Thu, 1 Jan 1970 00:00:00 +0000\nMessage-ID: <{number}@example.org>\nSubject: s\n"
        made.append(
            (rng.choice(lines), header + "\n" + "\n".join(text(rng, prose)) + "\n", blank or rng.random() < 0.5)
        )
    return made


# What they are and how their messages are made.
KINDS: dict[str, Callable[[random.Random], list[Mail]]] = {
    "asctime, quoted bodies": lambda rng: mails(rng, (f"a@b {DATE}", f"a@b  {DATE}", f"MAILER-DAEMON {DATE}")),
    "prose behind blank lines": lambda rng: mails(rng, (f"a@b  {DATE}",), prose=True),
    "no blank line between": lambda rng: mails(rng, (f"a@b {DATE}",), blank=False),
    "both": lambda rng: mails(rng, (f"a@b {DATE}",), prose=True, blank=False),
    "Mozilla, quoted senders": lambda rng: mails(rng, (f"- {DATE}", f'"a b"@c {DATE}')),
    "zones, Gmail": lambda rng: mails(
        rng, ("1@xxx Thu Jan 01 00:00:00 +0000 1970", "a Thu Jan  1 00:00:00 MET 1970", f"a {DATE} +0100")
    ),
    "pipermail": lambda rng: mails(rng, (f"a at b.example  {DATE}",)),
    "no seconds, UUCP": lambda rng: mails(rng, ("a Thu Jan  1 00:00 1970", f"a!b {DATE} remote from a")),
    "dates of RFC 5322": lambda rng: mails(rng, ("a@b Thu, 1 Jan 1970 00:00:00 +0000",)),
    "no date": lambda rng: mails(rng, ("a", "a@b")),
}


def packed(made: list[Mail]) -> bytes:
    return "".join(f"From {line}\n{mail}" + "\n" * blank for line, mail, blank in made).encode()


def popad(path: Path) -> int:
    octets = path.read_bytes()
    return len(Scan(lambda count, offset: octets[offset : offset + count], len(octets), 10_000).run().froms)


def python(path: Path) -> int:
    return len(mailbox.mbox(path, create=False))


def number(command: list[str], pattern: str, **environment: str) -> int:
    ran = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=os.environ | environment
    )
    found = re.search(pattern, ran.stdout)
    return int(found[1]) if found else -1


def mailutils(path: Path) -> int:
    return number(["messages.mailutils", str(path)], r": (\d+)\n")


def dovecot(path: Path) -> int:
    """It writes into the mailbox, and not as root: it gets its own."""
    place = path.with_name("dovecot")
    shutil.rmtree(place, ignore_errors=True)
    (place / "mail").mkdir(parents=True)
    shutil.copy(path, place / "inbox")
    settings = [f"mail_location = mbox:{place}/mail:INBOX={place}/inbox", "protocols = pop3", f"base_dir = {place}/run"]
    settings += [f"mail_uid = {NOBODY}", f"mail_gid = {NOBODY}", "log_path = /dev/stderr", "stats_writer_socket_path ="]
    settings += [f"default_{name} = root" for name in ("internal_user", "login_user", "internal_group")]
    (place / "conf").write_text("\n".join(settings) + "\n")
    for each in (place, place / "mail", place / "inbox"):
        os.chown(each, NOBODY, NOBODY)
    command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    command += ["doveadm", "-c", f"{place}/conf", "mailbox", "status", "messages", "INBOX"]
    return number(command, r"messages=(\d+)", HOME=str(place), USER="nobody")


def s_nail(path: Path) -> int:
    return number(["s-nail", "-n", "-R", "-H", "-f", str(path)], r"(?s).*\n?.\w? +(\d+) ")


READERS = {"popad": popad, "Python": python, "Dovecot": dovecot, "mailutils": mailutils, "s-nail": s_nail}


def tree() -> Path:
    """The programs with what they need and this host does not have, as below /usr."""
    made, archives = CACHE / "usr", CACHE / "archives"
    if not made.is_dir():
        (archives / "partial").mkdir(parents=True, exist_ok=True)
        fetch = ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", f"Dir::Cache::archives={archives}"]
        fetch += ["--download-only", "--reinstall", "--no-install-recommends", "install", *PACKAGES]
        subprocess.run(fetch, check=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as unfinished:
            for package in sorted(archives.glob("*.deb")):
                subprocess.run(["dpkg-deb", "-x", package, unfinished], check=True)
            Path(unfinished, "usr").rename(made)
        shutil.rmtree(archives)
    return made


def tables(each: int, seed: int) -> Iterator[str]:
    yield f"{'mailboxes':28}" + "".join(f"{name:>11}" for name in READERS)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        path = Path(directory, "mailbox")
        for kind, make in KINDS.items():
            right = dict.fromkeys(READERS, 0)
            for _ in range(each):
                made = make(rng)
                path.write_bytes(packed(made))
                for name, reader in READERS.items():
                    right[name] += reader(path) == len(made)
            yield f"{kind:28}" + "".join(f"{count:>8}/{each}" for count in right.values())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m tests.peers.readers", description=__doc__)
    parser.add_argument("--each", type=int, default=20, help="mailboxes of a kind")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if "POPAD_READERS" not in os.environ:  # then this is the namespace
        command = f'mount -t overlay overlay -o lowerdir={tree()}:/usr /usr && exec "$0" "$@"'
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", command, sys.executable]
        words += ["-m", "tests.peers.readers", *sys.argv[1:]]
        sys.exit(subprocess.run(words, env=os.environ | {"POPAD_READERS": "yes"}).returncode)
    warnings.simplefilter("ignore", ResourceWarning)
    for line in tables(given.each, given.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
