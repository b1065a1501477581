"""The picture that DESIGN.md opens with is what packaging/doc/picture draws of the code as it is."""

import ast
import itertools
import runpy

from tests.support.here import CHECKOUT

PICTURE = runpy.run_path(str(CHECKOUT / "packaging/doc/picture"))


def test_the_picture_is_of_this_code() -> None:
    """Where it is not: packaging/doc/picture draws it anew."""
    assert (CHECKOUT / "packaging/doc/popad.svg").read_text() == PICTURE["drawing"]()


def test_each_process_runs_a_function_that_exists() -> None:
    for name, _, _, place, *_ in PICTURE["PROCESSES"].values():
        if place:
            file, _, function = place.partition(":")
            tree = ast.parse((CHECKOUT / "popad" / file).read_text())
            assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, name


def test_no_room_stands_in_the_way_of_another() -> None:
    floors = [["a"], ["b", "c"], ["d"], ["e"]]
    lines = {("a", "b"), ("a", "c"), ("a", "e"), ("b", "d"), ("c", "e")}
    for row in PICTURE["places"](floors, lines):
        places = sorted((x, PICTURE["LANE"] if name.startswith(">") else PICTURE["BOX"]) for name, x in row.items())
        for (x, width), (other, other_width) in itertools.pairwise(places):
            assert x + width / 2 < other - other_width / 2


def test_the_design_opens_with_it() -> None:
    assert (CHECKOUT / "packaging/doc/DESIGN.md").read_text().splitlines()[2].endswith("](popad.svg)")
