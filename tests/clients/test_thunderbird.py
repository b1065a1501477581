"""Thunderbird under a virtual screen: by STLS, and by TLS that begins at once, which are MAILHOST.md's settings.

A picture of what it shows is kept in $POPAD_TEST_CACHE/clients, to be looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import certificates
from tests.support.daemon import daemon, free_ports
from tests.support.here import CACHE
from tests.support.patience import PATIENCE, wait_until
from tests.support.screen import screen
from tests.support.serving import NAME, PASSWORD, Server

from .mail import MAIL, NAMES

needs = [tool for tool in ("thunderbird", "Xvfb", "import") if shutil.which(tool) is None]
STLS, AT_ONCE = 2, 3  # its numbers for "STARTTLS" and "SSL/TLS"
NORMAL_PASSWORD = 3
# No window but the main one, and nothing that asks the network.
QUIET = {
    "app.normandy.enabled": False,
    "app.update.auto": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "mail.inappnotifications.enabled": False,
    "mail.provider.suppress_dialog_on_startup": True,
    "mail.rights.version": 1,
    "mail.shell.checkDefaultClient": False,
    "mail.spotlight.firstRunDone": True,
    "mailnews.start_page.enabled": False,
    "mailnews.start_page_override.mstone": "ignore",
    "marionette.port": 0,
    "toolkit.telemetry.enabled": False,
}
UNKNOWN_ISSUER = 0x805A1FF3  # SEC_ERROR_UNKNOWN_ISSUER, as Thunderbird counts it

# What its dialogues do: believe an authority, store a password; and its button "Get Messages", which is done with 0 or
# the number of an error.
BELIEVE = """
const database = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
database.addCertFromBase64(arguments[0], "C,,");
"""
REMEMBER = """
const [user, password, done] = arguments;
const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
login.init("mailbox://localhost", null, "mailbox://localhost", user, password, "", "");
Services.logins.addLoginAsync(login).then(() => done());
"""
GET_MESSAGES = """
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const server = MailServices.accounts.getAccount("account1").incomingServer;
const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
const done = arguments[0];
const listener = { OnStartRunningUrl() {}, OnStopRunningUrl(url, status) { done(status); } };
MailServices.pop3.GetNewMail(null, listener, inbox, server);
"""
SHOW_INBOX = """
const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const server = MailServices.accounts.getAccount("account1").incomingServer;
const window = Services.wm.getMostRecentWindow("mail:3pane");
window.document.getElementById("tabmail").currentAbout3Pane.displayFolder(
  server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox).URI
);
"""


def preferences(port: int, security: int) -> str:
    """As the dialogue "Configure manually" leaves them."""
    account = {
        "mail.account.account1.identities": "id1",
        "mail.account.account1.server": "server1",
        "mail.account.account2.server": "server2",
        "mail.accountmanager.accounts": "account1,account2",
        "mail.accountmanager.localfoldersserver": "server2",
        "mail.identity.id1.useremail": f"{NAME}@example.org",
        "mail.server.server1.authMethod": NORMAL_PASSWORD,
        "mail.server.server1.delete_by_age_from_server": True,
        "mail.server.server1.directory-rel": "[ProfD]Mail/localhost",
        "mail.server.server1.hostname": "localhost",
        "mail.server.server1.leave_on_server": True,
        "mail.server.server1.login_at_startup": False,
        "mail.server.server1.num_days_to_leave_on_server": 14,
        "mail.server.server1.port": port,
        "mail.server.server1.socketType": security,
        "mail.server.server1.type": "pop3",
        "mail.server.server1.userName": NAME,
        "mail.server.server2.directory-rel": "[ProfD]Mail/Local Folders",
        "mail.server.server2.hostname": "Local Folders",
        "mail.server.server2.type": "none",
        "mail.server.server2.userName": "nobody",
    }
    return "".join(
        f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in (QUIET | account).items()
    )


class Marionette:
    """Mozilla's protocol for tests of its programs: JSON, with its length in front."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.incoming = self.socket.makefile("rb")
        self._read()  # its greeting
        self.ask("WebDriver:NewSession", {})
        self.ask("Marionette:SetContext", {"value": "chrome"})

    def close(self) -> None:
        self.incoming.close()
        self.socket.close()

    def ask(self, command: str, parameters: dict[str, Any]) -> Any:
        text = json.dumps([0, 1, command, parameters])
        self.socket.sendall(f"{len(text)}:{text}".encode())
        _, _, error, result = self._read()
        assert error is None, error
        return result

    def run(self, script: str, *given: str, waits: bool = False) -> Any:
        """What a script of the main window returns or, where it waits, is done with."""
        command = "WebDriver:ExecuteAsyncScript" if waits else "WebDriver:ExecuteScript"
        parameters = {"script": script, "args": given, "scriptTimeout": int(PATIENCE * 1000)}
        return self.ask(command, parameters)["value"]

    def _read(self) -> Any:
        size = b""
        while not size.endswith(b":"):
            octet = self.incoming.read(1)
            assert octet, "Thunderbird has ended"
            size += octet
        return json.loads(self.incoming.read(int(size[:-1])))


