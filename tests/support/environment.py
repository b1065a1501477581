"""Virtual environments in the cache, for what the tests need of PyPI."""

import fcntl
import hashlib
import subprocess
from pathlib import Path

from tests.support.here import CACHE

PYTHON = "/usr/bin/python3"


def environment(name: str, requirement: str) -> Path:
    """The Python of one that has a requirement; made where it is missing. Raises CalledProcessError."""
    version = subprocess.run([PYTHON, "--version"], capture_output=True, check=True).stdout
    key = hashlib.sha256(requirement.encode() + version).hexdigest()[:12]
    place = CACHE / f"{name}-venv-{key}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}-venv.lock", "w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        if not (place / "complete").exists():
            subprocess.run([PYTHON, "-m", "venv", "--clear", "--system-site-packages", place], check=True)
            pip = [str(place / "bin/pip"), "-q", "--disable-pip-version-check", "install"]
            subprocess.run([*pip, "--only-binary", ":all:", requirement], check=True)
            (place / "complete").touch()
    return place / "bin/python"
