"""precompiled.py and packaging/precompile: modules from one file are those of an import, and never older ones."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from popad import precompiled
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serving import OWNER, PYTHON, Server, ids

FILES = (
    "popad.__main__",
    "popad.session.monitor",
    "popad.session.postauth",
    "popad.maildrop.mbox.store",
    "popad.maildrop.maildir.store",
)
# What precompiled.py needs itself.
AHEAD = ["popad", "popad.precompiled"]


@pytest.fixture
def directory(public_path: Path) -> Path:
    """popad as it is installed, with its files."""
    made = public_path / "lib"
    shutil.copytree(CHECKOUT / "popad", made / "popad", ignore=shutil.ignore_patterns("__pycache__"))
    precompile(made)
    return made


def precompile(directory: Path) -> None:
    subprocess.run([CHECKOUT / "packaging/precompile", directory], check=True, timeout=PATIENCE)


def run(directory: Path, code: str) -> object:
    """What the code prints, in a Python that has loaded nothing of its own."""
    bare = f"import sys; sys.path.append({str(directory)!r}); import popad.precompiled as precompiled\n{code}"
    done = subprocess.run([PYTHON, "-I", "-S", "-B", "-c", bare], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def loaded(directory: Path, name: str = "popad.__main__") -> object:
    """The modules that load() has made of the files up to `name`."""
    names = FILES[: FILES.index(name) + 1]
    code = f"for name in {names}: precompiled.load(name)\nimport json; print(json.dumps(sorted(sys.modules)))"
    found = run(directory, code)
    assert isinstance(found, list)
    return [each for each in found if each.startswith("popad.") and each not in AHEAD]


# Writes which modules of popad each process has looked for one by one.
SPY = """
import posix, sys
sys.path += {directory!r}, "/usr/lib/python3/dist-packages"
class Spy:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("popad"):
            with open({found!r}, "a") as file:
                print(posix.getpid(), name, file=file)
sys.meta_path.insert(0, Spy())
"""


@pytest.mark.parametrize("scheme", ["mbox", "maildir"])
def test_a_session_looks_for_no_module(public_path: Path, directory: Path, scheme: str) -> None:
    """As packaging/popad begins it, up to an update."""
    server = Server(public_path)
    server.deliver(b"From a\nDate: 1\n\nbody\n\n")
    for place in ("maildir", "maildir/cur", "maildir/new", "maildir/tmp"):
        (public_path / place).mkdir()
    shutil.copy(server.mailbox, public_path / "maildir/new/1.x.y")
    for owned in (public_path / "maildir", *(public_path / "maildir").rglob("*")):
        os.chown(owned, *ids(OWNER))
    found = public_path / "found"
    found.touch()
    found.chmod(0o666)
    spy = SPY.format(directory=str(directory), found=str(found))
    source = spy + (CHECKOUT / "packaging/popad").read_text().partition('dist-packages"\n')[2]
    settings = {"POPAD_MAILDROP": f"maildir:{public_path}/maildir"} if scheme == "maildir" else {}
    program = ["setpriv", "--no-new-privs", PYTHON, "-I", "-S", "-B", "-c", source]
    with server.session(settings, program) as (client, process):
        assert client.log_in().startswith(b"+OK 1 messages")
        client.ask("DELE 1")
        assert client.ask("QUIT") == b"+OK bye"
        assert process.wait(PATIENCE) == 0
    looked_for = [line.split() for line in found.read_text().splitlines()]
    # The child that is the auth helper has modules of its own.
    assert [name for pid, name in looked_for if pid == str(process.pid)] == AHEAD


def test_modules_are_those_that_an_import_makes(directory: Path) -> None:
    """With the same names in them, and the same place; as attributes of their packages, too."""
    look = """
import json, operator
def seen(name):
    module = sys.modules[name]
    assert operator.attrgetter(name.partition(".")[2])(sys.modules["popad"]) is module
    names = sorted(set(vars(module)) - {"__builtins__", "__cached__"})
    return name, names, module.__file__, module.__spec__.name, module.__spec__.origin, getattr(module, "__path__", "")
"""
    names = loaded(directory, FILES[-1])
    assert isinstance(names, list)
    assert len(names) > 50
    show = f"print(json.dumps([seen(name) for name in {names}]))"
    load = f"for name in {FILES}: precompiled.load(name)\n"
    imported = "".join(f"import {name}\n" for name in names)
    assert run(directory, f"{load}{look}{show}") == run(directory, f"{imported}{look}{show}")


def test_what_is_loaded_is_not_loaded_again(directory: Path) -> None:
    code = f"import popad.settings as before; precompiled.load({FILES[0]!r}); import popad.settings as after"
    assert run(directory, f"{code}; print(str(before is after).lower())") is True


def test_a_module_that_has_changed_is_imported(directory: Path) -> None:
    """At once, where its size and its time are what they were, too; and with it all of its file."""
    changed = directory / "popad/net/arrival.py"
    before = changed.stat()
    changed.write_text(changed.read_text().replace('GREETING = b"+OK popad ', 'GREETING = b"+OK POPAD '))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed.stat().st_size == before.st_size
    assert loaded(directory) == []
    code = f"precompiled.load({FILES[0]!r}); from popad.net.arrival import GREETING; import json"
    assert run(directory, f"{code}; print(json.dumps(GREETING.decode()))") == "+OK POPAD ready\r\n"
    precompile(directory)
    assert run(directory, f"{code}; print(json.dumps(GREETING.decode()))") == "+OK POPAD ready\r\n"
    assert "popad.net.arrival" in str(loaded(directory))


def other_python(content: bytes) -> bytes:
    return bytes(reversed(MAGIC_NUMBER)) + content[len(MAGIC_NUMBER) :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "of another Python": other_python,
    "empty": lambda _: b"",
    "cut short": lambda content: content[: len(content) // 2],
    "nothing but its head": lambda content: content[: len(MAGIC_NUMBER)],
    "another thing": lambda content: content[: len(MAGIC_NUMBER)] + b"N",
    "no thing": lambda content: content[: len(MAGIC_NUMBER)] + b"\xff",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_file_that_cannot_be_used_is_none(directory: Path, damage: Callable[[bytes], bytes]) -> None:
    file = directory / f"{FILES[0]}.code"
    file.write_bytes(damage(file.read_bytes()))
    assert loaded(directory) == []


def test_without_a_file_a_module_is_imported(directory: Path) -> None:
    for name in FILES:
        (directory / f"{name}.code").unlink()
    assert loaded(directory, FILES[-1]) == []


def test_a_module_that_fails_is_not_there() -> None:
    """A signal that ends the session may come while it is made."""
    code = compile("raise KeyboardInterrupt", "nothing.py", "exec")
    with pytest.raises(KeyboardInterrupt):
        precompiled.execute("popad.nothing", "nothing.py", 0, 0, code)
    assert "popad.nothing" not in sys.modules
    assert not hasattr(sys.modules["popad"], "nothing")
