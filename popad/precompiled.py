"""What a session loads, from one file for many modules: to find, open and check each of 60 costs it 3 ms.

packaging/precompile makes the files where popad is installed. One counts as long as this interpreter is the one that it
was made for, and each module of it still is the file that it was made of; if not, and where there is none, modules are
imported as ever.
"""

import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import MAGIC_NUMBER
from marshal import loads
from posix import stat  # os is not loaded yet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType

    # Of a module: its name, its file, when that was last changed in any way (ns) and its octets, its code.
    Entry = tuple[str, str, int, int, CodeType]

PACKAGE = "/__init__.py"
SUFFIX = ".code"
BESIDE = __file__.removesuffix("popad/precompiled.py")  # the package
Module = type(sys)


def load(name: str) -> None:
    """Load the module `name` and all that it is going to import, if there is a file of them that counts."""
    if name not in sys.modules:
        for entry in read(f"{BESIDE}{name}{SUFFIX}"):
            if entry[0] not in sys.modules:
                execute(*entry)


def read(path: str) -> "list[Entry]":
    """The modules of a file, in the order in which they need one another; none where it does not count."""
    try:
        with open(path, "rb") as file:
            content = memoryview(file.read())
        if content[: len(MAGIC_NUMBER)] != MAGIC_NUMBER:
            return []
        entries: list[Entry] = loads(content[len(MAGIC_NUMBER) :])  # noqa: S302 - root's file, as byte-code is
        for _, source, changed, size, _ in entries:
            found = stat(source)
            if (found.st_ctime_ns, found.st_size) != (changed, size):
                return []
    except (OSError, EOFError, ValueError, TypeError):
        return []
    return entries


def execute(name: str, source: str, _changed: int, _size: int, code: "CodeType") -> None:
    """Make the module, as an import does."""
    module = Module(name)
    module.__spec__ = ModuleSpec(name, None, origin=source, is_package=source.endswith(PACKAGE))
    module.__file__ = source
    if source.endswith(PACKAGE):
        module.__path__ = [source.removesuffix(PACKAGE)]
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)  # noqa: S102 - what an import does
    except BaseException:  # it is not there, then, for whoever imports it later
        del sys.modules[name]
        raise
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
