"""commands/deployment.py: what `popad check` makes of the units, and whether popad's own hold what they say."""

import re

import pytest

from popad.commands import deployment
from popad.commands.deployment import (
    DAEMON_SESSION,
    LARGE_SESSION,
    MAILDIR_MESSAGE,
    MESSAGE,
    MIB,
    OWN,
    SOCKET_SESSION,
    fitting,
    octets,
)
from popad.settings import TABLE, Settings
from tests.support.here import CHECKOUT

# What a host that is sold as one with 2 GB has left of them when the kernel has started.
TOTAL = 2048 * MIB * 95 // 100
PAGE = (CHECKOUT / "packaging/man/popad.8").read_text()


def directive(unit: str, name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", (CHECKOUT / "units" / unit).read_text(), re.M)
    return str(value)


def percent(unit: str, name: str) -> int:
    return TOTAL * int(directive(unit, name).removesuffix("%")) // 100


# -- what is shipped --------------------------------------------------------------------------------------------------


def test_sessions_of_the_socket_fit_on_a_host_with_2_gb() -> None:
    sessions = int(directive("popad.socket", "MaxConnections"))
    assert sessions * SOCKET_SESSION + LARGE_SESSION <= percent("popad.slice", "MemoryMax")
    assert sessions * SOCKET_SESSION <= percent("popad.slice", "MemoryHigh")
    assert int(directive("popad.socket", "MaxConnectionsPerSource")) * 4 <= sessions


def test_sessions_of_the_daemon_fit_on_a_host_with_2_gb() -> None:
    sessions = int(TABLE["POPAD_MAX_SESSIONS"].default)
    assert sessions * DAEMON_SESSION + LARGE_SESSION <= percent("popad.slice", "MemoryMax")


def test_one_session_cannot_take_the_memory_of_the_others() -> None:
    assert int(directive("popad@.service", "MemoryMax").removesuffix("M")) * MIB == LARGE_SESSION
    assert int(TABLE["POPAD_MAX_MESSAGES"].default) * max(MESSAGE, MAILDIR_MESSAGE) + OWN <= LARGE_SESSION


def test_messages_of_one_session() -> None:
    """And it says what fits: popa3d's limit does not."""
    popa3ds = Settings({"POPAD_MAX_MESSAGES": "2097152"})
    for given in ({}, {"POPAD_MAILDROP": "maildir:{home}/Maildir"}):
        for shown in (str(LARGE_SESSION), "infinity"):
            assert list(deployment.wrong_messages(Settings(given), {"MemoryMax": shown})) == []
    assert list(deployment.wrong_messages(popa3ds, {"MemoryMax": "infinity"})) == []
    (complaint,) = deployment.wrong_messages(popa3ds, {"MemoryMax": str(LARGE_SESSION)})
    assert complaint.startswith("POPAD_MAX_MESSAGES: 2097152 messages take 464 MB, and popad@.service has ")
    assert complaint.endswith("MemoryMax=256M: raise that, or 1123474 fit")
    # A name is text, and takes more than a few numbers.
    of_maildir = Settings({"POPAD_MAILDROP": "maildir:{home}/Maildir", "POPAD_MAX_MESSAGES": "1000000"})
    (complaint,) = deployment.wrong_messages(of_maildir, {"MemoryMax": str(LARGE_SESSION)})
    assert complaint.endswith("MemoryMax=256M: raise that, or 571950 fit")
    fits = Settings({"POPAD_MAILDROP": "maildir:{home}/Maildir", "POPAD_MAX_MESSAGES": "571950"})
    assert list(deployment.wrong_messages(fits, {"MemoryMax": str(LARGE_SESSION)})) == []


def test_helper_is_not_in_the_memory_of_the_sessions() -> None:
    """And both together leave the host something."""
    assert "\nSlice=" not in (CHECKOUT / "units/popad-auth.service").read_text()
    assert percent("popad.slice", "MemoryMax") + percent("popad-auth.service", "MemoryMax") <= TOTAL * 4 // 5


@pytest.mark.parametrize("unit", ["popad-auth.service", "popad-standalone.service"])
def test_a_process_without_memory_does_not_end_the_service(unit: str) -> None:
    """The default of systemd is to stop it with all that it has started."""
    assert directive(unit, "OOMPolicy") == "continue"


def test_numbers_of_the_man_page() -> None:
    """Sessions for the memory of a host: the table of FLOODS, as `popad check` computes it, rounded down."""
    table = re.findall(r"^\.It (\d+) GB Ta (\d+) Ta (\d+)$", PAGE, re.M)
    assert len(table) > 3
    for gigabytes, *counts in table:
        memory = int(gigabytes) * 1024 * MIB * 95 // 100 // 2
        for count, session in zip(counts, (SOCKET_SESSION, DAEMON_SESSION), strict=True):
            fits = fitting(memory, session)
            assert int(count) <= fits < 1.1 * int(count) + 5


# -- popad check ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "wanted"), [("980", 980), ("infinity", 7), ("", 7), ("18446744073709551615", 7), ("[not set]", 7)]
)
def test_limits_as_systemd_shows_them(shown: str, wanted: int) -> None:
    assert octets(shown, 7) == wanted


