"""How the objects of the daemon come to lie close together where sessions write to them.

Python counts the references to an object in the object, and a session copies each page that it writes to. The daemon's
memory has holes, where objects were that are gone; what is made next goes into them, each hole in a page of its own. So
they are used up before popad's own parts are loaded, and again before the first session is forked.

What that buys, on Debian 12 and two machines: an idle session has 1.86 MB (PSS) and not 2.00; 2.36 and not 2.42.
"""

import sys

LIBRARIES = (
    *(
        "_blake2",
        "_md5",
        "array",
        "binascii",
        "contextlib",
        "ctypes",
        "errno",
        "fcntl",
        "gc",
        "getopt",
        "heapq",
        "math",
        "pwd",
    ),
    *("resource", "select", "signal", "socket", "syslog", "zlib"),
)
SMALLEST, LARGEST, STEP = 48, 512, 16  # octets of a place: CPython gives small objects places by their size ...
POOL, FIRST = 1 << 14, 48  # ... in pools of so many octets, the first one behind so many
EMPTY = sys.getsizeof(b"")
MOST = 1000  # for a size: where Python has another allocator, no pool begins

kept: list[bytes] = []  # for good


def load_libraries() -> None:
    """All that popad's parts import of others, before these are imported."""
    for name in LIBRARIES:
        __import__(name)
    use_up_holes()


def use_up_holes() -> None:
    """Fill each free place, and begin a pool for each size."""
    for size in range(SMALLEST, LARGEST + 1, STEP):
        for _ in range(MOST):
            kept.append(bytes(size - EMPTY))
            if id(kept[-1]) % POOL == FIRST:
                break
