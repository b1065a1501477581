"""auth/loaded.py, and what follows: a real PAM module and a library are replaced under a helper that runs."""

import os
import shutil
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from popad.auth import loaded
from popad.auth.loaded import PAUSE, Loaded
from tests.support import private
from tests.support.daemon import daemon
from tests.support.patience import PATIENCE, wait_until
from tests.support.serving import Server

# ANSWER is what it says of a password. The user "bin" waits for somebody to write to the FIFO of its argument.
MODULE = """
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
int pam_get_item(const void *handle, int item, const void **value);
int pam_sm_authenticate(void *handle, int flags, int argc, const char **argv)
{
    const char *name = "";
    char octet;
    pam_get_item(handle, 2, (const void **)&name);
    if (!strcmp(name, "bin")) {
        int fd = open(argv[0], O_RDONLY);
        if (read(fd, &octet, 1) != 1)
            return 4;
        close(fd);
    }
    return ANSWER;
}
int pam_sm_acct_mgmt(void *handle, int flags, int argc, const char **argv) { return 0; }
"""
PASSES, FAILS = 0, 7  # PAM_SUCCESS, PAM_AUTH_ERR

# Verdicts before, of a request that is under way, and after; who answers.
HELPER = """
import json, os, socket, subprocess, sys, time
from tests.support.serving import PYTHON, handed_over
from tests.support.patience import PATIENCE
path, module, other, fifo = json.load(sys.stdin)

def packed(*fields):
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)

def ask(name):
    one = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.settimeout(PATIENCE)
    one.connect(path)
    preauth, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with preauth, theirs:
        socket.send_fds(one, [packed(b"", b"", b"")], [theirs.fileno()])
        preauth.send(packed(b"USER", name, b"secret"))
    return one

def verdict(one):
    with one:
        return one.recv(70000)[4:10].decode()

listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listening.bind(path)
listening.listen()
process = subprocess.Popen(
    handed_over(listening, PYTHON, "-m", "popad", "auth-helper"), pass_fds=[listening.fileno()],
    env={"PATH": os.defpath, "POPAD_GUESS_DELAY": "0", "POPAD_AUTH_IDLE": "1"},
)
before = verdict(ask(b"games"))
under_way = ask(b"bin")
write = os.open(fifo, os.O_WRONLY)  # waits for the module
os.replace(other, module)
deadline, heard = time.monotonic() + PATIENCE / 2, []
while "failed" not in heard and time.monotonic() < deadline:
    heard.append(verdict(ask(b"games")))
os.write(write, b"x")
old = verdict(under_way)
alive = process.poll() is None
again = verdict(ask(b"games"))
fds = len(os.listdir("/proc/%d/fd" % process.pid))
process.kill()
process.wait()
print(json.dumps([before, heard, old, alive, again, fds]))
"""


def compiled(path: Path, source: str, *options: str) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc: makes libraries that differ")
    source_file = path.with_suffix(".c")
    source_file.write_text(source)
    command = ["gcc", "-shared", "-fPIC", "-o", str(path), str(source_file), *options]
    built = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert built.returncode == 0, built.stderr.decode()
    return path


def test_a_replaced_module_is_used(tmp_path: Path) -> None:
    """By the first login a second later, in the same process to systemd; who was about to log in has an answer."""
    private.needs_a_namespace()
    old, new = (
        compiled(tmp_path / f"pam_{answer}.so", MODULE, f"-DANSWER={answer}", "-l:libpam.so.0")
        for answer in (PASSES, FAILS)
    )
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    shutil.copytree("/etc/pam.d", services := tmp_path / "pam.d")
    (services / "popad").write_text(f"auth required {old} {fifo}\naccount required {old}\n")
    request = [str(tmp_path / "socket"), str(old), str(new), str(fifo)]
    answers = private.run(HELPER, {"/etc/pam.d": services}, request)
    assert isinstance(answers, list)
    before, heard, under_way, alive, again, fds = answers
    assert (before, under_way, alive, again) == ("passed", "passed", True, "failed")
    assert heard[-1] == "failed"
    assert fds < 20  # nothing of the first life is left open


