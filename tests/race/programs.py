"""Debian's delivery programs and lock tools, unpacked into the cache and not installed."""

from pathlib import Path

from tests.support import unpacked
from tests.support.unpacked import Unavailable

__all__ = ["NAMESPACE", "Unavailable", "require", "tree"]

PACKAGES = ("procmail", "maildrop", "exim4-daemon-light", "liblockfile-bin", "mutt")

# No process, mount or network of what runs here is left behind or reaches the host's.
NAMESPACE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--net")


def require() -> Path:
    """The tree of the programs. Raises Unavailable where that cannot be had, or a namespace cannot be made."""
    unpacked.require(NAMESPACE)
    return tree()


def tree() -> Path:
    """The packages with all that they need and this host does not have, as they would be below /."""
    return unpacked.tree("race", PACKAGES)
