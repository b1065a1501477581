"""Dovecot's POP3 server, from packages that are not installed: they would start it, and remove another one."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support import unpacked
from tests.support.daemon import free_ports, listens
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import NAME, PASSWORD

PACKAGES = ("dovecot-pop3d",)
NAMESPACE = ("unshare", "--mount", "--propagation", "private")

CONFIGURATION = """
base_dir = {place}/run
protocols = pop3
log_path = {place}/log
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain scram-sha-256
auth_failure_delay = 0
mail_location = mbox:{place}/mail:INBOX={place}/inbox
first_valid_uid = 1
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    address = 127.0.0.1
    port = {port}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
passdb {{
  driver = passwd-file
  args = {place}/users
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home={place}
}}
"""


def require() -> Path:
    """The tree of its packages. Raises unpacked.Unavailable."""
    unpacked.require(NAMESPACE)
    return unpacked.tree("dovecot", PACKAGES)


@contextlib.contextmanager
def dovecot(place: Path, configuration: str = CONFIGURATION) -> Iterator[int]:
    """Its port. Raises unpacked.Unavailable."""
    tree = require()
    (port,) = free_ports(socket.AF_INET, "127.0.0.1")
    (place / "mail").mkdir(parents=True)
    (place / "inbox").touch()
    for each in (place, place / "mail", place / "inbox"):
        os.chown(each, 65534, 65534)
    (place / "users").write_text(f"{NAME}:{{PLAIN}}{PASSWORD}\n")
    (place / "conf").write_text(configuration.format(place=place, port=port))
    command = unpacked.seen(tree, "dovecot dovenull", "dovecot", "-F", "-c", str(place / "conf"))
    process = subprocess.Popen([*NAMESPACE, *command], stdin=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or listens(port))
        assert process.poll() is None, (place / "log").read_text()
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)
