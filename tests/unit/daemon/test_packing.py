"""daemon/packing.py: what is made next lies together."""

import os
import subprocess
import sys

from popad.daemon import packing

OBJECTS = 40

# In a process of its own: what is used up stays so.
TOGETHER = f"""
import sys
from popad.daemon import packing
# Holes: every other object of some size goes.
some = [bytes(100) for _ in range(20_000)]
del some[::2]
before = [bytes(100) for _ in range({OBJECTS})]
packing.use_up_holes()
after = [bytes(100) for _ in range({OBJECTS})]
print(*(len({{id(one) >> 12 for one in those}}) for those in (before, after)))
"""


def test_objects_lie_together() -> None:
    """Where there are holes they do not; then they take as few pages as they can."""
    environment = {"PATH": os.defpath, "PYTHONPATH": os.getcwd()}
    said = subprocess.run([sys.executable, "-c", TOGETHER], env=environment, capture_output=True, check=True).stdout
    before, after = map(int, said.split())
    place = -(-(packing.EMPTY + 100) // packing.STEP) * packing.STEP
    assert before >= 2
    assert after <= OBJECTS * place // 4096 + 2


def test_another_allocator() -> None:
    """No pool begins there, and there is an end all the same."""
    program = "from popad.daemon import packing; packing.use_up_holes(); print(len(packing.kept))"
    environment = {"PATH": os.defpath, "PYTHONPATH": os.getcwd(), "PYTHONMALLOC": "malloc"}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True).stdout
    assert 0 < int(said) <= 30 * packing.MOST


def test_all_libraries_are_loaded_first() -> None:
    """Else what popad's parts import makes new holes between them."""
    program = """
import sys
from popad.daemon import packing
packing.load_libraries()
before = set(sys.modules)
import popad.daemon.command
print(*(name for name in set(sys.modules) - before if not name.startswith("popad")))
"""
    environment = {"PATH": os.defpath, "PYTHONPATH": os.getcwd()}
    said = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.split() == []
