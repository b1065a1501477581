"""Debian's Prometheus, unpacked into the cache and not installed, which would start it: promtool, and a server that
scrapes a machine.
"""

import contextlib
import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import unpacked
from tests.support.machine import Machine
from tests.support.patience import PATIENCE, wait_until

PORT = 9090


def program(name: str) -> Path:
    """`prometheus` or `promtool`. Raises unpacked.Unavailable."""
    unpacked.require(["unshare", "--mount"])
    return unpacked.tree("prometheus", ["prometheus"]) / "usr/bin" / name


def promtool(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """What promtool says. Raises unpacked.Unavailable."""
    command = [program("promtool"), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=PATIENCE)


class Prometheus:
    """A server in a machine's network, and what it knows."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def ask(self, what: str, **arguments: str) -> Any:
        """The data of an answer of its API, version 1."""
        url = f"http://127.0.0.1:{PORT}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"

        def get() -> Any:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return json.load(answer)

        answer = self.machine.inside(get)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression, as they are now."""
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def value(self, expression: str) -> float:
        """Of an expression with one series; -1 where it has none yet."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else -1.0


@contextlib.contextmanager
def scraping(machine: Machine, configuration: str, place: Path) -> Iterator[Prometheus]:
    """A server with this prometheus.yml; `place`: an empty directory for what it has."""
    server = program("prometheus")
    (place / "prometheus.yml").write_text(configuration)
    options = [f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data"]
    enter = ["nsenter", f"--net=/proc/{machine.pid}/ns/net", "--"]
    with (place / "log").open("w") as log:
        running = subprocess.Popen([*enter, server, *options, f"--web.listen-address=127.0.0.1:{PORT}"], stderr=log)
        try:
            prometheus = Prometheus(machine)
            wait_until(lambda: running.poll() is not None or answers(prometheus), pause=0.1)
            assert running.poll() is None, (place / "log").read_text()
            yield prometheus
        finally:
            running.terminate()
            running.wait(PATIENCE)


def answers(prometheus: Prometheus) -> bool:
    """Whether it is up."""
    try:
        prometheus.ask("status/buildinfo")
    except OSError:
        return False
    return True
