"""What popad-delivery(7) shows for each mail server and delivery program, tried with Debian's: a message is served."""

from __future__ import annotations

import ast
import contextlib
import fcntl
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.machine import PACKAGES, Machine, needs, tree
from tests.support.patience import wait_until
from tests.system.conftest import PASSWORD, Server
from tests.system.recipes import DELIVERIES, Block, blocks

PAGE = "popad-delivery.7"
POSTFIX = ("postfix", "procmail", "maildrop", "dovecot-core")
EXIM, OPENSMTPD = ("exim4-daemon-light",), ("opensmtpd", "ca-certificates")
TOKENS = itertools.count(1)
pytestmark = pytest.mark.skipif(bool(needs()), reason=needs())


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def with_programs(release: str, package: Path) -> Iterator[Callable[[tuple[str, ...]], Server]]:
    """Machines of the release: each is booted when it is first asked for."""
    with contextlib.ExitStack() as running:
        booted: dict[tuple[str, ...], Server] = {}

        def machine_with(programs: tuple[str, ...]) -> Server:
            if programs not in booted:
                machine = running.enter_context(Machine(tree(release, (*PACKAGES, *programs))))
                machine.install(package)
                booted[programs] = Server(machine, release)
            return booted[programs]

        yield machine_with


def block_with(words: str, document: str = PAGE) -> Block:
    (found,) = (block for block in blocks() if block.document == document and words in block.text)
    assert document != PAGE or words in DELIVERIES
    return found


def typed(server: Server, words: str, name: str = "jane") -> None:
    """The commands of a block, about this user."""
    commands = block_with(words).commands
    server.machine.run(["bash", "-ec", "\n".join(commands).replace("jane", name)])


def arrives(server: Server, address: str, name: str = "") -> None:
    """What is sent to this address is served to its user, once."""
    token = f"token-{next(TOKENS)}"
    server.machine.run(["sendmail", "-i", address], stdin=f"Subject: {token}\n\nbody of {token}\n")

    def is_served() -> bool:
        with server.connect().logged_in(name or address, PASSWORD) as client:
            count = int(client.ok("STAT").split()[0])
            for number in range(1, count + 1):
                client.ok(f"RETR {number}")
                assert f"body of {token}".encode() in client.body()
                client.ok(f"DELE {number}")
            client.ok("QUIT")
        assert count < 2
        return count == 1

    wait_until(is_served, pause=0.2)


def user(server: Server) -> str:
    """Without mail, and with an mbox file as Debian's adduser has none: the first delivery makes it."""
    name = server.add_user([])
    (server.machine.root / "var/mail" / name).unlink()
    return name


@contextlib.contextmanager
def maildirs(server: Server) -> Iterator[None]:
    """popad.conf(5)'s setting, and popad(8)'s drop-in for mail in homes."""
    setting = block_with("maildir:{home}/Maildir", "popad.conf.5")
    drop_in = block_with("ReadWritePaths=-/home", "popad.8")
    with server.settings(f"{setting.text}\n"), server.drop_in("popad@.service", drop_in.text):
        yield


@contextlib.contextmanager
def file_with(server: Server, path: str, text: str) -> Iterator[None]:
    """A line at the end of a file of the machine."""
    place = server.machine.root / path.lstrip("/")
    before = place.read_bytes() if place.exists() else None
    try:
        server.machine.write(path, (before or b"") + f"{text}\n".encode())
        yield
    finally:
        place.unlink()
        if before is not None:
            place.write_bytes(before)


Machines = Callable[[tuple[str, ...]], Server]


def test_every_block_of_the_page_is_tried() -> None:
    """By a test here that has its words."""
    nodes = ast.walk(ast.parse(Path(__file__).read_text()))
    said = {node.value for node in nodes if isinstance(node, ast.Constant)}
    assert {*DELIVERIES} <= said


# -- mbox -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["'home_mailbox ='", "procmail -a", "mailbox_command = maildrop"])
def test_postfix_to_var_mail(with_programs: Machines, words: str) -> None:
    server = with_programs(POSTFIX)
    typed(server, words)
    arrives(server, user(server))


def test_exim_to_var_mail(with_programs: Machines) -> None:
    server = with_programs(EXIM)
    arrives(server, user(server))
    typed(server, "mail_spool")
    arrives(server, user(server))


# -- Maildir ----------------------------------------------------------------------------------------------------------


def test_postfix_to_a_maildir(with_programs: Machines) -> None:
    server = with_programs(POSTFIX)
    typed(server, "home_mailbox = Maildir/")
    with maildirs(server):
        arrives(server, user(server))
    typed(server, "'home_mailbox ='")


def test_procmail_to_a_maildir(with_programs: Machines) -> None:
    server = with_programs(POSTFIX)
    typed(server, "procmail -a")
    with maildirs(server), file_with(server, "/etc/procmailrc", block_with("DEFAULT=$HOME/Maildir/").text):
        arrives(server, user(server))