def test_a_file_that_is_replaced_under_the_daemon(server: Server) -> None:
    """Its helper leaves, and the next one answers; no event, as nothing is wrong. Once: what the daemon itself has
    loaded stays as it was, and starts no chain of helpers.
    """
    server.deliver(b"")
    library = compiled(server.path / "libpopad-test.so", "int popad_test;\n")
    with daemon(
        server, {"POPAD_MAX_SESSIONS_PER_SOURCE": "10000"}, environment={"LD_PRELOAD": str(library)}
    ) as running:

        def log_in() -> int:
            with closing(running.connect()) as client:
                assert client.log_in().startswith(b"+OK")
            return running.helper

        first = log_in()
        shutil.copy(library, server.path / "other")
        os.replace(server.path / "other", library)
        wait_until(lambda: log_in() != first)
        second = running.helper
        enough = time.monotonic() + 3 * PAUSE
        while time.monotonic() < enough:
            assert log_in() == second
        assert "helper-died" not in server.events


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two mapped libraries, a memory file and a data file."""
    lines = [
        f"7f00-7f01 r-xp 00000000 08:01 1  {tmp_path}/liba.so",
        f"7f01-7f02 r--p 00001000 08:01 1  {tmp_path}/liba.so",
        f"7f02-7f03 r-xp 00000000 08:01 2  {tmp_path}/with a space.so",
        f"7f03-7f04 r--p 00000000 08:01 3  {tmp_path}/data",
        "7f04-7f05 rwxs 00000000 00:01 4  /memfd:libffi (deleted)",
        "7f05-7f06 r-xp 00000000 00:00 0  [vdso]",
        "7f06-7f07 rwxp 00000000 00:00 0 ",
    ]
    (tmp_path / "maps").write_text("\n".join(lines) + "\n")
    for name in ("liba.so", "with a space.so", "data"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(loaded, "MAPS", str(tmp_path / "maps"))
    return tmp_path


def replace(path: Path) -> None:
    path.with_suffix(".new").write_text(path.read_text())
    path.with_suffix(".new").replace(path)


def touch(path: Path) -> None:
    os.utime(path, ns=(0, 1))


@pytest.mark.parametrize("change", [replace, touch, Path.unlink])
@pytest.mark.parametrize(("name", "outdated"), [("liba.so", True), ("with a space.so", True), ("data", False)])
def test_what_makes_it_outdated(files: Path, change: "object", name: str, outdated: bool) -> None:
    assert callable(change)
    clock = Clock()
    seen = Loaded(clock)
    clock.now += PAUSE
    assert not seen.is_outdated()
    change(files / name)
    clock.now += PAUSE
    assert seen.is_outdated() is outdated


def test_files_that_change_all_the_time_make_no_loop(files: Path) -> None:
    """A process lives for a second at least, and one that finds them changed already is not outdated by that."""
    clock = Clock()
    seen = Loaded(clock)
    replace(files / "liba.so")
    clock.now += PAUSE / 2
    assert not seen.is_outdated()
    clock.now += PAUSE
    assert seen.is_outdated()
    (files / "liba.so").unlink()
    clock.now += PAUSE
    assert not Loaded(clock).is_outdated()


def test_what_a_child_loads_later_is_seen_as_well(files: Path) -> None:
    clock = Clock()
    seen = Loaded(clock)
    with (files / "maps").open("a") as maps:
        maps.write(f"7f07-7f08 r-xp 00000000 08:01 5  {files}/late.so\n")
    (files / "late.so").write_text("late")
    clock.now += PAUSE
    assert not seen.is_outdated()
    replace(files / "late.so")
    clock.now += PAUSE
    assert seen.is_outdated()


def test_without_proc(files: Path) -> None:
    (files / "maps").unlink()
    clock = Clock()
    seen = Loaded(clock)
    clock.now += PAUSE
    assert not seen.is_outdated()


def test_this_process() -> None:
    """Its C library is among them."""
    assert any("/libc.so" in path or "/libc-" in path for path in Loaded().seen)
