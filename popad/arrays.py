"""Arrays of numbers, without what their module loads around itself.

`array` registers itself with an abstract class of collections.abc, which imports all of collections (2 ms of each
session). The classes themselves are in _collections_abc, which `os` has loaded; Python 3.13 has the one under the name
of the other.
"""

import _collections_abc
import sys

__all__ = ["array"]

if "collections" in sys.modules:
    from array import array
else:
    names = ("collections", "collections.abc")
    sys.modules.update(dict.fromkeys(names, _collections_abc))
    try:
        from array import array
    finally:
        for name in names:
            del sys.modules[name]  # whoever imports it gets its own
