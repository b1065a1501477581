"""Every option and limit: POPAD_* name, how it is read (values.py), default, and the reason for it.

Settings come from the environment, which systemd has parsed already (unit, drop-in, EnvironmentFile). An unknown
POPAD_* name is an error like a bad value: a misspelt limit must not silently be no limit.
"""

TYPE_CHECKING = False  # typing costs 10 ms to import; type checkers treat this name as true
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from popad.sources import Network

from popad import values
from popad.errors import SettingWrong
from popad.values import COMMAND_OCTETS, MECHANISMS

PREFIX = "POPAD_"
# Uids of preauth children: the first of these and the process number (at most 2^22), so that no two of them ever share
# one. Nobody gives these to users: systemd ("UIDs and GIDs") has them unused, ranges that sssd
# and FreeIPA give out end at 2,000,200,000.
PREAUTH_UIDS = range(0x7E000000, 0x7E400000)
ON_REQUEST = ("SCRAM-SHA-1",)  # offered where POPAD_SASL names it: a file need not have verifiers of it


class Setting:
    """A row of the table: how the text is read, its default, its unit ("" for none) and the reason for the default."""

    __slots__ = ("default", "read", "unit", "why")

    def __init__(self, read: "Callable[[str], object]", default: str, unit: str, why: str) -> None:
        self.read = read
        self.default = default
        self.unit = unit
        self.why = why


