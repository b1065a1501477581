"""The unit files: accepted by systemd without a word, as closed as promised, and at the promised price."""

from __future__ import annotations

import pytest

from tests.support import instances
from tests.support.here import CHECKOUT
from tests.support.instances import HELLO, Variant
from tests.support.patience import wait_until
from tests.system.conftest import Server

UNITS = sorted(path.name for path in (CHECKOUT / "units").iterdir())
EXPOSURE = {
    "popad@.service": 2.0,
    "popad-auth.service": 1.5,
    "popad-tls-helper.service": 0.8,
    "popad-sandbox.service": 1.5,
    "popad-standalone.service": 1.7,
    "popad.service": 1.7,
    "popad-metrics@.service": 0.6,
    "popad-limits.service": 2.5,  # the host's network, and CAP_NET_ADMIN
}
TIMES_BARE = 4.5
ROUNDS = 25


def test_verify(server: Server) -> None:
    """All units at once; the instance of a template has to be named. What runs nft: test_network_limits.py has it."""
    units = [name.replace("@.", "@1.") for name in UNITS if name != "popad-limits.service"]
    said = server.machine.run(["systemd-analyze", "verify", "--man=no", *units])
    assert said.stdout + said.stderr == ""


def test_every_service_has_a_limit() -> None:
    assert {name for name in UNITS if name.endswith(".service")} == EXPOSURE.keys()


@pytest.mark.parametrize("unit", EXPOSURE)
def test_exposure(server: Server, unit: str) -> None:
    path = server.machine.run(["systemctl", "show", "-P", "FragmentPath", unit.replace("@.", "@1.")]).stdout.strip()
    assert instances.exposure(server.machine, path) <= EXPOSURE[unit]


def test_price_of_the_sandbox(server: Server) -> None:
    """A C hello world in popad@.service and in a bare unit."""
    unit, service = instances.popad_unit()
    bare = Variant("bare", [f"ExecStart={HELLO}"])
    whole = Variant("popad@.service", [f"ExecStart={HELLO}", *service], unit)
    instances.build_hello(server.machine)
    instances.lay_out(server.machine, [bare, whole])
    instances.measure(server.machine, [bare, whole], ROUNDS)
    assert whole.end <= TIMES_BARE * bare.end, (whole.end, bare.end)


def test_one_unit_pulls_in_and_takes_along_the_others(server: Server) -> None:
    others = ("popad-auth.socket", "popad-sandbox.service")

    def states() -> set[str]:
        return {server.machine.show(unit, "ActiveState")["ActiveState"] for unit in others}

    server.machine.run(["systemctl", "stop", "popad-auth.service"])  # while it runs its socket is needed
    server.machine.run(["systemctl", "stop", "popad.socket"])
    wait_until(lambda: states() == {"inactive"})
    server.machine.run(["systemctl", "start", "popad.socket"])
    assert states() == {"active"}
    with server.connect().greeted():
        pass


@pytest.mark.parametrize("unit", ["popad.socket", "popad-standalone.service"])
def test_restarts_do_not_add_up(server: Server, unit: str) -> None:
    """What an impatient administrator or a script does in ten seconds; systemd's own limit is five starts."""
    try:
        for _ in range(7):
            server.machine.run(["systemctl", "restart", unit])
        for name in (unit, "popad-sandbox.service", "popad-auth.socket")[: 3 if unit == "popad.socket" else 1]:
            assert server.machine.show(name, "ActiveState") == {"ActiveState": "active"}
        with server.connect().greeted():
            pass
    finally:
        server.machine.run(["systemctl", "start", "popad.socket"])


def test_host_that_has_ipv6_switched_off(server: Server) -> None:
    def switch(off: str) -> None:
        # By a process of the machine: what /proc/sys/net shows depends on who opens it.
        server.machine.run(["sh", "-c", f"echo {off} >/proc/sys/net/ipv6/conf/all/disable_ipv6"])
        server.machine.run(["systemctl", "restart", "popad.socket"])

    switch("1")
    try:
        with pytest.raises(OSError, match="assign requested address"):
            server.connect("::1")
        with server.connect().greeted():
            pass
    finally:
        switch("0")
    with server.connect("::1").greeted():
        pass
