"""commands/as_user.py: a child that is the user, and nobody else any more."""

import os
import select
import signal

import pytest

from popad.auth.identity import Owner
from popad.auth.nss import user
from popad.commands import as_user
from popad.errors import ContractBroken
from popad.privsep import spawn
from popad.privsep.channel import Channel, message_pair
from tests.support.marks import needs_root
from tests.support.patience import PATIENCE


def owner(name: str, groups: list[int]) -> Owner:
    entry = user(name)
    assert entry
    return Owner(name, "", entry, groups)


@needs_root
def test_the_child_is_the_user_for_good() -> None:
    someone = owner("nobody", [5, 6])

    def tell(channel: Channel) -> None:
        ids = *os.getresuid(), *os.getresgid(), *sorted(os.getgroups())
        channel.send((" ".join(map(str, ids)).encode(),))

    child = as_user.begin(someone, tell)
    (said,) = child.channel.receive([200], PATIENCE)
    assert child.end() == 0
    ids = list(map(int, said.split()))
    assert ids == [someone.uid] * 3 + [someone.gid] * 3 + sorted({someone.gid, 5, 6})
    assert os.getresuid() == (0, 0, 0)


@needs_root
def test_nothing_is_done_as_root(capfd: pytest.CaptureFixture[str]) -> None:
    child = as_user.begin(owner("root", []), lambda channel: channel.send((b"done",)))
    with pytest.raises(ContractBroken):
        child.channel.receive([10], PATIENCE)
    assert child.end() != 0
    assert "asked to become uid 0" in capfd.readouterr().err


@needs_root
def test_who_has_asked_is_gone(capfd: pytest.CaptureFixture[str]) -> None:
    """As one that was told to end: the child ends, too, and nothing is said to the terminal."""

    def tell(channel: Channel) -> None:
        channel.waits(None)
        channel.send((b"done",))

    assert as_user.begin(owner("nobody", []), tell).end() == 0
    assert capfd.readouterr().err == ""


@needs_root
def test_one_that_its_user_has_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for for ever, and killed."""
    monkeypatch.setattr(as_user, "MOST_QUIET", 0.1)
    child = as_user.begin(owner("nobody", []), lambda _: os.kill(os.getpid(), signal.SIGSTOP))
    waits: list[bool] = []
    with pytest.raises(ContractBroken, match=r"said nothing for 0\.1 seconds"):
        as_user.receive(child.channel, {b"done": ()}, 0.01, lambda: waits.append(True))
    assert waits
    monkeypatch.setattr(spawn, "PATIENCE", 0.0)
    assert child.end() == -signal.SIGKILL


@needs_root
@pytest.mark.parametrize("outlives", [False, True])
def test_who_has_begun_it_ends(outlives: bool) -> None:
    """Without a word to the child, as when killed."""
    ours, theirs = map(Channel, message_pair())

    def work(_: Channel) -> None:
        theirs.send((b"%d" % os.getpid(),))
        signal.pause()

    def command() -> None:
        as_user.begin(owner("nobody", []), work, outlives=outlives)
        signal.pause()

    begun = spawn.spawn(command)
    (said,) = ours.receive([10], PATIENCE)
    process = os.pidfd_open(int(said))
    os.kill(begun, signal.SIGKILL)
    os.waitpid(begun, 0)
    try:
        if outlives:
            assert not select.select([process], [], [], 0.2)[0]
            signal.pidfd_send_signal(process, signal.SIGKILL)
        assert select.select([process], [], [], PATIENCE)[0]
    finally:
        os.close(process)
        ours.close()
        theirs.close()


def test_who_can_be_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    someone = owner("nobody", [])
    for uid, possible in ((0, True), (someone.uid, True), (someone.uid - 1, False)):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert as_user.is_possible(someone) is possible
