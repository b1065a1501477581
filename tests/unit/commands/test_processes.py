"""commands/processes.py: processes as the kernel has them, and memory files that a session might play tricks with."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popad.commands import processes
from popad.session.shown import NAME
from tests.support.here import ROOT

HERE = os.getpid()


@contextmanager
def memory_file(name: str, content: bytes, owner: int = os.geteuid()) -> Iterator[int]:
    file = os.memfd_create(name)
    os.write(file, content)
    if owner != os.geteuid():
        os.fchown(file, owner, owner)
    try:
        yield file
    finally:
        os.close(file)


def test_this_process() -> None:
    found = processes.look(HERE)
    assert found
    assert (found.pid, found.parent, found.uid) == (HERE, os.getppid(), os.getuid())
    with open("/proc/uptime") as uptime:
        ticks = float(uptime.read().split()[0]) * os.sysconf("SC_CLK_TCK")
    assert 0 < found.started <= ticks
    assert found.group.startswith("/")
    assert HERE in {each.pid for each in processes.everybody()}


def test_a_name_that_looks_like_the_rest_of_the_line() -> None:
    """The name of a process is its own choice, and stands in the middle of what the kernel says."""
    script = "open('/proc/self/comm', 'w').write(') R 1 1 (\\n'); print(flush=True); input()"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as named:
        assert named.stdout and named.stdout.readline()
        found = processes.look(named.pid)
        assert found and found.parent == HERE
        named.communicate(b"\n")


def test_who_has_ended() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert processes.look(ended.pid) is None
    assert processes.arguments(ended.pid) == ()
    assert processes.shown(ended.pid, 0) is None


def test_what_is_shown() -> None:
    with memory_file(f"{NAME} 192.0.2.7 1 2", b"jane: 3 messages\nof the line before"):
        assert processes.shown(HERE, os.geteuid()) == ("192.0.2.7 1 2", "jane: 3 messages")
    assert processes.shown(HERE, os.geteuid()) is None


@pytest.mark.skipif(not ROOT, reason="needs root: gives files away")
def test_a_file_of_the_sessions_own_does_not_count() -> None:
    """Not where it comes first, either: that of root is found behind it."""
    with memory_file(f"{NAME} 192.0.2.66 6 6", b"root: 0 messages\n", owner=65534):
        assert processes.shown(HERE, 0) is None
        with memory_file(f"{NAME} 192.0.2.7 1 2", b"jane: 3 messages\n"):
            assert processes.shown(HERE, 0) == ("192.0.2.7 1 2", "jane: 3 messages")


def test_a_pipe_in_the_place_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put there when its name had been looked at: it is not opened."""
    reading, writing = os.pipe()
    os.close(writing)  # who opens the other end and reads finds nothing, and goes on
    with memory_file(f"{NAME} 192.0.2.7 1 2", b"jane: 3 messages\n") as file:
        look = processes.is_shown
        looks: list[str] = []

        def then_replace(link: str) -> bool:
            if is_it := look(link):
                os.dup2(reading, file)
                looks.append(link)
            return is_it

        monkeypatch.setattr(processes, "is_shown", then_replace)
        assert processes.shown(HERE, os.geteuid()) is None
        assert len(looks) == 1
    os.close(reading)


def test_what_only_has_the_name_of_such_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a file system of a user's own, whose root is not ours: a pipe would hang who opens it, and a device may do
    anything.
    """
    monkeypatch.setattr(processes, "PREFIX", f"{tmp_path}/")
    monkeypatch.setattr(processes, "SUFFIX", "")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"root: 0 messages\n")
    writing = os.open(tmp_path / "pipe", os.O_RDWR)
    os.write(writing, b"x" * 2000)  # who opens it all the same does not wait
    for name in ("pipe", "file"):
        place = os.open(tmp_path / name, os.O_PATH)
        assert processes.is_shown(os.readlink(f"/proc/self/fd/{place}"))
        assert processes.shown(HERE, os.geteuid()) is None
        os.close(place)
    os.close(writing)


def test_only_so_much_is_read() -> None:
    with memory_file(f"{NAME} 192.0.2.7 1 2", b"x" * 1_000_000):
        found = processes.shown(HERE, os.geteuid())
        assert found and len(found[1]) == 1024


def test_the_group_where_systemd_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host with both hierarchies one of them may be empty."""
    process = tmp_path / "7"
    process.mkdir()
    (process / "stat").write_text(f"7 (x) {' '.join(['S', '1', *['0'] * 17, '99'])}\n")
    (process / "status").write_text("Uid:\t0 0 0 0\n")
    monkeypatch.setattr(processes, "PROC", str(tmp_path))
    for text in ("9:name=systemd:/\n0::/system.slice/x.service\n", "1:name=systemd:/system.slice/x.service\n0::/\n"):
        (process / "cgroup").write_text(f"8:pids:/other\n{text}")
        found = processes.look(7)
        assert found
        assert (found.group, found.started) == ("/system.slice/x.service", 99)
