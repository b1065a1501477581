"""MAILHOST.md, typed block by block into a machine that has what the page says; then mail goes through it."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import certificates
from tests.support.machine import PACKAGES, Machine, needs, tree
from tests.support.patience import PATIENCE, wait_until
from tests.support.pop3 import Pop3
from tests.system.recipes import indented
from tests.system.terminal import at_a_terminal

PAGE = "packaging/doc/MAILHOST.md"
HOST, ADDRESS = "mail.example.org", "192.0.2.25"
STRANGER, GUESSER = "192.0.2.99", "192.0.2.98"
PASSWORD = "correct horse"
INTERNET = "# Needs the Internet\n"
LINEAGE = f"/etc/letsencrypt/live/{HOST}"
# What "apt install" brings on the page, without certbot; the services' names that every installed Debian has; a client.
PROGRAMS = ("postfix", "sasl2-bin", "libsasl2-modules", "ca-certificates", "nftables", "netbase", "mpop")
pytestmark = pytest.mark.skipif(bool(needs()), reason=needs())


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest, package: Path) -> Iterator[Machine]:
    """An address, and a name in the DNS, which /etc/hosts is here; and the package, copied to it."""
    with Machine(tree(request.param, (*PACKAGES, *PROGRAMS))) as booted:
        booted.run(["rm", "-f", "/etc/dpkg/dpkg.cfg.d/99mmdebstrap"])  # which leaves documents out
        for address in (ADDRESS, STRANGER, GUESSER):
            booted.run(["ip", "address", "add", f"{address}/32", "dev", "lo"])
        booted.write("/etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{ADDRESS} {HOST}\n")
        booted.copy(package, f"/root/{package.name}")
        yield booted


# -- in place of the Internet -----------------------------------------------------------------------------------------


def programs_are_there(machine: Machine) -> None:
    """As the tree has them; but for certbot all that the block names."""
    (block,) = (each.text for each in indented(PAGE) if "apt update" in each.text)
    wanted = set(block.splitlines()[-1].split()[2:])
    assert wanted - {"certbot"} <= {*PACKAGES, *PROGRAMS}


def a_certificate_is_made(machine: Machine) -> None:
    """By an authority of the test's own that the machine believes."""
    place = machine.root / "root/ca"
    place.mkdir()
    _, _, root = certificates.chain(place, HOST)
    machine.copy(root, "/usr/local/share/ca-certificates/test.crt")
    machine.run(["update-ca-certificates"])
    is_there(machine)


def a_renewal_is_made(machine: Machine) -> None:
    """By the same authority, for the same key; its number is another."""
    sign = "openssl x509 -req -in leaf.csr -CA middle.pem -CAkey middle.key -days 90 -extfile leaf.ext -out leaf.pem"
    machine.run(["sh", "-ec", f"cd /root/ca; {sign}"])
    is_there(machine)


def is_there(machine: Machine) -> None:
    """Where certbot puts it; and the hook is called as certbot does."""
    machine.run(["mkdir", "-p", LINEAGE])
    machine.run(["sh", "-ec", f"cd /root/ca; cat leaf.pem middle.pem > {LINEAGE}/fullchain.pem"])
    machine.run(["install", "-m", "600", "/root/ca/leaf.key", f"{LINEAGE}/privkey.pem"])
    (block,) = (each.text for each in indented(PAGE) if "certbot certonly" in each.text)
    machine.run(["env", f"RENEWED_LINEAGE={LINEAGE}", block.split()[-1]])


ELSEWHERE: dict[str, Callable[[Machine], None]] = {
    "apt update": programs_are_there,
    "certbot certonly": a_certificate_is_made,
    "certbot renew": a_renewal_is_made,
}


def test_every_block_that_is_not_typed_has_its_equivalent() -> None:
    marked = [block.text for block in indented(PAGE) if block.text.startswith(INTERNET)]
    assert len(marked) == len(ELSEWHERE)
    for words in ELSEWHERE:
        assert sum(words in text for text in marked) == 1, words


# -- what the blocks have to show -------------------------------------------------------------------------------------


def mail_in(machine: Machine, number: int) -> None:
    """Postfix has delivered as many messages to jane."""
    wait_until(lambda: len(list((machine.root / "home/jane/Maildir").glob("[nc][eu][wr]/*"))) == number)


BEFORE: dict[str, Callable[[Machine], None]] = {
    "popad test-login": lambda machine: mail_in(machine, 1),
    "popad who": lambda machine: mail_in(machine, 2),
}
# Words of a block, and what the terminal has to show when it was typed.
SHOWN = {
    "END\nsystemctl daemon-reload": "no problem found",
    "popad-standalone.service\n": "no problem found",
    "popad test-login": "STAT:      +OK 1 ",
    "pop3s://": "The first one.",
    "postqueue -p": "status=sent (delivered to maildir)",
    "smtp://192.0.2.25": "Relay access denied",
    "grep POPAD_TLS": f"fullchain.pem: {HOST}, 89 days left",
    "journalctl -t popad -x": "1 messages (",
    "popad report": "TLSv1.3       1",
    "nft list": "chain arrives",
    "du -s": "/home/jane/Maildir",
}
REFUSED = "smtp://192.0.2.25"  # the block that has to fail


@dataclass
class MailHost:
    """The machine behind the last block, and what the terminal showed of each."""

    machine: Machine
    shown: dict[str, str]


@pytest.fixture(scope="module")
def mailhost(machine: Machine) -> MailHost:
    shown = {}
    for block in indented(PAGE):
        if block.text.startswith(INTERNET):
            next(do for words, do in ELSEWHERE.items() if words in block.text)(machine)
            continue
        for words, wait in BEFORE.items():
            if words in block.text:
                wait(machine)
        typed = f"cd; export PAGER=cat\n{block.text}\n"
        shown[block.text + "\n"] = at_a_terminal(machine, typed, PASSWORD, check=REFUSED not in block.text)
    return MailHost(machine, shown)


