"""Debian's CrowdSec, unpacked into the cache and not installed: it reads a machine's journal, from outside."""

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support import unpacked
from tests.support.machine import Machine
from tests.support.patience import PATIENCE, wait_until

# In place of Debian's: without a place outside that learns of it, and with all that it writes in one directory.
CONFIGURATION = """
common: {{daemonize: false, log_media: stdout, log_level: info}}
config_paths:
  config_dir: {place}/etc
  data_dir: {place}
  simulation_path: {place}/etc/simulation.yaml
  hub_dir: {place}/hub
  index_path: {place}/hub/.index.json
  notification_dir: {place}
  plugin_dir: {place}
crowdsec_service: {{acquisition_dir: {place}/etc/acquis.d}}
cscli: {{output: human}}
db_config: {{type: sqlite, db_path: {place}/crowdsec.db}}
api:
  client: {{credentials_path: {place}/credentials.yaml}}
  server: {{listen_uri: "127.0.0.1:{port}", profiles_path: {place}/etc/profiles.yaml}}
prometheus: {{enabled: false}}
"""
# What it calls to read the journal: the machine's, in place of this host's.
JOURNALCTL = '#!/bin/sh\necho "$@" >{place}/asked\nexec nsenter --all --target {pid} -- journalctl "$@"\n'
OF_THE_HUB = ("s00-raw/crowdsecurity/syslog-logs.yaml", "s02-enrich/crowdsecurity/dateparse-enrich.yaml")


class Crowdsec:
    """One that runs, with its files in a directory."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def install(self, source: Path, path: str) -> None:
        """A file of its configuration; `path` as below /etc/crowdsec."""
        target = self.place / "etc" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    def banned(self) -> set[str]:
        """The addresses that it has decided to ban."""
        with contextlib.closing(sqlite3.connect(f"file:{self.place}/crowdsec.db?mode=ro", uri=True)) as database:
            return {value for (value,) in database.execute("SELECT value FROM decisions WHERE type = 'ban'")}


def prepared(place: Path) -> Crowdsec:
    """Debian's configuration, in an empty directory, with those rules of its hub that all need. Raises Unavailable."""
    unpacked.require(["unshare", "--mount"])
    tree = unpacked.tree("crowdsec", ["crowdsec"])
    crowdsec = Crowdsec(place)
    shutil.copytree(tree / "etc/crowdsec/patterns", place / "etc/patterns")
    for name in ("simulation.yaml", "profiles.yaml"):
        crowdsec.install(tree / "etc/crowdsec" / name, name)
    hub = tree / "usr/share/crowdsec/hub"
    (place / "hub").mkdir()
    shutil.copy(hub / ".index.json", place / "hub")
    for name in OF_THE_HUB:
        stage, _, file = name.split("/")
        crowdsec.install(hub / "parsers" / name, f"parsers/{stage}/{file}")
    return crowdsec


@contextlib.contextmanager
def reading(crowdsec: Crowdsec, machine: Machine) -> Iterator[None]:
    """Have it read the machine's journal from now on."""
    place, programs = crowdsec.place, unpacked.tree("crowdsec", ["crowdsec"]) / "usr/bin"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (place / "config.yaml").write_text(CONFIGURATION.format(place=place, port=port))
    (place / "credentials.yaml").write_text(f"url: http://127.0.0.1:{port}\n")
    add = ["machines", "add", "popad", "--auto", "-f", f"{place}/credentials.yaml", "-u", f"http://127.0.0.1:{port}"]
    subprocess.run([programs / "cscli", "-c", place / "config.yaml", *add], check=True, capture_output=True)
    shim = place / "bin/journalctl"
    shim.parent.mkdir()
    shim.write_text(JOURNALCTL.format(place=place, pid=machine.pid))
    shim.chmod(0o755)
    environment = {"PATH": f"{shim.parent}:{os.environ['PATH']}"}
    with (place / "log").open("w") as log:
        command = [str(programs / "crowdsec"), "-c", str(place / "config.yaml")]
        running = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            wait_until(lambda: running.poll() is not None or (place / "asked").exists(), pause=0.1)
            assert running.poll() is None, (place / "log").read_text()
            yield
        finally:
            running.terminate()
            running.wait(PATIENCE)
