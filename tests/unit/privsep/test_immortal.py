"""privsep/immortal.py: on the Python that runs this. On both releases': tests/system/test_standalone.py."""

from __future__ import annotations

import sys

import pytest

from popad.privsep import immortal
from tests.support.forked import Forked

HAS_IMMORTAL_OBJECTS = sys.version_info >= (3, 12)


def test_what_is_loaded_is_not_counted_where_that_is_possible() -> None:
    def counted() -> None:
        assert immortal.make_all_immortal() == HAS_IMMORTAL_OBJECTS
        before = sys.getrefcount(immortal)
        more = [immortal] * 100
        after = sys.getrefcount(immortal)
        assert after - before == (0 if HAS_IMMORTAL_OBJECTS else len(more))

    process = Forked(counted)  # for good, so in a process of its own
    try:
        assert process.left() == 0
    finally:
        process.close()


@pytest.mark.parametrize("version", [(3, 11), (3, 14)])
def test_a_version_that_is_not_known(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int]) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    assert not immortal.is_possible()


def test_a_python_that_is_built_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """For debugging, or without the GIL: objects begin with something else."""
    monkeypatch.setattr(sys, "version_info", (3, 13))
    monkeypatch.setattr(sys, "abiflags", "t")
    assert not immortal.is_possible()


@pytest.mark.skipif(HAS_IMMORTAL_OBJECTS, reason="this Python has objects that are not counted")
def test_a_python_that_goes_on_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version says one thing, the try another."""
    monkeypatch.setattr(sys, "version_info", (3, 12))
    assert not immortal.is_possible()
