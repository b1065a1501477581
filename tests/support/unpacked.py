"""Debian packages that are unpacked into the cache and not installed: programs that others conflict with, or that would
start a service of their own.
"""

import fcntl
import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support import here

SCRIPT = Path(__file__).with_suffix(".sh")


class Unavailable(Exception):
    """This machine cannot run the programs; the text says why."""


def require(namespace: Sequence[str]) -> None:
    """Raises Unavailable where packages cannot be had, or `namespace` (a command line of unshare) cannot be made."""
    if not here.ROOT:
        raise Unavailable("needs root: mount namespaces, and programs that become other users")
    if missing := [tool for tool in ("unshare", "apt-get", "dpkg-deb", "mount") if shutil.which(tool) is None]:
        raise Unavailable(f"not installed: {' '.join(missing)}")
    tried = subprocess.run([*namespace, "true"], capture_output=True, text=True)
    if tried.returncode:
        raise Unavailable(f"no namespaces: {tried.stderr.strip()}")


def tree(name: str, packages: Sequence[str]) -> Path:
    """The packages with all that they need and this host does not have, as they would be below /. `name`: of their
    place in the cache. Raises Unavailable.
    """
    place = here.CACHE / name
    place.mkdir(parents=True, exist_ok=True)
    made = place / f"root-{hashlib.sha256(' '.join(packages).encode()).hexdigest()[:12]}"
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            unpack(place / "archives", packages, made)
    return made


def seen(tree: Path, users: str, *command: str) -> list[str]:
    """The command line that runs `command`, in a mount namespace of its own, where the tree is in / (unpacked.sh)."""
    return [str(SCRIPT), str(tree), users, *command]


def unpack(archives: Path, packages: Sequence[str], made: Path) -> None:
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    fetch = ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", f"Dir::Cache::archives={archives}"]
    fetch += ["--download-only", "--reinstall", "--no-install-recommends", "install", *packages]
    fetched = subprocess.run(fetch, capture_output=True, text=True)
    if fetched.returncode:
        subprocess.run(["apt-get", "-qq", "update"], capture_output=True)
        fetched = subprocess.run(fetch, capture_output=True, text=True)
    if fetched.returncode:
        raise Unavailable(f"apt-get --download-only: {fetched.stderr.strip()}")
    unfinished = made.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, unfinished], check=True)
    # Packages of Debian 12 may still have files in /lib and /sbin, which are links into /usr on the host.
    for name in ("lib", "bin", "sbin"):
        if (place := unfinished / name).is_dir():
            shutil.copytree(place, unfinished / "usr" / name, symlinks=True, dirs_exist_ok=True)
            shutil.rmtree(place)
    shutil.rmtree(archives)
    for unused in ("doc", "man", "locale", "info", "lintian"):
        shutil.rmtree(unfinished / "usr/share" / unused, ignore_errors=True)
    unfinished.rename(made)
