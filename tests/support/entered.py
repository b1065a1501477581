"""A command in a Debian tree that has become /, with this host's processes, network and kernel: no machine is booted.

In a PID namespace of its own popad would be in a container.
"""

from __future__ import annotations

from pathlib import Path

SCRIPT = Path(__file__).with_suffix(".sh")
# A layer in memory above the tree, and in it a copy of the checkout, to which other parts of the tests write meanwhile.
LAYERED = """
tree=$1 checkout=$2 place=$3 kept=$4 script=$5
shift 5
mount -t tmpfs -o mode=755 tmpfs "$place"
mkdir "$place/new" "$place/work" "$place/root"
mount -t overlay -o "lowerdir=$tree,upperdir=$place/new,workdir=$place/work" overlay "$place/root"
mkdir -p "$place/root$checkout"
tar -C "$checkout" --exclude=./.git --exclude=__pycache__ -cf - . | tar -C "$place/root$checkout" -xf -
if [ -n "$kept" ]; then
    mkdir -p "$place/root$kept"
    mount --bind "$kept" "$place/root$kept"
fi
exec "$script" "$place/root" "$checkout" "$@"
"""


def entered(tree: Path, directory: str, *command: str) -> list[str]:
    """The command line that runs `command` in `directory` of the tree, and writes to the tree."""
    return [*namespace(), str(SCRIPT), str(tree), directory, *command]


def above(tree: Path, checkout: Path, place: Path, kept: str, *command: str) -> list[str]:
    """The command line that runs `command` in a copy of the checkout, at its path, and leaves tree and checkout alone.

    `place`: an empty directory, for mounts. `kept`: a directory of this host in which what it writes stays, or "".
    """
    words = [str(each) for each in (tree, checkout, place, kept, SCRIPT)]
    return [*namespace(), "sh", "-ec", LAYERED, "sh", *words, *command]


def namespace() -> list[str]:
    """For mounts of one's own. pdeathsig: what is killed takes all that it has started along."""
    unshare = ["unshare", "--mount", "--propagation=private", "--uts", "--ipc", "--fork", "--kill-child=KILL"]
    return ["setpriv", "--pdeathsig", "KILL", *unshare]
