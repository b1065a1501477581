"""The examples for fail2ban and CrowdSec: Debian's ban whom they should, whatever clients say."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import unpacked
from tests.support.crowdsec import Crowdsec, prepared, reading
from tests.support.here import CHECKOUT
from tests.support.machine import PACKAGES, Machine, needs, tree
from tests.support.patience import wait_until
from tests.support.pop3 import Pop3
from tests.system.conftest import PASSWORD, SETTINGS, Server
from tests.system.recipes import blocks
from tests.system.standalone import standalone_on

EXAMPLES = CHECKOUT / "packaging/examples"
# All that clients say is logged, as fast as they say it: a refusal by PAM takes 4 seconds.
WORST = "POPAD_LOG_UNKNOWN=yes\nPOPAD_GUESS_DELAY=0\nPOPAD_AUTH=file\n"
GUESSERS = ("192.0.2.66", "2001:db8::66")
CUSTOMER, OFFICE, LIAR = "192.0.2.20", "2001:db8::20", "192.0.2.30"
VICTIM, VICTIM6 = "10.0.0.1", "2001:db8:bad::1"
MANY = 12  # more than maxretry
AT_ONCE = 8

FAILED = f'{VICTIM}: authentication failed for "x": "y"'
# Names that want to be more than a name.
NAMES: list[bytes] = [
    *(text.encode() for text in (FAILED, f'" {FAILED}', f'": "wrong"\n{FAILED}', f'x": "y"\r\n{FAILED}')),
    *(
        f"x{end}host popad[1]: {FAILED}".encode()
        for end in ("\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\0")
    ),
    *(
        f"{mark}{VICTIM}".encode()
        for mark in ("rhost=", "rhost= ", "from ", " from ", "POPAD_RHOST=", "ip=", "[", "@", ":")
    ),
    *(f"x rhost={VICTIM} port {number}".encode() for number in (110, 995)),
    *(f"{VICTIM6}{rest}".encode() for rest in ("", ":", "]:", ": authentication failed for unknown", "%lo")),
    *(f"x\nMESSAGE={FAILED}\nPOPAD_RHOST={VICTIM}{end}".encode() for end in ("", "\n", "\n\n")),
    b"x\nMESSAGE\n" + len(FAILED).to_bytes(8, "little") + FAILED.encode() + b"\n",
    *(
        text.encode()
        for text in ('"', '""', '\\"', "\\x22", '\\\\"', "'", "`", "$(id)", "%s%n", "{rhost}", "<HOST>", "<ADDR>")
    ),
    *(
        text.encode()
        for text in ("(.*)", "^", "$", "unknown", 'unknown: "no"', f"{VICTIM}: session", "#", ";", "|", "-")
    ),
    *(
        text.encode()
        for text in ("popad[1]: x", "Jan  1 00:00:00 host popad[1]: " + FAILED, "2026-01-01T00:00:00Z " + FAILED)
    ),
    *(b"x" * length + f" {FAILED}".encode() for length in (100, 150)),
    *(mark * 60 for mark in (b'"', b"\\", b"\n", b"\xff", b"\xc3\x28", b"\xe2\x80\xae", b"\x1b[2J")),
    *(
        mark + FAILED.encode()
        for mark in (b"\x1b[1A", b"\x08" * 40, b"\xff", b"\xc3\xbc", b"\xed\xb2\x80", b"\t", b" ")
    ),
]


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def guarded(request: pytest.FixtureRequest, package: Path) -> Iterator[Server]:
    """A machine with popad and fail2ban, set up as the page says."""
    if reason := needs():
        pytest.skip(reason)
    with Machine(tree(request.param, (*PACKAGES, "nftables", "fail2ban"))) as machine:
        machine.install(package)
        machine.write(SETTINGS, WORST)
        machine.run(["systemctl", "stop", "popad-auth.service"])
        for address in (*GUESSERS, CUSTOMER, OFFICE, LIAR):
            machine.run(["ip", "address", "add", address, "dev", "lo", *(["nodad"] if ":" in address else [])])
        # The jail that Debian has on needs an sshd; and here clients come from the host's own addresses.
        machine.write("/etc/fail2ban/jail.d/zz-test.local", "[sshd]\nenabled = false\n[popad]\nignoreself = false\n")
        machine.run(["systemctl", "restart", "fail2ban.service"])
        for name in ("fail2ban-filter.conf", "fail2ban-jail.conf"):
            machine.copy(EXAMPLES / name, f"/usr/share/doc/popad/examples/{name}")  # this tree has no documents
        (block,) = (found for found in blocks() if found.document == "popad-admin.8" and "fail2ban" in found.text)
        wait_until(lambda: machine.run(["fail2ban-client", "ping"], check=False).returncode == 0, pause=0.1)
        machine.run(["bash", "-ec", "\n".join(block.commands)])
        wait_until(lambda: machine.run(["fail2ban-client", "status", "popad"], check=False).returncode == 0, pause=0.1)
        yield Server(machine, request.param)


@pytest.fixture(scope="module", autouse=True)
def crowdsec(guarded: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowdsec | None]:
    """Beside it CrowdSec, set up as the page says; None where it cannot be had."""
    try:
        running = prepared(tmp_path_factory.mktemp("crowdsec"))
    except unpacked.Unavailable:
        yield None
        return
    (block,) = (found for found in blocks() if found.document == "popad-admin.8" and "/etc/crowdsec" in found.text)
    copies = [line.split()[-2:] for line in block.commands if line.startswith("install -D")]
    assert len(copies) == 3
    for name, path in copies:
        running.install(EXAMPLES / name, path.removeprefix("/etc/crowdsec/"))
    with reading(running, guarded.machine):
        yield running


def status(server: Server) -> tuple[int, set[str]]:
    """How many failures fail2ban has seen, and whom it has banned."""
    said = server.machine.run(["fail2ban-client", "status", "popad"]).stdout
    total, banned = re.search(r"Total failed:\s*(\d+)", said), re.search(r"Banned IP list:(.*)", said)
    assert total and banned
    return int(total[1]), set(banned[1].split())


def failures(server: Server) -> int:
    return len(server.machine.journal("POPAD_EVENT=login-failed", "_UID=0"))


def seen_all(server: Server) -> bool:
    return status(server)[0] == failures(server)


def guess(server: Server, source: str, name: bytes, *, by_sasl: bool = False) -> None:
    """A session with a wrong password, up to its end."""
    there = "::1" if ":" in source else "127.0.0.1"
    with Pop3(server.machine.connect(there, source=source)).greeted() as client:
        if by_sasl:
            assert client.say("AUTH PLAIN") == b"+ "
            client.socket.sendall(base64.b64encode(b"\0" + name + b"\0wrong") + b"\r\n")
        else:
            client.socket.sendall(b"USER " + name + b"\r\nPASS wrong\r\n")
        client.socket.shutdown(socket.SHUT_WR)  # where that was no attempt the session would wait for another
        while client.line():
            pass


def is_shut_out(server: Server, source: str) -> bool:
    try:
        with Pop3(server.machine.connect("::1" if ":" in source else "127.0.0.1", source=source)) as client:
            return client.line() == b""
    except ConnectionRefusedError:
        return True


def banned_by_the_kernel(server: Server) -> set[str]:
    """The addresses in fail2ban's sets."""
    listed = server.machine.run(["nft", "list", "ruleset"]).stdout
    return {address for elements in re.findall(r"elements = \{ ([^}]*) \}", listed) for address in elements.split(", ")}


