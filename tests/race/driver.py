"""Runs a race in namespaces of its own, and returns its figures."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.support.here import CHECKOUT

from .programs import NAMESPACE, all_trees

# More processes than processors: all of these programs wait for a lock file in whole seconds.
WAYS = (*["procmail"] * 4, *["maildrop"] * 3, *["exim"] * 2, "dotlockfile", "mutt_dotlock")
# Into Maildirs; dovecot-lda stands for Dovecot's LMTP, too.
MAILDIR_WAYS = ("procmail", *["maildrop"] * 2, "exim", *["dovecot_lda"] * 2, "postfix_local", "postfix_virtual")
DEFAULTS: dict[str, Any] = {
    "deliveries": 20_000,
    "seconds": 600,
    "users": 6,  # of each kind
    "clients": 3,
    "ways": (),  # those above
    "maildirs": False,  # in place of mbox files
    "kill": False,
    "set": (),  # NAME=VALUE: popad's settings
    "without_locks": False,
}


def race(**options: Any) -> dict[str, Any]:
    """The figures of a run (verdict.Verdict). Raises programs.Unavailable where it cannot run."""
    arguments = {**DEFAULTS, **options}
    arguments["ways"] = arguments["ways"] or (MAILDIR_WAYS if arguments["maildirs"] else WAYS)
    arguments["programs"] = [str(tree) for tree in all_trees()]
    arguments.setdefault("seed", int.from_bytes(os.urandom(4), "big"))
    program = [sys.executable, "-B", "-m", "tests.race.world", json.dumps(arguments)]
    done = subprocess.run(
        [*NAMESPACE, *program], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True, timeout=arguments["seconds"] + 600
    )
    if done.returncode:
        raise RuntimeError(f"the race ended with status {done.returncode}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures
