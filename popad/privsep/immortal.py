"""On CPython 3.12 and 3.13: what is loaded before a process forks is not counted any more, so its children copy fewer
pages of it.

Python counts the references to an object in the object, and a process that was forked copies each page that it writes
to. Since PEP 683 CPython has objects that live for ever and are not counted (None, small numbers), known by a certain
count. What is loaded here lives for ever, too: modules, functions, classes, and what they consist of. There is no
interface for that but the count itself.

What it buys, on Debian 13: an idle session of `popad -D` has 1.56 MB (PSS) and not 2.28; 8 clients have 158 logins a
second and not 129.
"""

import ctypes
import gc
import sys
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType

FIRST, LAST = (3, 12), (3, 13)  # versions in which the count is known to be the first word of an object
# Nothing that does something when it is given up: a socket, a file, a generator.
KINDS = {
    *(type, FunctionType, BuiltinFunctionType, CodeType, ModuleType, CellType, staticmethod, classmethod, property),
    *(str, bytes, int, float, tuple, list, dict, set, frozenset, type(str.join), type(object.__init__)),
}


def make_all_immortal() -> bool:
    """All that can be reached of these kinds, for good. Returns whether this is a Python in which it is possible."""
    if not is_possible():
        return False
    found: dict[int, object] = {}
    waiting = [each for each in gc.get_objects() if type(each) in KINDS]
    while waiting:
        each = waiting.pop()
        if id(each) not in found:
            found[id(each)] = each
            waiting += [other for other in gc.get_referents(each) if type(other) in KINDS]
    mark(list(found.values()))
    return True


def is_possible() -> bool:
    """By its version, and by a try with an object of our own."""
    if sys.implementation.name != "cpython" or sys.abiflags or not FIRST <= sys.version_info[:2] <= LAST:
        return False
    probe: list[object] = [object()]
    mark(probe)
    more = probe * 100
    return sys.getrefcount(more[0]) == sys.getrefcount(None)


def mark(objects: list[object]) -> None:
    """Give them the count of None."""
    count = ctypes.c_ssize_t.from_address(id(None)).value
    for each in objects:
        ctypes.c_ssize_t.from_address(id(each)).value = count