def test_nothing_fits_into_too_little() -> None:
    assert fitting(LARGE_SESSION - 1, SOCKET_SESSION) == 0
    assert fitting(LARGE_SESSION + SOCKET_SESSION, SOCKET_SESSION) == 1


WAITS = {"RequiresMountsFor": "/var/mail /var/lib/popad /var/cache/popad"}


@pytest.mark.parametrize(
    ("maildrop", "points", "unit", "complaints"),
    [
        ("mbox:/var/mail/{user}", ["/", "/var", "/var/mail"], {}, 0),
        ("mbox:/srv/mail/{user}", ["/"], {}, 0),
        ("mbox:/srv/mail/{user}", ["/", "/srv"], {}, 1),
        ("mbox:/srv/mail/{user}", ["/", "/srv"], {"RequiresMountsFor": "/srv/mail"}, 0),
        ("mbox:/srv/mail/{user}", ["/", "/srv/mail"], {"RequiresMountsFor": "/srv"}, 1),
    ],
)
def test_mounts(maildrop: str, points: list[str], unit: dict[str, str], complaints: int) -> None:
    said = list(deployment.wrong_mounts(Settings({"POPAD_MAILDROP": maildrop}), "popad@.service", WAITS | unit, points))
    assert len(said) == complaints, said


def test_descriptors_on_their_way() -> None:
    for unit, sessions in (
        ("popad@.service", int(directive("popad.socket", "MaxConnections"))),
        ("popad-standalone.service", int(TABLE["POPAD_MAX_SESSIONS"].default)),
    ):
        shipped = {"LimitNOFILE": directive(unit, "LimitNOFILE")}
        assert list(deployment.wrong_descriptors(sessions, unit, shipped)) == []
        assert list(deployment.wrong_descriptors(500, unit, shipped)) == []  # popa3d's number
    (complaint,) = deployment.wrong_descriptors(80, "popad.socket", {"LimitNOFILE": "64"})
    assert complaint.endswith("80 sessions that log in at once need LimitNOFILE=240 in [Service], and it is 64")
    assert list(deployment.wrong_descriptors(80, "popad.socket", {"LimitNOFILE": "infinity"})) == []


@pytest.mark.parametrize(
    ("proxies", "of_one", "complaints"),
    [("192.0.2.1", "20", 1), ("192.0.2.1", "80", 0), ("192.0.2.1", "0", 0), ("", "20", 0)],
)
def test_all_clients_of_a_proxy_are_one_source_to_systemd(proxies: str, of_one: str, complaints: int) -> None:
    socket = {"MaxConnectionsPerSource": of_one, "MaxConnections": "80"}
    said = list(deployment.wrong_sources(Settings({"POPAD_PROXY_FROM": proxies}), socket))
    assert len(said) == complaints
    assert all(line.endswith("[Socket] MaxConnectionsPerSource=80") for line in said)