@pytest.mark.parametrize("words", SHOWN)
def test_a_block_shows(mailhost: MailHost, words: str) -> None:
    (said,) = (said for text, said in mailhost.shown.items() if words in text)
    assert SHOWN[words] in said, said


def test_nothing_has_failed(mailhost: MailHost) -> None:
    assert mailhost.machine.run(["systemctl", "--failed", "--no-legend", "--plain"]).stdout == ""


# -- mail goes through ------------------------------------------------------------------------------------------------


def believing(machine: Machine) -> ssl.SSLContext:
    """A client elsewhere, with the authority of the certificate that the machine believes."""
    return ssl.create_default_context(cafile=str(machine.root / "root/ca/root.pem"))


def smtp(machine: Machine) -> smtplib.SMTP:
    """A mail server elsewhere, which has the name that it was given for the host in its mind."""
    client = smtplib.SMTP(timeout=PATIENCE)
    client.sock = machine.connect(ADDRESS, 25, source=STRANGER)
    client._host = HOST  # type: ignore[attr-defined]  # for starttls(), as connect() would have set it
    assert client.getreply()[0] == 220
    return client


def test_a_mail_from_elsewhere_is_fetched(mailhost: MailHost) -> None:
    """By SMTP with TLS into Postfix, by mpop over POP3S out of popad: both certificates are looked at."""
    machine = mailhost.machine
    before = machine.cursor()
    with smtp(machine) as client:
        client.starttls(context=believing(machine))
        client.sendmail("far@example.net", ["jane@example.org"], "Subject: far\n\nFrom far away.\n")
    machine.wait_entry({"SYSLOG_IDENTIFIER": "postfix/local", "MESSAGE": "delivered to maildir"}, after=before)
    machine.write("/root/mpoprc", MPOP, mode=0o600)
    machine.run(["sh", "-ec", "cd; mkdir -p fetched/new fetched/cur fetched/tmp; mpop --file mpoprc"])
    fetched = [path.read_text() for path in (machine.root / "root/fetched/new").iterdir()]
    assert sorted(text.rstrip().rpartition("\n")[2] for text in fetched) == [
        "From far away.",
        "The first one.",
        "The second one.",
    ]
    entry = machine.wait_entry({"POPAD_EVENT": "session-closed", "POPAD_DELETED": "3"}, after=before)
    assert (entry["POPAD_USER"], entry["POPAD_TLS_NAME"]) == ("jane", HOST)


MPOP = f"""account default
host {HOST}
port 995
tls on
tls_starttls off
user jane@example.org
password "{PASSWORD}"
keep off
delivery maildir /root/fetched
"""


def test_a_client_that_means_another_host_does_not_log_in(mailhost: MailHost) -> None:
    """So the certificate is what the test above has looked at."""
    machine = mailhost.machine
    machine.run(["sh", "-ec", f"echo {ADDRESS} other.example.org >> /etc/hosts"])
    machine.write("/root/mpoprc2", MPOP.replace(HOST, "other.example.org"), mode=0o600)
    assert machine.run(["mpop", "--file", "/root/mpoprc2"], check=False).returncode != 0


def test_a_renewed_certificate_is_served(mailhost: MailHost) -> None:
    plain = mailhost.machine.connect(ADDRESS, 995, source=STRANGER)
    with believing(mailhost.machine).wrap_socket(plain, server_hostname=HOST) as client:
        served = client.getpeercert(binary_form=True)
    assert served == ssl.PEM_cert_to_DER_cert((mailhost.machine.root / "root/ca/leaf.pem").read_text())


def test_nobody_relays_from_elsewhere(mailhost: MailHost) -> None:
    with smtp(mailhost.machine) as client, pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
        client.sendmail("a@example.net", ["b@example.net"], "Subject: spam\n\nspam\n")
    assert b"Relay access denied" in refused.value.recipients["b@example.net"][1]


def test_nobody_logs_in_from_elsewhere_without_tls(mailhost: MailHost) -> None:
    with Pop3(mailhost.machine.connect(ADDRESS, 110, source=STRANGER)).greeted() as client:
        assert client.say("USER jane").startswith(b"-ERR")


def submissions(machine: Machine, source: str) -> smtplib.SMTP:
    """A mail client that is about to send."""
    client = smtplib.SMTP(timeout=PATIENCE)
    plain = machine.connect(ADDRESS, 465, source=source)
    client.sock = believing(machine).wrap_socket(plain, server_hostname=HOST)
    assert client.getreply()[0] == 220
    return client


def test_nobody_sends_with_another_password(mailhost: MailHost) -> None:
    with submissions(mailhost.machine, STRANGER) as client:
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("jane@example.org", "wrong")
        assert client.login("jane@example.org", PASSWORD)[0] == 235


def test_nobody_sends_without_a_password(mailhost: MailHost) -> None:
    """On the port for users: not even to this host."""
    with submissions(mailhost.machine, STRANGER) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail("a@example.net", ["jane@example.org"], "Subject: x\n\nx\n")


def test_an_address_may_try_ten_passwords_a_minute(mailhost: MailHost) -> None:
    """Right ones count, too, and take no time."""
    for _ in range(10):
        with submissions(mailhost.machine, GUESSER) as client:
            assert client.login("jane@example.org", PASSWORD)[0] == 235
    with submissions(mailhost.machine, GUESSER) as client, pytest.raises(smtplib.SMTPResponseException) as refused:
        client.login("jane@example.org", PASSWORD)
    assert b"too many AUTH commands" in refused.value.smtp_error
