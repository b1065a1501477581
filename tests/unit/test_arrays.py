"""arrays.py: the array type, and what else is loaded with it."""

import array
import json
import subprocess

import pytest

from popad import arrays
from tests.support.here import CHECKOUT
from tests.support.patience import PATIENCE
from tests.support.serving import PYTHON


def loaded(code: str) -> object:
    """What the code prints, in a Python that has loaded nothing of its own."""
    bare = f"import sys; sys.path.append({str(CHECKOUT)!r}); {code}"
    done = subprocess.run([PYTHON, "-I", "-S", "-c", bare], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


PRINT = "import json; print(json.dumps(sorted({0})))"


def test_it_is_the_type_of_the_standard_library() -> None:
    assert arrays.array is array.array


def test_nothing_is_loaded_around_it() -> None:
    code = "import os; before = set(sys.modules); from popad.arrays import array; array('q', [1]); "
    found = loaded(code + "found = set(sys.modules) - before; " + PRINT.format("found"))
    assert found == ["array", "popad", "popad.arrays"]


@pytest.mark.parametrize("before", ["pass", "import collections", "import collections.abc"])
def test_collections_is_as_it_would_be_without_it(before: str) -> None:
    """And an array is a sequence, whatever was loaded first."""
    names = "[collections.abc.__name__, str(issubclass(array, collections.abc.MutableSequence))]"
    uses = f"import collections.abc; from collections import deque; {PRINT.format(names)}"
    assert loaded(f"{before}; from popad.arrays import array; {uses}") == loaded(f"from array import array; {uses}")
