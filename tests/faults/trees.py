"""Directories below a root, as they are, and as a loss of power may leave them: power.py's model, with directories.

fsync(2) of a file makes its data durable, fsync of a directory its names. Of what came since, any may be there: each
name and each sector for itself, also the two names of a rename. A directory that has no durable name is gone with all
that is in it, durable or not.
"""

import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.interposer import Call, Kind
from tests.faults.power import File

SHARES = (0.0, 1.0, 0.5, 0.1, 0.9)
Snapshot = dict[str, bytes | None]  # relative path: octets of a file, None for a directory


def snapshot(root: Path) -> Snapshot:
    """All that is below it, directories before what they have."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in sorted(root.rglob("*"))
    }


def restore(root: Path, wanted: Snapshot) -> None:
    """Make all as it was. Directories that are there stay the same ones."""
    for path in sorted(root.rglob("*"), reverse=True):
        name = str(path.relative_to(root))
        if path.is_dir() and not path.is_symlink():
            if name not in wanted or wanted[name] is not None:
                shutil.rmtree(path)
        else:
            path.unlink()
    for name, octets in wanted.items():
        path = root / name
        if octets is None:
            path.mkdir(exist_ok=True)
        else:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, octets)
            os.close(fd)


@dataclass
class Directory:
    """What is durable of the names of one, as the running system sees them, and what has happened since."""

    durable: "dict[str, Node]" = field(default_factory=dict)
    live: "dict[str, Node]" = field(default_factory=dict)
    pending: "list[tuple[str, Node | None]]" = field(default_factory=list)

    def enter(self, name: str, node: "Node | None") -> None:
        self.pending.append((name, node))
        if node is None:
            self.live.pop(name, None)
        else:
            self.live[name] = node

    def make_durable(self) -> None:
        self.durable, self.pending = dict(self.live), []


Node = File | Directory


class Tree:
    """The disk while a trace is replayed."""

    def __init__(self, root: Path, start: Snapshot, chance: random.Random, most: int) -> None:
        """`most`: states that are tried at a moment."""
        self.root = root
        self.chance = chance
        self.most = most
        self.top = Directory()
        for name, octets in start.items():
            parent, last = self.parent_of(str(root / name))
            parent.live[last] = Directory() if octets is None else File(octets, len(octets))
        for directory in self.directories(self.top):
            directory.make_durable()

    def directories(self, directory: Directory) -> Iterator[Directory]:
        yield directory
        for node in directory.live.values():
            if isinstance(node, Directory):
                yield from self.directories(node)

    def parent_of(self, path: str) -> tuple[Directory, str]:
        *above, last = os.path.relpath(path, self.root).split("/")
        directory = self.top
        for name in above:
            node = directory.live[name]
            assert isinstance(node, Directory)
            directory = node
        return directory, last

    def node_of(self, path: str) -> Node:
        if path == str(self.root):
            return self.top
        parent, last = self.parent_of(path)
        return parent.live[last]

    def apply(self, call: Call) -> None:
        """One call that was made. One that failed has done nothing: fsync is not made to fail here."""
        if call.error:
            return
        if call.kind in (Kind.CREATE, Kind.MKDIR, Kind.UNLINK):
            parent, name = self.parent_of(call.path)
            if call.kind == Kind.UNLINK:
                parent.enter(name, None)
            elif name not in parent.live:
                parent.enter(name, File() if call.kind == Kind.CREATE else Directory())
            return
        if call.kind in (Kind.RENAME, Kind.LINK):
            parent, name = self.parent_of(call.path)
            target, becomes = self.parent_of(call.other)
            target.enter(becomes, parent.live[name])
            if call.kind == Kind.RENAME:
                parent.enter(name, None)
            return
        node = self.node_of(call.path)
        if isinstance(node, Directory):
            node.make_durable()
        elif call.kind == Kind.FSYNC:
            node.make_durable(node.content([True] * node.pieces(), node.sizes()))
        elif call.kind == Kind.WRITE:
            node.write(call.offset, call.data)
        elif call.kind == Kind.TRUNCATE or call.offset > node.size:
            node.resize(call.offset)

    def states(self) -> Iterator[Snapshot]:
        """What may be on the disk when the power fails now: a sample."""
        for number in range(self.most):
            found: Snapshot = {}
            share = SHARES[number] if number < len(SHARES) else self.chance.random()
            self.add_state(self.top, "", share, found)
            yield found

    def add_state(self, directory: Directory, path: str, share: float, found: Snapshot) -> None:
        names = dict(directory.durable)
        for name, node in directory.pending:
            if self.chance.random() < share:
                if node is None:
                    names.pop(name, None)
                else:
                    names[name] = node
        for name, node in names.items():
            if isinstance(node, Directory):
                found[path + name] = None
                self.add_state(node, f"{path}{name}/", share, found)
            else:
                chosen = [self.chance.random() < share for _ in range(node.pieces())]
                sizes = node.sizes() if share == 1.0 else self.chance.randint(0, node.sizes())
                found[path + name] = node.content(chosen, sizes)
