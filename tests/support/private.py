"""Python code that runs with /run, /etc/passwd or /etc/pam.d of its own: a mount namespace, gone with the process."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.here import CHECKOUT, ROOT
from tests.support.patience import PATIENCE
from tests.support.serving import PYTHON


def needs_a_namespace() -> None:
    """Skip where there can be none."""
    if not ROOT:
        pytest.skip("needs root: mounts in a namespace of its own")
    if not shutil.which("unshare"):
        pytest.skip("needs unshare (util-linux)")


def run(code: str, binds: Mapping[str, Path], request: object = None, environment: Mapping[str, str] = {}) -> object:
    """Run `code` where each path of `binds` shows another file or directory. `request` goes in as JSON on stdin.

    Returns what the code prints, read as JSON.
    """
    needs_a_namespace()
    mounts = "; ".join(f"mount --bind {source} {target}" for target, source in binds.items())
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f'{mounts}; exec {PYTHON} -c "$1"', "sh", code],
        cwd=CHECKOUT,
        env={"PATH": os.defpath, **environment},
        input=json.dumps(request).encode(),
        capture_output=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)