TABLE: "dict[str, Setting]" = {
    "POPAD_MAILDROP": Setting(
        values.maildrop,
        "mbox:/var/mail/{user}",
        "",
        "Where a user's mail is: mbox: or maildir:, and a path. popa3d, procmail and Debian's MTAs use this one; {home}"
        " is the home directory, {domain} what stands behind the @ of a name.",
    ),
    "POPAD_MAILDIR_SEEN": Setting(
        values.switch,
        "yes",
        "",
        "Whether a message of a Maildir that was retrieved goes into cur/ with the flag S, as one that was read.",
    ),
    "POPAD_MAILDIR_MISSING": Setting(
        values.missing,
        "empty",
        "",
        "What a Maildir is that is not there, where its parent is. refused: where the parent may be a place on which"
        " nothing is mounted.",
    ),
    "POPAD_UIDL": Setting(
        values.former_server,
        "",
        "",
        "The server that served the mail before: its messages keep the unique-ids that clients know. dovecot, or"
        " dovecot: and its pop3_uidl_format; courier (Maildirs); qpopper (mbox files). Empty, popa3d or name: popad's"
        " own, which are popa3d's for mbox files and the names of a Maildir's files.",
    ),
    "POPAD_AUTH": Setting(
        values.authentication,
        "pam",
        "",
        "pam: system users. file: the credentials file, for virtual users and containers.",
    ),
    "POPAD_CREDENTIALS": Setting(
        values.path,
        "/etc/popad/credentials",
        "",
        "Verifiers of passwords, a line a user, read by the authentication helper alone.",
    ),
    "POPAD_PAM_SERVICE": Setting(values.word, "popad", "", "The file in /etc/pam.d that says how users are checked."),
    "POPAD_AUTH_SOCKET": Setting(
        values.optional_path,
        "",
        "",
        "The authentication helper's socket. Empty: the session starts a helper itself, as under inetd.",
    ),
    "POPAD_AUTH_TIMEOUT": Setting(
        values.seconds,
        "60",
        "seconds",
        "How long a verdict may take. PAM modules that ask the network can hang; a login must not hang with them.",
    ),
    "POPAD_AUTH_IDLE": Setting(
        values.seconds,
        "300",
        "seconds",
        "The authentication helper leaves after this time without a login and is started again on demand.",
    ),
    "POPAD_SASL": Setting(
        values.sasl,
        "",
        "",
        "Mechanisms that AUTH offers, where they are possible: PLAIN and LOGIN always, SCRAM with POPAD_AUTH=file,"
        " EXTERNAL with POPAD_TLS_CLIENT_CA. Empty: all but SCRAM-SHA-1. none: no AUTH.",
    ),
    "POPAD_VIRTUAL_USER": Setting(
        values.text,
        "",
        "",
        "The system user who owns the mail of names that only the credentials file has. Empty: they are refused.",
    ),
    "POPAD_USER": Setting(
        values.word,
        "popad",
        "",
        "The preauth user: its processes read from clients before the login. Owns nothing, may open nothing. Each has"
        " this user's group and a uid of its own (0x7E000000 and its process number), where there are as many.",
    ),
    "POPAD_TIMEOUT": Setting(
        values.seconds,
        "600",
        "seconds",
        "The autologout timer: RFC 1939 section 3 asks for at least ten minutes. Also for a client that takes nothing.",
    ),
    "POPAD_LOGIN_TIMEOUT": Setting(
        values.seconds,
        "120",
        "seconds",
        "From the greeting to the end of the login. A client that has not logged in gets less time than a user.",
    ),
    "POPAD_LOCK_TIMEOUT": Setting(
        values.seconds,
        "10",
        "seconds",
        "How long a locked mailbox is waited for. Clients give up after 30 to 60 seconds.",
    ),
    "POPAD_LOCKS": Setting(
        values.locks,
        "auto",
        "",
        "Debian's policy: fcntl, then MAILBOX.lock. auto: an update makes that file where the user may. fcntl,dotlock:"
        " each access makes it or is refused. fcntl: no lock file is made or minded.",
    ),
    "POPAD_MAX_MESSAGES": Setting(
        values.at_least_one,
        "500000",
        "messages",
        "What fits the memory of a session (MemoryMax= of popad@.service), of a Maildir, too. A larger mailbox is"
        " refused. popa3d's limit is 2097152.",
    ),
    "POPAD_MAX_OCTETS": Setting(
        values.count,
        "0",
        "octets",
        "The largest mailbox that is served. 0: no limit, as its size costs time but no memory.",
    ),
    "POPAD_MAX_ARGUMENT": Setting(
        values.argument_octets,
        str(COMMAND_OCTETS),
        "octets",
        "RFC 1939 section 3 asks for at least 40, and names can be long mail addresses. 255: all that a line can hold.",
    ),
    "POPAD_LOWER_CASE": Setting(
        values.switch, "no", "", "Whether the name that a client gives is put in lower case before it is looked up."
    ),
    "POPAD_STRIP_DOMAINS": Setting(
        values.domains,
        "",
        "",
        "Domains that are taken off the name that a client gives: with example.org, a@example.org is a.",
    ),
    "POPAD_MAX_SESSIONS": Setting(
        values.count,
        "230",
        "sessions",
        "For the daemon (-D): how many there may be at once. popa3d: 500; these fit in 2 GB.",
    ),
    "POPAD_MAX_SESSIONS_PER_SOURCE": Setting(
        values.count,
        "50",
        "sessions",
        "popa3d's limit, for the daemon (-D): how many of one address. More for a large NAT.",
    ),
    "POPAD_MIN_DELAY": Setting(
        values.seconds,
        "10",
        "seconds",
        "For the daemon (-D): a session without a login keeps its slot so long; limits are logged at most so often.",
    ),
    "POPAD_SOURCE_PREFIX": Setting(
        values.prefix,
        "64",
        "bits",
        "What counts as one IPv6 source: a customer has a /64 at least, and every address in it.",
    ),
    "POPAD_WRAPPERS": Setting(
        values.wrappers,
        "daemon",
        "",
        "Who asks hosts.allow and hosts.deny: daemon (-D only, as popa3d does), always, never.",
    ),
    "POPAD_GUESS_DELAY": Setting(
        values.count,
        "15",
        "seconds",
        "The longest that a verdict is put off after wrong passwords of the same source or for the same name, which is"
        " 1 second at first and doubles. 0: never.",
    ),
    "POPAD_GUESS_MEMORY": Setting(
        values.seconds,
        "300",
        "seconds",
        "How long after the last wrong password of a source, or for a name, it is forgotten.",
    ),
    "POPAD_TRUSTED_SOURCES": Setting(
        values.networks,
        "",
        "",
        "Addresses and networks of a proxy or a web mail, which are no source of guesses: one stands for many users.",
    ),
    "POPAD_PROXY_FROM": Setting(
        values.networks,
        "",
        "",
        "Addresses and networks of proxies that say first who their client is (PROXY protocol 1 and 2), and are"
        " believed. Who else says so is refused.",
    ),
    "POPAD_TLS_CERTIFICATE": Setting(
        values.paths,
        "",
        "",
        "Certificates with their chains, PEM: the first is for clients that ask for no name of another. Empty: no TLS.",
    ),
    "POPAD_TLS_KEY": Setting(values.paths, "", "", "Their keys, in the same order. Empty: in the same files."),
    "POPAD_TLS_MIN": Setting(values.tls_version, "1.2", "", "The oldest version of TLS. RFC 9325 asks for 1.2."),
    "POPAD_TLS_CIPHERS": Setting(
        values.text,
        "",
        "",
        "Ciphers of TLS 1.2, as OpenSSL lists them. Empty: those with forward secrecy and without CBC.",
    ),
    "POPAD_TLS_UNKNOWN_NAME": Setting(
        values.unknown_name,
        "first",
        "",
        "What a client gets that asks for a name (SNI) that no certificate has: the first one, or a refusal.",
    ),
    "POPAD_TLS_CLIENT_CA": Setting(
        values.optional_path,
        "",
        "",
        "The CA, PEM, that signs certificates of clients, which may log in with AUTH EXTERNAL. Empty: none is asked"
        " for.",
    ),
    "POPAD_TLS_CLIENT_NAME": Setting(
        values.certified_name,
        "email",
        "",
        "The part of such a certificate that is the user's name: email or common-name.",
    ),
    "POPAD_TLS_PORTS": Setting(
        values.ports, "995", "", "Ports where TLS begins at once (POP3S, RFC 8314), if they are served."
    ),
    "POPAD_TLS_TIMEOUT": Setting(values.seconds, "30", "seconds", "How long a client has for the handshake."),
    "POPAD_TLS_SOCKET": Setting(
        values.optional_path,
        "",
        "",
        "The TLS helper's socket. Empty: the session starts a helper itself, as under inetd.",
    ),
    "POPAD_TLS_USER": Setting(
        values.word, "popad-tls", "", "Who the TLS helper of the daemon (-D) and under inetd runs as. Owns nothing."
    ),
    "POPAD_PLAINTEXT": Setting(
        values.plaintext,
        "",
        "",
        "Who may log in without TLS: always, local (this host and POPAD_TRUSTED_SOURCES), tls (nobody). Empty: always"
        " while there is no certificate, as popa3d does, and local as soon as there is one.",
    ),
    "POPAD_STOP_TIMEOUT": Setting(
        values.seconds, "30", "seconds", "How long the daemon (-D), told to stop, waits for the sessions that run."
    ),
    "POPAD_STATE": Setting(
        values.path,
        "/var/lib/popad",
        "",
        "Where updates keep their redo logs, and room for the next, and unique-ids are remembered. Mode 1733.",
    ),
    "POPAD_CACHE": Setting(
        values.optional_path,
        "/var/cache/popad",
        "",
        "Where what a session learns of a large mailbox is kept for the next one. Mode 1733. Empty: nowhere.",
    ),
    "POPAD_LOG": Setting(
        values.logged,
        "normal",
        "",
        "quiet: failures, and one entry for each session that had a login. debug: each command after the login, too.",
    ),
    "POPAD_DEBUG_USERS": Setting(values.names, "", "", "Users whose sessions are logged as with POPAD_LOG=debug."),
    "POPAD_LOG_UNKNOWN": Setting(
        values.switch,
        "no",
        "",
        "Whether names that do not exist are logged: such a name may be a password typed too early.",
    ),
}


