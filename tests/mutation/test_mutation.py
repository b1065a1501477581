"""tests/mutate: what its table and its list of mutants name is there."""

import re

import pytest

from tests.mutation.campaign import MODULES, excused, own_tests
from tests.support.here import CHECKOUT


@pytest.mark.parametrize("module", MODULES)
def test_modules_and_their_tests_exist(module: str) -> None:
    assert (CHECKOUT / f"popad/{module}.py").is_file()
    assert own_tests(module) or MODULES[module]
    assert all((CHECKOUT / path).exists() for path in MODULES[module])


def test_the_lines_of_excused_mutants_are_there() -> None:
    """A line that was changed needs its reason anew. Without cosmic-ray: tests/mutate looks closer."""
    for module, changes in excused().items():
        assert module in MODULES
        text = " ".join(re.sub("  # .*", "", (CHECKOUT / f"popad/{module}.py").read_text()).split())
        assert [line for line, _ in changes if line not in text] == []
        assert all(why for why in changes.values())
