"""The world of the race: a mount and PID namespace whose / is the host's with the programs on top, with its own users.

`enter()` runs as process 1 of that namespace. Kinds of users: s0, s1 … have their mail in /var/mail, as Debian sets
it up (2775 root:mail: no user makes a lock file there); h0, h1 … in a directory of their own, where users can; m0, m1 …
in a Maildir.
"""

import base64
import hashlib
import hmac
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.here import CHECKOUT

from . import postfix

POOL = Path("/mnt")  # of the host, hidden in the namespace: where the new / is mounted
WORK = Path("/srv/race")  # in the new /: what the race writes, in memory
STATE, CREDENTIALS = WORK / "state", WORK / "credentials"
PASSWORD = "secret"
MAIL_GROUP, EXIM, PREAUTH, FIRST_USER = 8, 61950, 61951, 61960
PARTS = ("new", "cur", "tmp")

EXIM_CONFIGURATION = """
primary_hostname = race.test
domainlist local_domains = race.test
qualify_domain = race.test
never_users =
trusted_users = root
no_message_logs
keep_environment =
log_selector = -all
split_spool_directory = true
local_from_check = false
begin routers
users:
  driver = accept
  check_local_user
  transport = ${if match{$local_part_data}{^m}{maildir}{mailbox}}
begin transports
maildir:
  driver = appendfile
  directory = $home/Maildir
  maildir_format
  envelope_to_add
  return_path_add
mailbox:
  driver = appendfile
  file = ${if match{$local_part_data}{^h}{$home/mailbox}{/var/mail/$local_part_data}}
  group = mail
  mode = 0660
  no_mode_fail_narrower
  envelope_to_add
  return_path_add
  lock_retries = 10
  lock_interval = 1s
begin retry
* * F,1h,1s
"""
DOVECOT_CONFIGURATION = "mail_location = maildir:~/Maildir\nssl = no\nlog_path = /dev/null\n"


@dataclass(frozen=True)
class User:
    """Somebody with a mailbox."""

    name: str
    uid: int

    @property
    def in_spool(self) -> bool:
        return self.name.startswith("s")

    @property
    def home(self) -> Path:
        return Path("/home") / self.name

    @property
    def has_maildir(self) -> bool:
        return self.name.startswith("m")

    @property
    def mailbox(self) -> Path:
        if self.has_maildir:
            return self.home / "Maildir"
        return Path("/var/mail") / self.name if self.in_spool else self.home / "mailbox"


def enter(programs: Sequence[Path], users: Sequence[User]) -> None:
    """Mount the new /, change into it, furnish it."""

    def mount(*words: str) -> None:
        subprocess.run(["mount", *words], check=True)

    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(POOL))
    upper, work, root = (POOL / name for name in ("upper", "work", "root"))
    for directory in (upper, work, root):
        directory.mkdir()
    for tree in programs:  # as a layer below it would overlap with /
        subprocess.run(["cp", "-a", "--remove-destination", f"{tree}/.", str(upper)], check=True)
    layers = f"lowerdir=/,upperdir={upper},workdir={work}"
    mount("-t", "overlay", "-o", layers, "overlay", str(root))
    for name in ("dev", "proc", "sys"):
        mount("--rbind" if name == "dev" else "--bind", f"/{name}", str(root / name))
    checkout = os.open(CHECKOUT, os.O_PATH)
    os.chroot(root)
    os.chdir("/")
    mount("-t", "proc", "proc", "/proc")
    for place in ("/run", "/var/mail", "/home", "/var/spool", "/var/lib", "/var/log"):
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/tmp")
    if not (CHECKOUT / "popad").is_dir():  # on another file system than the host's /, or where one of these is now
        CHECKOUT.mkdir(parents=True, exist_ok=True)
        # Not canonicalized: the name behind the descriptor is that of the empty directory by now.
        mount("--bind", "--no-canonicalize", f"/proc/{os.getpid()}/fd/{checkout}", str(CHECKOUT))
    os.close(checkout)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    furnish(users)


def furnish(users: Sequence[User]) -> None:
    os.umask(0o022)
    accounts = {"root": (0, 0), "mail": (8, MAIL_GROUP), "Debian-exim": (EXIM, EXIM), "popad": (PREAUTH, PREAUTH)}
    accounts |= {
        "nobody": (65534, 65534),
        "postfix": (postfix.USER, postfix.USER),
        "postdrop": (postfix.GROUP, postfix.GROUP),
    }
    accounts |= dict.fromkeys(("dovecot", "dovenull"), (PREAUTH + 1, PREAUTH + 1))
    accounts |= {user.name: (user.uid, user.uid) for user in users}
    Path("/etc/passwd").write_text(
        "".join(f"{name}:x:{uid}:{gid}:{name}:/home/{name}:/bin/sh\n" for name, (uid, gid) in accounts.items())
    )
    Path("/etc/group").write_text("".join(f"{name}:x:{gid}:\n" for name, (_, gid) in accounts.items()))
    Path("/etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nshadow: files\nhosts: files\n")
    Path("/etc/hosts").write_text("127.0.0.1 localhost race.test\n")
    Path("/etc/exim4").mkdir(exist_ok=True)
    Path("/etc/exim4/exim4.conf").write_text(EXIM_CONFIGURATION)
    Path("/etc/dovecot").mkdir(exist_ok=True)
    Path("/etc/dovecot/race.conf").write_text(DOVECOT_CONFIGURATION)
    postfix.furnish([(user.name, user.uid) for user in users])
    for place in ("/var/spool/exim4", "/var/log/exim4"):
        Path(place).mkdir()
        os.chown(place, EXIM, EXIM)
    # They wait for a lock file in whole seconds, procmail 8 and maildrop 5 by default.
    Path("/etc/procmailrc").write_text("LOCKSLEEP=1\n")
    os.chown("/var/mail", 0, MAIL_GROUP)
    os.chmod("/var/mail", 0o2775)
    WORK.mkdir(parents=True)
    STATE.mkdir()
    STATE.chmod(0o1733)
    CREDENTIALS.touch(0o600)
    CREDENTIALS.write_text("".join(f"{user.name} {verifier()}\n" for user in users))
    for user in users:
        user.home.mkdir()
        slash = "/" if user.has_maildir else ""
        files = {
            ".procmailrc": f"DEFAULT={user.mailbox}{slash}\n",
            ".mailfilter": f'LOCKSLEEP=1\nto "{user.mailbox}"\n',
        }
        for name, text in files.items():
            (user.home / name).write_text(text)
            (user.home / name).chmod(0o600)
        if user.has_maildir:
            for part in PARTS:
                (user.mailbox / part).mkdir(0o700, parents=True)
        else:
            user.mailbox.touch(0o660 if user.in_spool else 0o600)
        for path in (user.home, *user.home.rglob("*"), user.mailbox):
            os.chown(path, user.uid, MAIL_GROUP if path == user.mailbox and user.in_spool else user.uid)
        if user.in_spool:
            user.mailbox.chmod(0o660)


def verifier() -> str:
    """The password for popad's credentials file. One iteration: this is about locks and not about the hash."""
    salt = b"sixteen octets.."
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, 1)
    client_key, server_key = (hmac.digest(salted, name, "sha256") for name in (b"Client Key", b"Server Key"))
    keys = (salt, hashlib.sha256(client_key).digest(), server_key)
    return "SCRAM-SHA-256$1:{}${}:{}".format(*(base64.b64encode(octets).decode() for octets in keys))
