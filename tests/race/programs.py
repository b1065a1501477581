"""Debian's delivery programs and lock tools, unpacked into the cache and not installed."""

import fcntl
import shutil
import subprocess
from pathlib import Path

from tests.support import here

CACHE = here.CACHE / "race"
PACKAGES = ("procmail", "maildrop", "exim4-daemon-light", "liblockfile-bin", "mutt")
PROGRAMS = ("procmail", "lockfile", "maildrop", "dotlockfile", "mutt_dotlock")


class Unavailable(Exception):
    """This machine cannot run the race; the text says why."""


def require() -> Path:
    """The tree of the programs. Raises Unavailable where that cannot be had, or a namespace cannot be made."""
    if not here.ROOT:
        raise Unavailable("needs root: mount namespaces, and programs that become other users")
    if missing := [tool for tool in ("unshare", "apt-get", "dpkg-deb", "mount") if shutil.which(tool) is None]:
        raise Unavailable(f"not installed: {' '.join(missing)}")
    tried = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)
    if tried.returncode:
        raise Unavailable(f"no namespaces: {tried.stderr.strip()}")
    return tree()


# No process, mount or network of what runs here is left behind or reaches the host's.
NAMESPACE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--net")


def tree() -> Path:
    """The packages with all that they need and this host does not have, as they would be below /."""
    CACHE.mkdir(parents=True, exist_ok=True)
    made = CACHE / "root"
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            unpack(made)
    return made


def unpack(made: Path) -> None:
    archives = CACHE / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    fetch = ["apt-get", "-qq", "-y", "-o", "DPkg::Lock::Timeout=600", "-o", f"Dir::Cache::archives={archives}"]
    fetch += ["--download-only", "--reinstall", "--no-install-recommends", "install", *PACKAGES]
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
    shutil.rmtree(unfinished / "usr/share")
    unfinished.rename(made)
