"""tests/run on a clean Debian 12: a tree with what every system has and nothing else, and in it a fresh clone.

    tests/run --clean [PART…]               in /root/popad, below a directory that only root may enter
    tests/run --clean=DIRECTORY [PART…]     in DIRECTORY of the tree, /srv/popad, say

Only what is committed is in it. The tree is made anew each time, in $POPAD_TEST_CACHE, and goes when the run ends. It
has this host's network and kernel, and this host's way to the package mirrors (their names, the resolver, proxies,
certificates). Files and mounts are its own; processes are not: in a PID namespace popad would be in a container.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))

from tests.support.entered import entered
from tests.support.here import CACHE
from tests.support.machine import APT_SETTINGS, sources

RELEASE = "bookworm"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
THERE = "/usr/local/share/host-certificates.crt"
# Of the environment: how the mirrors are reached, and what a terminal is.
PASSED_ON: tuple[str, ...] = ("CI", "TERM", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_DEFAULT_TIMEOUT")
PASSED_ON += ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def make(tree: Path, directory: str) -> None:
    """Debian's minbase, this host's way to the mirrors, and a clone of the checkout."""
    print(f"making a clean {RELEASE}", flush=True)
    subprocess.run(
        ["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", RELEASE, str(tree), "-"],
        input="\n".join(sources(RELEASE)),
        text=True,
        check=True,
    )
    settings = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    (tree / "etc/apt/apt.conf.d/99host").write_text("\n".join(APT_SETTINGS.findall(settings)) + "\n")
    (tree / "etc/resolv.conf").write_text(Path("/etc/resolv.conf").read_text())
    (tree / "etc/hostname").write_text("clean\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost clean\n::1 localhost\n")
    if CERTIFICATES.exists():
        shutil.copy(CERTIFICATES, tree / THERE.lstrip("/"))
    clone = tree / directory.lstrip("/")
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(CHECKOUT), str(clone)], check=True)


def run(tree: Path, directory: str, parts: list[str]) -> int:
    """tests/run in the tree. Returns its exit status."""
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment |= {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    if CERTIFICATES.exists():
        environment |= {"PIP_CERT": THERE}
    words = [f"{name}={value}" for name, value in environment.items()]
    command = entered(tree, directory, "env", "-i", *words, "tests/run", *parts)
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode


def remove(tree: Path) -> None:
    """Nothing is mounted in it out here; if something were, it would stay."""
    subprocess.run(["rm", "-rf", "--one-file-system", str(tree)], check=True)


def main() -> int:
    directory, *parts = sys.argv[1:]
    tree = CACHE / "clean"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "clean.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            remove(tree)  # of a run that was killed
            make(tree, directory)
            return run(tree, directory, parts)
        finally:
            remove(tree)


if __name__ == "__main__":
    sys.exit(main())