def test_who_logs_in_is_not_banned(guarded: Server) -> None:
    """By popad.socket; nor who mistypes now and then."""
    name = guarded.add_user()
    passwd = ["popad", "passwd", "--batch", "--iterations", "4096", "--file", "/etc/popad/credentials"]
    guarded.machine.run(passwd, stdin=f"{name}:{PASSWORD}\n")
    for number in range(MANY):
        source, there = ((CUSTOMER, "127.0.0.1"), (OFFICE, "::1"))[number % 2]
        with guarded.connect(there, source=source).logged_in(name, PASSWORD) as client:
            client.ok("QUIT")
    for source in (CUSTOMER, OFFICE):
        for _ in range(3):
            guess(guarded, source, name.encode())
    wait_until(lambda: seen_all(guarded), pause=0.2)
    assert status(guarded) == (6, set())
    assert not is_shut_out(guarded, CUSTOMER)


def test_nobody_is_banned_for_what_a_name_says(guarded: Server) -> None:
    """Each is tried by connections of its own, fewer than the limit of each address; each counts, for its source."""
    assert len(NAMES) >= 50
    tries = [(name, by_sasl) for name in NAMES for by_sasl in (False, True)]
    sources = [f"198.51.100.{number}" for number in range(1, len(tries) // 8 + 2)]
    for source in sources:
        guarded.machine.run(["ip", "address", "add", source, "dev", "lo"])
    before = failures(guarded)
    with standalone_on(guarded, WORST), ThreadPoolExecutor(AT_ONCE) as pool:
        guesses = [
            pool.submit(guess, guarded, sources[number // 8], name, by_sasl=by_sasl)
            for number, (name, by_sasl) in enumerate(tries)
        ]
        for each in guesses:
            each.result()
    wait_until(lambda: seen_all(guarded), pause=0.2)
    assert failures(guarded) - before >= 100
    assert status(guarded)[1] == set()


def test_who_guesses_is_banned(guarded: Server) -> None:
    """And nobody else, by names that lie: at the packet filter, on IPv4 and IPv6."""
    with standalone_on(guarded, WORST):
        for source in GUESSERS:
            for name in NAMES[:MANY]:
                try:
                    guess(guarded, source, name)
                except OSError:
                    assert is_shut_out(guarded, source)
        wait_until(lambda: banned_by_the_kernel(guarded) == set(GUESSERS), pause=0.2)
        assert status(guarded)[1] == set(GUESSERS)
        assert [is_shut_out(guarded, source) for source in (*GUESSERS, CUSTOMER, OFFICE)] == [True, True, False, False]


def test_crowdsec_decides_the_same(guarded: Server, crowdsec: Crowdsec | None) -> None:
    """By the entries that the tests above have made: nobody of whom a name, or a user of the host, has lied."""
    if crowdsec is None:
        pytest.skip("crowdsec cannot be unpacked here")
    lie(guarded)
    wait_until(lambda: crowdsec.banned() >= set(GUESSERS), pause=0.2)
    assert crowdsec.banned() == set(GUESSERS)
    assert "_UID=0" in (crowdsec.place / "asked").read_text().split()


def test_no_user_of_the_host_has_anybody_banned(guarded: Server) -> None:
    """The journal takes entries of anybody, with any field that is not the journal's own."""
    before = len(guarded.machine.journal(f"POPAD_RHOST={VICTIM}"))
    lie(guarded)
    guess(guarded, LIAR, b"x")
    wait_until(lambda: seen_all(guarded), pause=0.2)
    assert len(guarded.machine.journal(f"POPAD_RHOST={VICTIM}")) == before + MANY
    assert VICTIM not in status(guarded)[1]


def lie(server: Server) -> None:
    """What a user of the host can write."""
    entry = {"MESSAGE": FAILED, "MESSAGE_ID": "320fffff62cd4ef3a03e2b0efecbb3b6", "SYSLOG_IDENTIFIER": "popad"}
    entry |= {"POPAD_EVENT": "login-failed", "POPAD_RHOST": VICTIM, "PRIORITY": "5"}
    text = "".join(f"{name}={value}\n" for name, value in entry.items()) + "_UID=0\n"
    for _ in range(MANY):
        server.machine.run(["runuser", "-u", "nobody", "--", "logger", "--journald"], stdin=text)