@contextmanager
def thunderbird(profile: Path, display: str) -> Iterator[Marionette]:
    """It runs, with its window on this display."""
    command = ["thunderbird", "--profile", str(profile), "--no-remote", "--marionette", "--remote-allow-system-access"]
    environment = {**os.environ, "HOME": str(profile), "DISPLAY": display, "LC_ALL": "C.UTF-8"}
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        port = profile / "MarionetteActivePort"
        wait_until(lambda: port.exists() and port.read_text().isdigit())
        with contextlib.closing(Marionette(int(port.read_text()))) as marionette:
            yield marionette
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.skipif(bool(needs), reason=f"not installed: {' '.join(needs)}")
@pytest.mark.parametrize("security", [STLS, AT_ONCE], ids=["STLS", "at once"])
def test_thunderbird(server: Server, security: int) -> None:
    server.deliver(MAIL)
    pair, middle, root = certificates.chain(server.path, "localhost")
    pair.chain.write_text(pair.chain.read_text() + middle.read_text())
    ports = free_ports(socket.AF_INET, "127.0.0.1", 2)
    where = [f"--listen=127.0.0.1:{ports[0]}", f"--listen-tls=127.0.0.1:{ports[1]}"]
    profile = server.path / "profile"
    profile.mkdir()
    (profile / "prefs.js").write_text(preferences(ports[security == AT_ONCE], security))
    authority = "".join(root.read_text().splitlines()[1:-1])
    settings = certificates.settings(pair) | {"POPAD_PLAINTEXT": "tls"}
    with (
        daemon(server, settings, arguments=where, ports=ports) as served,
        screen() as display,
        thunderbird(profile, display) as client,
    ):
        client.run(REMEMBER, NAME, PASSWORD, waits=True)
        assert client.run(GET_MESSAGES, waits=True) == UNKNOWN_ISSUER
        client.run(BELIEVE, authority)
        for _ in range(2):
            assert client.run(GET_MESSAGES, waits=True) == 0
        closed = served.entries("session-closed", 2)
        assert {each["tls"].partition(" ")[0] for each in closed} == {"TLSv1.3"}
        # The second time it knows them by their unique-ids; they stay for 14 days.
        assert [(each["retrieved"], each["deleted"]) for each in closed] == [("3", "0"), ("0", "0")]
        client.run(SHOW_INBOX)
        pictures = CACHE / "clients"
        pictures.mkdir(parents=True, exist_ok=True)
        picture = pictures / f"thunderbird-{'pop3s' if security == AT_ONCE else 'stls'}.png"
        environment = {**os.environ, "DISPLAY": display}
        subprocess.run(["import", "-window", "root", picture], env=environment, check=True, timeout=PATIENCE)
        inbox = (profile / "Mail/localhost/Inbox").read_text()
    assert all(f"body of the {name}" in inbox for name in NAMES)