class Settings:
    """The effective settings, one attribute a row of the table: POPAD_LOCK_TIMEOUT is lock_timeout.

    Times are whole seconds, sizes octets.
    """

    maildrop: str
    maildir_seen: bool
    maildir_missing: str
    uidl: tuple[str, str] | tuple[()]
    auth: str
    credentials: str
    pam_service: str
    auth_socket: str
    auth_timeout: int
    auth_idle: int
    sasl: tuple[str, ...]
    virtual_user: str
    user: str
    timeout: int
    login_timeout: int
    lock_timeout: int
    locks: str
    max_messages: int
    max_octets: int
    max_argument: int
    lower_case: bool
    strip_domains: tuple[str, ...]
    max_sessions: int
    max_sessions_per_source: int
    min_delay: int
    source_prefix: int
    wrappers: str
    guess_delay: int
    guess_memory: int
    trusted_sources: "tuple[Network, ...]"
    proxy_from: "tuple[Network, ...]"
    tls_certificate: tuple[str, ...]
    tls_key: tuple[str, ...]
    tls_min: str
    tls_ciphers: str
    tls_unknown_name: str
    tls_client_ca: str
    tls_client_name: str
    tls_ports: tuple[int, ...]
    tls_timeout: int
    tls_socket: str
    tls_user: str
    plaintext: str
    stop_timeout: int
    state: str
    cache: str
    log: str
    debug_users: tuple[str, ...]
    log_unknown: bool

    def __init__(self, environ: "Mapping[str, str]", wrong: "list[SettingWrong] | None" = None) -> None:
        """Read every setting from `environ`. Raises SettingWrong that names the first wrong one; or, with a list, puts
        all of them there, and has the defaults in their place.
        """
        found = [SettingWrong(name, "no such setting") for name in environ if is_unknown(name)]
        for name, row in TABLE.items():
            try:
                value = row.read(environ.get(name, row.default))
            except ValueError as error:
                found.append(SettingWrong(name, str(error)))
                value = row.read(row.default)
            setattr(self, name[len(PREFIX) :].lower(), value)
        if wrong is not None:
            wrong += found
        elif found:
            raise found[0]


def sasl_mechanisms(settings: Settings) -> tuple[str, ...]:
    """The mechanisms that these settings offer, without what depends on the connection."""
    possible = {"PLAIN", "LOGIN"}
    if settings.auth == "file":
        possible |= {"SCRAM-SHA-256", "SCRAM-SHA-1"}
    if settings.tls_client_ca:
        possible.add("EXTERNAL")
    wanted = settings.sasl or [name for name in MECHANISMS if name not in ON_REQUEST]
    return tuple(name for name in MECHANISMS if name in possible and name in wanted)


def is_unknown(name: str) -> bool:
    """Whether this looks like a setting and is none."""
    return name.startswith(PREFIX) and name not in TABLE
