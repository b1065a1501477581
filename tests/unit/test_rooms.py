"""What the house promises of its tests: who uses whom, what a test run leaves as it was, and that nobody sleeps."""

import ast
import io
import re
import socket
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import free_ports
from tests.support.here import CHECKOUT

TESTS = CHECKOUT / "tests"
FILES = sorted([*TESTS.rglob("*.py"), *TESTS.rglob("run")])


def tree_of(path: Path) -> ast.Module | None:
    """None for what is written in another language."""
    text = path.read_text()
    return ast.parse(text) if path.suffix == ".py" or text.startswith("#!/usr/bin/python3") else None


def imports(path: Path) -> Iterator[str]:
    """The modules of tests/ that a file imports, by their full names."""
    package = ".".join(path.parent.relative_to(CHECKOUT).parts)
    for node in ast.walk(tree_of(path) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = f"{package}.{node.module or ''}".strip(".") if node.level else str(node.module)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def test_no_test_imports_a_test_or_another_part() -> None:
    """What several use is in tests/support, which uses no part."""
    for path in FILES:
        found = {name for name in imports(path) if name.startswith("tests.")}
        assert not [name for name in found if ".test_" in name], path
        here = path.relative_to(TESTS).parts
        rooms = {"support"} | ({here[0]} if len(here) > 1 and here[0] != "unit" else set())
        assert {name.split(".")[1] for name in found} <= rooms, path


# Nobody waits by sleeping but patience.wait_until(). Who sleeps for another reason, and how often.
SLEEPS = {
    "support/patience.py": (1, "the wait"),
    "race/world.py": (1, "how far it is is said from time to time"),
    "race/clients.py": (1, "a session is killed at any moment"),
    "bench/servers.py": (1, "popa3d's slots are free again after a time, which nothing announces"),
    "race/postfix.py": (1, "Postfix has no way to be waited for"),
    "bench/works.py": (2, "memory is looked at until it stays the same; polls are not one behind the other"),
    "bench/soak.py": (3, "the load goes on for a time, and is looked at from time to time"),
    "cluster/clients.py": (1, "a client's own work"),
    "cluster/trial.py": (2, "the load goes on for a time"),
    "gallery/__main__.py": (2, "the load goes on for a time"),
    "system/flood.py": (3, "the load goes on for a time"),
    "system/test_changes.py": (2, "a client pauses, in its session and before it comes again"),
    "system/test_limits.py": (1, "a slow line"),
    "clients/test_haproxy.py": (1, "HAProxy looks again and again whether there is a server"),
    "unit/daemon/test_supervisor.py": (1, "nothing happens for a time"),
    "unit/maildrop/mbox/test_first_scan.py": (1, "another process hangs"),
    "unit/maildrop/mbox/test_parallel.py": (2, "one process is slower than the other"),
    "unit/privsep/test_proxied.py": (1, "a process hangs"),
    "unit/net/test_connection.py": (1, "a slow line"),
    "unit/session/test_postauth.py": (1, "a slow line"),
    "unit/session/test_preauth.py": (1, "time goes by that does not count"),
    "unit/test_notify.py": (1, "a slow line"),
    "unit/tls/test_start.py": (1, "a segment that comes at any moment"),
}


def test_nobody_sleeps_to_wait() -> None:
    found: dict[str, int] = {}
    for path in FILES:
        for node in ast.walk(tree_of(path) or ast.Module([], [])):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep"):
                found[str(path.relative_to(TESTS))] = found.get(str(path.relative_to(TESTS)), 0) + 1
    assert found == {name: count for name, (count, _) in SLEEPS.items()}


def test_what_the_type_checker_is_not_to_see_has_a_reason() -> None:
    for path in FILES:
        if tree_of(path):
            for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
                if token.type == tokenize.COMMENT and "type: ignore" in token.string:
                    assert re.search(r"type: ignore\[[a-z-]+\]  # \w", token.string), f"{path}: {token.line}"


PROGRAM = "tests.clients.fetch_poplib"  # runs when it is imported
# Imports all of popad, then all of the tests, and prints which names of popad's modules and classes are others then.
LOOK = """
import importlib, inspect, pkgutil, sys
import popad
def known():
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] == "popad":
            for key, value in vars(module).items():
                yield f"{name}.{key}", value
                if inspect.isclass(value) and value.__module__ == name:
                    yield from ((f"{name}.{key}.{inner}", made) for inner, made in vars(value).items())
for found in pkgutil.walk_packages(popad.__path__, "popad."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
before = dict(known())
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as missing:  # a tool that is not installed where only checks run
        if missing.name.partition(".")[0] in ("popad", "tests"):
            raise
after = dict(known())
skipped = ("__doc__", "__builtins__")
print(*[name for name in before if after[name] is not before[name] and not name.endswith(skipped)])
"""


def test_importing_a_test_changes_nothing_of_popad() -> None:
    """What a test needs otherwise it changes for itself, and changes back."""
    named = {".".join(path.relative_to(CHECKOUT).with_suffix("").parts) for path in FILES if path.suffix == ".py"}
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *sorted(named - {PROGRAM})], cwd=CHECKOUT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("part", ["bench", "faults", "race", "uids", "fuzz"])
def test_a_run_says_what_it_can_without_what_it_needs(part: str, tmp_path: Path) -> None:
    """--help, where neither pytest nor hypothesis nor matplotlib is installed."""
    for name in ("pytest", "hypothesis", "matplotlib"):
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    run = [str(TESTS / part / "run"), "--help"]
    done = subprocess.run(
        run, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {'tests/' * (part in ('bench', 'fuzz'))}")


def test_a_free_port_is_nobody_elses() -> None:
    (port,) = free_ports(socket.AF_INET, "127.0.0.1")
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))
    with socket.socket() as client, pytest.raises(ConnectionRefusedError):
        client.connect(("127.0.0.1", port))
    with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(server.getsockname()):
        server.accept()[0].close()
