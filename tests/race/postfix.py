"""Postfix in the race's namespace: its local(8) and virtual(8) deliver into Maildirs."""

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

USER, GROUP = 61948, 61949  # postfix, and the group postdrop
LOCAL, VIRTUAL = "race.test", "virtual.test"  # domains
LOG = "/var/log/postfix.log"
PLACES = {"queue_directory": "/var/spool/postfix", "data_directory": "/var/lib/postfix"}

MAIN = f"""
compatibility_level = 3.6
{"".join(f"{name} = {place}" + chr(10) for name, place in PLACES.items())}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
myhostname = {LOCAL}
mydestination = {LOCAL}
inet_interfaces = loopback-only
maillog_file = {LOG}
alias_maps =
home_mailbox = Maildir/
virtual_mailbox_domains = {VIRTUAL}
virtual_mailbox_base = /home
virtual_mailbox_maps = texthash:/etc/postfix/mailboxes
virtual_uid_maps = texthash:/etc/postfix/owners
virtual_gid_maps = texthash:/etc/postfix/owners
virtual_mailbox_limit = 0
mailbox_size_limit = 0
message_size_limit = 100000000
smtputf8_enable = no
"""
MASTER = """
pickup    unix      n - n 1   1 pickup
cleanup   unix      n - n -   0 cleanup
qmgr      unix      n - n 300 1 qmgr
rewrite   unix      - - n -   - trivial-rewrite
bounce    unix      - - n -   0 bounce
defer     unix      - - n -   0 bounce
trace     unix      - - n -   0 bounce
error     unix      - - n -   - error
retry     unix      - - n -   - error
local     unix      - n n -   - local
virtual   unix      - n n -   - virtual
postlog   unix-dgram n - n -  1 postlogd
"""


def furnish(names: Sequence[tuple[str, int]]) -> None:
    """Its files and directories. `names`: users, and their ids."""
    place = Path("/etc/postfix")
    (place / "main.cf").write_text(MAIN)
    (place / "master.cf").write_text(MASTER)
    (place / "mailboxes").write_text("".join(f"{name}@{VIRTUAL} {name}/Maildir/\n" for name, _ in names))
    (place / "owners").write_text("".join(f"{name}@{VIRTUAL} {uid}\n" for name, uid in names))
    for directory in PLACES.values():
        Path(directory).mkdir()
    os.chown(PLACES["data_directory"], USER, USER)


def start() -> None:
    run("start")


def stop() -> None:
    run("stop")


def run(verb: str) -> None:
    """Raises RuntimeError with its log."""
    done = subprocess.run(["postfix", verb], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode:
        log = Path(LOG)
        raise RuntimeError(f"postfix {verb}: {log.read_text() if log.exists() else 'no log'}")


def flush(seconds: float) -> bool:
    """Whether it has delivered all that it had accepted."""
    deadline = time.monotonic() + seconds
    while subprocess.run(["postqueue", "-j"], capture_output=True, check=True).stdout:
        if time.monotonic() > deadline:
            return False
        subprocess.run(["postqueue", "-f"], check=True)
        time.sleep(0.2)  # it has no way to be waited for
    return True
