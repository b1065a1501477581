"""commands/as_user.py: a child that is the user, and nobody else any more."""

import os

import pytest

from popad.auth.identity import Owner
from popad.auth.nss import user
from popad.commands import as_user
from popad.errors import ContractBroken
from popad.privsep.channel import Channel
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


def test_who_can_be_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    someone = owner("nobody", [])
    for uid, possible in ((0, True), (someone.uid, True), (someone.uid - 1, False)):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert as_user.is_possible(someone) is possible
