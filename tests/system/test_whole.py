"""popad.service, the name of the whole: start, stop, restart and reload of "popad" are those of what is enabled."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import Machine, needs, tree
from tests.support.patience import wait_until
from tests.system.conftest import SETTINGS

SHAPES = ("popad.socket", "popad-standalone.service")


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def installed(request: pytest.FixtureRequest, package: Path) -> Iterator[Machine]:
    if reason := needs():
        pytest.skip(reason)
    with Machine(tree(request.param)) as booted:
        booted.install(package)
        yield booted


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest, installed: Machine) -> str:
    """What is enabled and runs; the other one is neither."""
    other = next(name for name in SHAPES if name != request.param)
    installed.run(["systemctl", "disable", "--now", other])
    installed.run(["systemctl", "enable", "--now", request.param])
    is_the_only_one(installed, request.param)
    return str(request.param)


def active(machine: Machine) -> set[str]:
    """Which of the shapes and of the whole are."""
    names = (*SHAPES, "popad.service")
    return {name for name in names if machine.show(name, "ActiveState")["ActiveState"] == "active"}


def is_the_only_one(machine: Machine, shape: str) -> None:
    """Wait until this one is active, and the whole with it."""
    wait_until(lambda: active(machine) == {shape, "popad.service"})


def entered(machine: Machine, unit: str) -> str:
    """When a unit became active last."""
    return machine.show(unit, "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"]


def test_it_is_active_with_the_shape_that_is_enabled(installed: Machine, shape: str) -> None:
    """The fixture has waited for the first half."""
    installed.run(["systemctl", "stop", shape])
    wait_until(lambda: active(installed) == set())


def test_stop_and_start(installed: Machine, shape: str) -> None:
    installed.run(["systemctl", "stop", "popad"])
    wait_until(lambda: active(installed) == set())
    installed.run(["systemctl", "start", "popad"])
    assert active(installed) == {shape, "popad.service"}
    with installed.connect() as client:
        assert client.recv(512).startswith(b"+OK")


def test_restart(installed: Machine, shape: str) -> None:
    before = entered(installed, shape)
    installed.run(["systemctl", "restart", "popad"])
    assert active(installed) == {shape, "popad.service"}
    assert entered(installed, shape) > before


def test_each_shape_can_be_started_although_the_other_is_enabled(installed: Machine, shape: str) -> None:
    other = next(name for name in SHAPES if name != shape)
    for name in (other, shape):
        installed.run(["systemctl", "start", name])
        is_the_only_one(installed, name)


def test_changes_in_quick_succession(installed: Machine, shape: str) -> None:
    """The last one counts, whatever the whole is doing at that moment."""
    for name in (*SHAPES * 4, shape):
        installed.run(["systemctl", "start", name])
    is_the_only_one(installed, shape)


def test_reload_fails_where_a_setting_is_wrong(installed: Machine, shape: str) -> None:
    path = installed.root / SETTINGS.lstrip("/")
    before = path.read_bytes()
    try:
        path.write_text("POPAD_TIMEOUT=soon\n")
        assert installed.run(["systemctl", "reload", "popad"], check=False).returncode != 0
    finally:
        path.write_bytes(before)
    since = installed.cursor()
    installed.run(["systemctl", "reload", "popad"])
    if shape == "popad-standalone.service":
        installed.wait_entry({"POPAD_EVENT": "reloaded"}, after=since)


def test_where_nothing_is_enabled_a_start_says_so(installed: Machine, shape: str) -> None:
    since = installed.cursor()
    installed.run(["systemctl", "disable", "--now", shape])
    try:
        assert installed.run(["systemctl", "start", "popad"], check=False).returncode != 0
        installed.wait_entry({"MESSAGE": "neither popad.socket nor popad-standalone.service is enabled"}, after=since)
    finally:
        installed.run(["systemctl", "reset-failed", "popad.service"])