def test_maildrop_to_a_maildir(with_programs: Machines) -> None:
    server = with_programs(POSTFIX)
    typed(server, "mailbox_command = maildrop")
    name, maildirmake = user(server), block_with("maildirmake.maildrop")
    with maildirs(server), file_with(server, "/etc/maildroprc", block_with('DEFAULT="$HOME/Maildir"').text):
        typed(server, "maildirmake.maildrop", name)
        arrives(server, name)
        arrives(server, user(server))  # whose home has one from /etc/skel
        server.machine.run(["rm", "-r", maildirmake.commands[0].split()[-1]])
        without = user(server)
        server.machine.run(["sendmail", "-i", without], stdin="Subject: x\n\nx\n")
        wait_until((server.machine.root / f"home/{without}/Maildir").is_file)


def test_dovecot_lda_to_a_maildir(with_programs: Machines, release: str) -> None:
    server = with_programs(POSTFIX)
    typed(server, "dovecot-lda -a")
    words = "mail_location" if release == "bookworm" else "mail_driver"
    with maildirs(server), file_with(server, "/etc/dovecot/local.conf", block_with(words).text):
        arrives(server, user(server))


def test_postfix_to_virtual_users(with_programs: Machines) -> None:
    server = with_programs(POSTFIX)
    machine = server.machine
    machine.run(["useradd", "--system", "--shell", "/usr/sbin/nologin", "vmail"])
    machine.run(["install", "-d", "-m", "700", "-o", "vmail", "/srv/mail"])
    machine.write("/root/list", f"jane:{PASSWORD}\n", mode=0o600)
    machine.write("/etc/postfix/mailboxes", block_with("jane@example.org jane/").text + "\n")
    drop_in = block_with("ReadWritePaths=-/srv/mail", "popad.conf.5")
    machine.run(["sh", "-c", "popad passwd --file /etc/popad/credentials --batch < /root/list"])
    typed(server, "virtual_mailbox_domains")
    with (
        server.settings(block_with("POPAD_VIRTUAL_USER=vmail").text + "\n"),
        server.drop_in("popad@.service", drop_in.text),
    ):
        assert machine.run(["popad", "check"]).stdout.endswith("no problem found\n")
        arrives(server, "jane@example.org", "jane")


def test_exim_to_a_maildir(with_programs: Machines) -> None:
    server = with_programs(EXIM)
    typed(server, "maildir_home")
    with maildirs(server):
        arrives(server, user(server))
    typed(server, "mail_spool")


def test_opensmtpd_to_a_maildir(with_programs: Machines) -> None:
    server = with_programs(OPENSMTPD)
    configuration = (server.machine.root / "etc/smtpd.conf").read_text()
    assert block_with('action "local" maildir').text in configuration.splitlines()
    with maildirs(server):
        arrives(server, user(server))


# -- what the page says of locks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("programs", [POSTFIX, EXIM], ids=["postfix", "exim"])
def test_who_waits_for_fcntl(with_programs: Machines, programs: tuple[str, ...]) -> None:
    server = with_programs(programs)
    typed(server, "'home_mailbox ='" if programs == POSTFIX else "mail_spool")
    name = user(server)
    arrives(server, name)
    mailbox = server.machine.root / "var/mail" / name
    with mailbox.open("r+b") as locked:
        fcntl.lockf(locked, fcntl.LOCK_EX)
        server.machine.run(["sendmail", "-i", name], stdin="Subject: x\n\nx\n")
        # The lock file comes with the first attempt at fcntl.
        wait_until(mailbox.with_name(f"{name}.lock").exists)
        assert mailbox.stat().st_size == 0
    wait_until(lambda: mailbox.stat().st_size)


def test_opensmtpd_does_not_mind_fcntl(with_programs: Machines) -> None:
    """It delivers to an mbox file that another program has locked; Postfix waits, and so would popad."""
    server = with_programs(OPENSMTPD)
    name, configuration = user(server), server.machine.root / "etc/smtpd.conf"
    before = configuration.read_text()
    mailbox = server.machine.root / "var/mail" / name
    mailbox.touch(0o600)
    server.machine.run(["chown", f"{name}:mail", f"/var/mail/{name}"])
    try:
        configuration.write_text(before.replace('"local" maildir', '"local" mbox'))
        server.machine.run(["systemctl", "restart", "opensmtpd"])
        with mailbox.open("r+b") as locked:
            fcntl.lockf(locked, fcntl.LOCK_EX)
            send = ["sendmail", "-i", name]
            wait_until(lambda: server.machine.run(send, stdin="Subject: x\n\nx\n", check=False).returncode == 0)
            wait_until(lambda: mailbox.stat().st_size)
    finally:
        configuration.write_text(before)
        server.machine.run(["systemctl", "restart", "opensmtpd"])


def test_dovecot_lda_cannot_deliver_to_var_mail_as_the_user(with_programs: Machines) -> None:
    server = with_programs(POSTFIX)
    typed(server, "dovecot-lda -a")
    name = user(server)
    server.machine.run(["sendmail", "-i", name], stdin="Subject: x\n\nx\n")
    wait_until(lambda: "temporary failure" in server.machine.run(["postqueue", "-p"]).stdout)
    server.machine.run(["postsuper", "-d", "ALL"])
    typed(server, "'home_mailbox ='")
