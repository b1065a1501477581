"""Debian's delivery programs and lock tools, unpacked into the cache and not installed."""

from pathlib import Path

from tests.support import unpacked
from tests.support.unpacked import Unavailable

__all__ = ["NAMESPACE", "Unavailable", "all_trees", "require", "tree"]

PACKAGES = ("procmail", "maildrop", "exim4-daemon-light", "liblockfile-bin", "mutt", "dovecot-core")
POSTFIX = ("postfix",)  # which apt does not have beside exim

# No process, mount or network of what runs here is left behind or reaches the host's.
NAMESPACE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--net")


def require() -> Path:
    """The tree of all but Postfix. Raises Unavailable where that cannot be had, or a namespace cannot be made."""
    unpacked.require(NAMESPACE)
    return tree()


def all_trees() -> list[Path]:
    """With Postfix. Raises Unavailable."""
    return [require(), unpacked.tree("race-postfix", POSTFIX)]


def tree() -> Path:
    """The packages with all that they need and this host does not have, as they would be below /."""
    return unpacked.tree("race", PACKAGES)
