"""`popad who` and `popad kick` where they are used: both shapes, beside what ss and systemctl say."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.patience import wait_until
from tests.support.pop3 import Pop3
from tests.system.conftest import MESSAGES, PASSWORD, Server, mbox
from tests.system.standalone import standalone_on

Shown = dict[str, Any]
AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


@pytest.fixture(params=["popad.socket", "popad-standalone.service"])
def shape(request: pytest.FixtureRequest, server: Server) -> Iterator[Server]:
    """The machine, served by one of the shapes."""
    if request.param == "popad.socket":
        yield server
    else:
        with standalone_on(server) as running:
            yield running


def who(server: Server, *as_whom: str) -> list[Shown]:
    said = server.machine.run([*as_whom, "/usr/sbin/popad", "who", "--json"])
    return [json.loads(line) for line in said.stdout.splitlines()]


def of(server: Server, client: Pop3) -> Shown:
    """What is shown of this client's session."""
    (found,) = [each for each in who(server) if each["port"] == client.port]
    return found


def peers(server: Server) -> list[int]:
    """The ports of the clients that port 110 is connected with, as ss has them."""
    listed = server.machine.run(["ss", "-Htn", "state", "established", "sport = :110"]).stdout
    return sorted(int(line.split()[3].rpartition(":")[2]) for line in listed.splitlines())


def kick(server: Server, *arguments: str, as_whom: tuple[str, ...] = ()) -> tuple[int, str]:
    done = server.machine.run([*as_whom, "/usr/sbin/popad", "kick", *arguments], check=False)
    return done.returncode, done.stdout + done.stderr


def test_who_is_connected(shape: Server) -> None:
    """The same of both shapes: whom the kernel and systemd know, and nobody else."""
    name = shape.add_user()
    with contextlib.ExitStack() as opened:
        guests = [
            opened.enter_context(shape.connect(address).greeted()) for address in ("127.0.0.1", "::1") for _ in range(6)
        ]
        user = opened.enter_context(shape.connect(source="127.0.0.7").logged_in(name, PASSWORD))
        user.ok("DELE 2")
        wait_until(lambda: of(shape, user)["deleted"] == 1)
        wait_until(lambda: {each["state"] for each in who(shape)} == {"authorization", "transaction"})
        shown = who(shape)
        assert sorted(each["port"] for each in shown) == peers(shape) == sorted(each.port for each in [*guests, user])
        mine = of(shape, user)
        assert (mine["user"], mine["account"], mine["address"]) == (name, name, "127.0.0.7")
        assert (mine["state"], mine["messages"], mine["tls"]) == ("transaction", 3, None)
        assert mine["since"].endswith("Z")
        assert mine["idle"] < 30
        status = (shape.machine.root / f"proc/{mine['session']}/status").read_text()
        assert f"Uid:\t{shape.uid(name)}\t" in status
        assert [each["address"] for each in shown].count("::1") == 6
        listed = shape.machine.run(["systemctl", "list-units", "--plain", "--no-legend", "popad@*"]).stdout
        assert sorted(line.split()[0] for line in listed.splitlines()) == sorted(
            each["unit"] for each in shown if each["unit"]
        )
        table = shape.machine.run(["/usr/sbin/popad", "who"]).stdout.splitlines()
        assert len(table) == 1 + len(shown)
        user.ok("QUIT")
    wait_until(lambda: who(shape) == [])


def test_who_for_anybody(shape: Server) -> None:
    """Units are for all to see; of the daemon's sessions only who has logged in."""
    name = shape.add_user()
    with shape.connect().greeted(), shape.connect().logged_in(name, PASSWORD) as user:
        wait_until(lambda: of(shape, user)["messages"] == 3)
        seen = who(shape, *AS_NOBODY)
        assert name in [each["user"] for each in seen]
        is_unit = bool(of(shape, user)["unit"])
        assert len(seen) == (2 if is_unit else 1)
        assert [each["messages"] for each in seen if each["user"] == name] == [3 if is_unit else None]
        complaint = shape.machine.run([*AS_NOBODY, "/usr/sbin/popad", "who"]).stderr
        assert ("only root" in complaint) is not is_unit


@pytest.mark.parametrize("by", ["user", "address", "session"])
def test_kick(shape: Server, by: str) -> None:
    """The sessions that are meant end, and no others; nothing is deleted, and the journal has who it was."""
    name, other = shape.add_user(), shape.add_user()
    since = shape.machine.cursor()
    with (
        shape.connect(source="127.0.0.9").logged_in(name, PASSWORD) as user,
        shape.connect().logged_in(other, PASSWORD) as neighbour,
        shape.connect().greeted() as guest,
    ):
        user.ok("DELE 1")
        wait_until(lambda: of(shape, user)["deleted"] == 1)
        number = of(shape, user)["session"]
        code, said = kick(shape, {"user": name, "address": "127.0.0.9", "session": str(number)}[by])
        assert (code, said) == (0, f"session {number} of {name} from 127.0.0.9: ended\n")
        assert user.closed()
        assert sorted(each["port"] for each in who(shape)) == sorted([neighbour.port, guest.port])
        neighbour.ok("NOOP")
        guest.ok("CAPA")
        guest.body()
        assert kick(shape, name)[0] == 1
    entry = shape.machine.wait_entry({"POPAD_EVENT": "session-kicked"}, after=since)
    assert (entry["POPAD_USER"], entry["POPAD_BY"], entry["POPAD_RHOST"]) == (name, "root", "127.0.0.9")
    assert (entry["POPAD_PID"], entry["_UID"]) == (str(number), "0")
    told = shape.machine.wait_entry({"POPAD_EVENT": "session-interrupted"}, after=since)
    assert (told["POPAD_USER"], told["POPAD_SIGNAL"]) == (name, "SIGTERM")
    assert len(shape.machine.journal("POPAD_EVENT=session-kicked", after=since)) == 1
    assert (shape.machine.root / "var/mail" / name).read_text() == mbox(MESSAGES)


def test_kick_before_the_login(shape: Server) -> None:
    with shape.connect(source="127.0.0.8").greeted() as guest:
        guest.ok("USER somebody")
        wait_until(lambda: of(shape, guest)["state"] == "authorization")
        assert kick(shape, "--address", "127.0.0.8")[0] == 0
        assert guest.closed()
        wait_until(lambda: who(shape) == [])
    failed = shape.machine.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend", "popad*"]).stdout
    assert failed == ""


def test_kick_for_anybody(shape: Server) -> None:
    """A user ends the user's own sessions, and nobody else's."""
    name, other = shape.add_user(), shape.add_user()
    as_other = ("setpriv", f"--reuid={other}", "--regid=nogroup", "--clear-groups")
    since = shape.machine.cursor()
    with shape.connect().logged_in(name, PASSWORD) as user, shape.connect().logged_in(other, PASSWORD) as own:
        wait_until(lambda: {of(shape, each)["messages"] for each in (user, own)} == {3})
        code, said = kick(shape, name, as_whom=as_other)
        assert (code, "only root" in said) == (1, True)
        user.ok("NOOP")
        code, said = kick(shape, other, as_whom=as_other)
        assert (code, "ended" in said) == (0, True)
        assert own.closed()
        user.ok("NOOP")
    entry = shape.machine.wait_entry({"POPAD_EVENT": "session-kicked"}, after=since)
    assert (entry["POPAD_BY"], entry["_UID"]) == (other, str(shape.uid(other)))
