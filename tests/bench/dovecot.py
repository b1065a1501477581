"""Dovecot's configuration for the benchmark, in the words of 2.3 (Debian 12) and in those of 2.4 (Debian 13)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """What each part of a configuration is in one version."""

    common: str
    mbox: str
    maildir: str
    certificate: str  # with {chain} and {key}
    clients: str  # of a login process: which setting says how many it serves before it ends
    any_number: str

    def login(self, clients: int, *more: str) -> str:
        """The login processes. `clients`: how many each serves, 0 for any number."""
        lines = [f"{self.clients} = {clients or self.any_number}", *more]
        return "service pop3-login {\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


ALWAYS = "protocols = pop3\nmail_max_userip_connections = 0\n"
OF_2_3 = Words(
    common=ALWAYS + "disable_plaintext_auth = no\npassdb {\n  driver = pam\n}\nuserdb {\n  driver = passwd\n}\n",
    mbox="mail_location = mbox:~/mail:INBOX=/var/mail/%u\nmail_access_groups = mail\n",
    maildir="mail_location = maildir:~/Maildir\n",
    certificate="ssl = yes\nssl_cert = <{chain}\nssl_key = <{key}\n",
    clients="service_count",
    any_number="0",
)
OF_2_4 = Words(
    # The first setting has to be the version whose words these are.
    common="dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"
    + ALWAYS
    + "auth_allow_cleartext = yes\npassdb pam {\n}\nuserdb passwd {\n}\n",
    mbox="mail_driver = mbox\nmail_path = ~/mail\nmail_inbox_path = /var/mail/%{user}\nmail_access_groups = mail\n",
    maildir="mail_driver = maildir\nmail_path = ~/Maildir\n",
    certificate="ssl = yes\nssl_server_cert_file = {chain}\nssl_server_key_file = {key}\n",
    clients="restart_request_count",
    any_number="unlimited",
)


def words_of(version: str) -> Words:
    """Of a version as dpkg has it: "1:2.3.19.1+dfsg1-2.1"."""
    upstream = version.rpartition(":")[2]
    major, minor = (int(number) for number in upstream.split(".")[:2])
    return OF_2_4 if (major, minor) >= (2, 4) else OF_2_3
