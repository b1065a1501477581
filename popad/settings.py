"""Every option and limit: POPAD_* name, how it is read, default, and the reason for it.

Settings come from the environment, which systemd has parsed already (unit, drop-in, EnvironmentFile). An unknown
POPAD_* name is an error like a bad value: a misspelt limit must not silently be no limit.
"""

TYPE_CHECKING = False  # typing costs 10 ms to import; type checkers treat this name as true
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from popad.sources import Network

from popad.errors import SettingWrong

PREFIX = "POPAD_"
STORES = ("mbox", "maildir")
FORMER_SERVERS = ("dovecot", "courier")
DOVECOTS_FORMAT = "%08Xu%08Xv"  # of pop3_uidl_format, where Dovecot has no other
SWITCH = {"yes": True, "no": False}
# Uids of preauth children: the first of these and the process number (at most 2^22), so that no two of them ever share
# one. Nobody gives these to users: systemd ("UIDs and GIDs") has them unused, ranges that sssd
# and FreeIPA give out end at 2,000,200,000.
PREAUTH_UIDS = range(0x7E000000, 0x7E400000)
COMMAND_OCTETS = 255  # RFC 2449 section 4: a command line with its line end
# Of a command's one argument: what such a line has room for, as USER and PASS are the same length, and clients may end
# a line with a bare LF. All that names and passwords pass through has room for so many.
ARGUMENT_OCTETS = COMMAND_OCTETS - len(b"USER \n")
LEAST_ARGUMENT = 40  # octets, RFC 1939 section 3
# Of SASL, the better first. SCRAM implies its form with channel binding.
MECHANISMS = ("EXTERNAL", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN")
NO_MECHANISM = "NONE"
ON_REQUEST = ("SCRAM-SHA-1",)  # offered where POPAD_SASL names it: a file need not have verifiers of it


def text(value: str) -> str:
    """Any text, or none."""
    return value


def word(value: str) -> str:
    """A name that is not empty and has no white space or slash."""
    if not value or "/" in value or value.split() != [value]:
        raise ValueError("must be one word without a slash")
    return value


def path(value: str) -> str:
    """An absolute path."""
    if not value.startswith("/") or ".." in value.split("/"):
        raise ValueError("must be an absolute path without ..")
    return value


def optional_path(value: str) -> str:
    """An absolute path, or nothing."""
    return path(value) if value else value


def maildrop(value: str) -> str:
    """STORE:PATH; {user}, {domain} and {home} in the path stand for the user's name, its part behind the @, and the
    home directory.
    """
    store, colon, place = value.partition(":")
    if not colon or store not in STORES:
        raise ValueError(f"must start with one of {', '.join(name + ':' for name in STORES)}")
    if not place.startswith(("/", "{home}/")) or ".." in place.split("/") or "\0" in place:
        raise ValueError("must name an absolute path without .. after the store")
    if is_a_lock(place.rpartition("/")[2]):
        raise ValueError("must not name a lock file")
    rest = place.replace("{user}", "").replace("{domain}", "").replace("{home}", "")
    if "{" in rest or "}" in rest:
        raise ValueError("knows {user}, {domain} and {home} only")
    return value


def maildrop_of_user(value: str) -> str:
    """A maildrop with the user's name in it, which may have braces: STORE:PATH."""
    store, colon, place = value.partition(":")
    if not colon or store not in STORES or not place.startswith("/") or ".." in place.split("/") or "\0" in place:
        raise ValueError("is not a store and an absolute path without ..")
    if is_a_lock(place.rpartition("/")[2]):
        raise ValueError("is the lock file of another mailbox")
    return value


def is_a_lock(name: str) -> bool:
    """Whether a file of this name is the lock of another mailbox, MAILBOX.lock, or one on the way to be: exim4 and
    alpine make MAILBOX.lock.HOST.TIME.PID first. Upper case counts, too: not all file systems tell it apart.
    """
    folded = name.lower()
    return folded.endswith(".lock") or ".lock." in folded


def missing(value: str) -> str:
    """What a Maildir is that is not there."""
    if value not in ("empty", "refused"):
        raise ValueError("must be empty or refused")
    return value


def former_server(value: str) -> tuple[str, str] | tuple[()]:
    """The POP3 server whose unique-ids count, and their format; or nothing."""
    server, colon, template = value.partition(":")
    if not value:
        return ()
    if server not in FORMER_SERVERS or (colon and (server != "dovecot" or not template)):
        raise ValueError("must be dovecot, dovecot:FORMAT, courier or empty")
    variables = template.replace("%%", "").split("%")[1:]
    if not all(map(is_variable, variables)):
        raise ValueError("must have a format of %u, %v, %f and %g; %{uid | hex(8)} of Dovecot 2.4 is %08Xu")
    if template and all(variable.lstrip("0123456789X")[0] == "v" for variable in variables):
        raise ValueError("must have a format that tells messages apart: with %u, %f or %g")
    return server, template or DOVECOTS_FORMAT


def is_variable(text: str) -> bool:
    """Whether what stands behind a percent sign begins with a variable of Dovecot's format: 08Xu, v."""
    rest = text.lstrip("0123456789")
    return len(text) - len(rest) <= 2 and rest.removeprefix("X")[:1] in tuple("uvfg")


def authentication(value: str) -> str:
    """Where passwords are checked."""
    if value not in ("pam", "file"):
        raise ValueError("must be pam or file")
    return value


def switch(value: str) -> bool:
    """Yes or no."""
    if value not in SWITCH:
        raise ValueError("must be yes or no")
    return SWITCH[value]


def count(value: str) -> int:
    """A whole number, 0 or more."""
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise ValueError("must be a whole number")
    return int(value)


def at_least_one(value: str) -> int:
    """A whole number, 1 or more."""
    if count(value) < 1:
        raise ValueError("must be at least 1")
    return int(value)


def seconds(value: str) -> int:
    """A whole number of seconds, at least 1 and at most a day."""
    if not 1 <= count(value) <= 86400:
        raise ValueError("must be between 1 and 86400 seconds")
    return int(value)


def argument_octets(value: str) -> int:
    """Octets of one argument: at least what RFC 1939 asks for, at most a whole command line."""
    if not LEAST_ARGUMENT <= count(value) <= COMMAND_OCTETS:
        raise ValueError(f"must be between {LEAST_ARGUMENT} and {COMMAND_OCTETS} octets")
    return int(value)


def prefix(value: str) -> int:
    """Bits of an IPv6 address."""
    if not 1 <= count(value) <= 128:
        raise ValueError("must be between 1 and 128 bits")
    return int(value)


def networks(value: str) -> "tuple[Network, ...]":
    """Addresses and networks, separated by white space, or nothing."""
    if not value:
        return ()  # without an import before each greeting
    from popad.sources import network

    try:
        return tuple(map(network, value.split()))
    except (OSError, ValueError):
        raise ValueError("must be addresses, or networks as ADDRESS/BITS, with space between them") from None


def domains(value: str) -> tuple[str, ...]:
    """Mail domains, separated by white space, or nothing. In lower case."""
    if any(mark in value for mark in "@/,;"):  # with a comma between them they would be one, which nobody has
        raise ValueError("must be domains without @, with space (no comma) between them")
    return tuple(value.lower().split())


def wrappers(value: str) -> str:
    """When TCP wrappers are asked."""
    if value not in ("daemon", "always", "never"):
        raise ValueError("must be daemon, always or never")
    return value


def locks(value: str) -> str:
    """Which locks a mailbox needs."""
    if value not in ("auto", "fcntl", "fcntl,dotlock"):
        raise ValueError("must be auto, fcntl or fcntl,dotlock")
    return value


def logged(value: str) -> str:
    """How much is logged."""
    if value not in ("quiet", "normal", "debug"):
        raise ValueError("must be quiet, normal or debug")
    return value


def paths(value: str) -> tuple[str, ...]:
    """Absolute paths, separated by white space, or nothing."""
    return tuple(map(path, value.split()))


def tls_version(value: str) -> str:
    """A version of TLS that is not broken (RFC 8996)."""
    if value not in ("1.2", "1.3"):
        raise ValueError("must be 1.2 or 1.3")
    return value


def unknown_name(value: str) -> str:
    """What a client gets that asks for a name that no certificate has."""
    if value not in ("first", "refuse"):
        raise ValueError("must be first or refuse")
    return value


def ports(value: str) -> tuple[int, ...]:
    """Ports, separated by white space, or none."""
    if not all(0 < count(word) < 65536 for word in value.split()):
        raise ValueError("must be ports, with space between them")
    return tuple(map(int, value.split()))


def plaintext(value: str) -> str:
    """Which clients may log in without TLS."""
    if value not in ("", "always", "local", "tls"):
        raise ValueError("must be always, local, tls or empty")
    return value


def sasl(value: str) -> tuple[str, ...]:
    """Mechanisms, separated by white space, or nothing for those that there can be."""
    words = tuple(value.upper().split())
    if not set(words) <= {*MECHANISMS, NO_MECHANISM} or (NO_MECHANISM in words and len(words) > 1):
        raise ValueError(f"must be some of {', '.join(MECHANISMS)}, or none, or empty")
    return words


def certified_name(value: str) -> str:
    """Which part of a client's certificate is its name."""
    if value not in ("email", "common-name"):
        raise ValueError("must be email or common-name")
    return value


def names(value: str) -> tuple[str, ...]:
    """Names of users, separated by white space, or nothing."""
    return tuple(value.split())


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
        maildrop,
        "mbox:/var/mail/{user}",
        "",
        "Where a user's mail is: mbox: or maildir:, and a path. popa3d, procmail and Debian's MTAs use this one; {home}"
        " is the home directory, {domain} what stands behind the @ of a name.",
    ),
    "POPAD_MAILDIR_SEEN": Setting(
        switch,
        "yes",
        "",
        "Whether a message of a Maildir that was retrieved goes into cur/ with the flag S, as one that was read.",
    ),
    "POPAD_MAILDIR_MISSING": Setting(
        missing,
        "empty",
        "",
        "What a Maildir is that is not there, where its parent is. refused: where the parent may be a place on which"
        " nothing is mounted.",
    ),
    "POPAD_UIDL": Setting(
        former_server,
        "",
        "",
        "The server that served a Maildir before: its messages keep the unique-ids that clients know. dovecot, or"
        " dovecot: and its pop3_uidl_format; courier. Empty: the names of the files.",
    ),
    "POPAD_AUTH": Setting(
        authentication, "pam", "", "pam: system users. file: the credentials file, for virtual users and containers."
    ),
    "POPAD_CREDENTIALS": Setting(
        path,
        "/etc/popad/credentials",
        "",
        "Verifiers of passwords, a line a user, read by the authentication helper alone.",
    ),
    "POPAD_PAM_SERVICE": Setting(word, "popad", "", "The file in /etc/pam.d that says how users are checked."),
    "POPAD_AUTH_SOCKET": Setting(
        optional_path,
        "",
        "",
        "The authentication helper's socket. Empty: the session starts a helper itself, as under inetd.",
    ),
    "POPAD_AUTH_TIMEOUT": Setting(
        seconds,
        "60",
        "seconds",
        "How long a verdict may take. PAM modules that ask the network can hang; a login must not hang with them.",
    ),
    "POPAD_AUTH_IDLE": Setting(
        seconds,
        "300",
        "seconds",
        "The authentication helper leaves after this time without a login and is started again on demand.",
    ),
    "POPAD_SASL": Setting(
        sasl,
        "",
        "",
        "Mechanisms that AUTH offers, where they are possible: PLAIN and LOGIN always, SCRAM with POPAD_AUTH=file,"
        " EXTERNAL with POPAD_TLS_CLIENT_CA. Empty: all but SCRAM-SHA-1. none: no AUTH.",
    ),
    "POPAD_VIRTUAL_USER": Setting(
        text,
        "",
        "",
        "The system user who owns the mail of names that only the credentials file has. Empty: they are refused.",
    ),
    "POPAD_USER": Setting(
        word,
        "popad",
        "",
        "The preauth user: its processes read from clients before the login. Owns nothing, may open nothing. Each has"
        " this user's group and a uid of its own (0x7E000000 and its process number), where there are as many.",
    ),
    "POPAD_TIMEOUT": Setting(
        seconds,
        "600",
        "seconds",
        "The autologout timer: RFC 1939 section 3 asks for at least ten minutes. Also for a client that takes nothing.",
    ),
    "POPAD_LOGIN_TIMEOUT": Setting(
        seconds,
        "120",
        "seconds",
        "From the greeting to the end of the login. A client that has not logged in gets less time than a user.",
    ),
    "POPAD_LOCK_TIMEOUT": Setting(
        seconds, "10", "seconds", "How long a locked mailbox is waited for. Clients give up after 30 to 60 seconds."
    ),
    "POPAD_LOCKS": Setting(
        locks,
        "auto",
        "",
        "Debian's policy: fcntl, then MAILBOX.lock. auto: an update makes that file where the user may. fcntl,dotlock:"
        " each access makes it or is refused. fcntl: no lock file is made or minded.",
    ),
    "POPAD_MAX_MESSAGES": Setting(
        at_least_one,
        "1000000",
        "messages",
        "What fits the memory of a session (MemoryMax= of popad@.service). A larger mailbox is refused. popa3d's limit"
        " is 2097152.",
    ),
    "POPAD_MAX_OCTETS": Setting(
        count, "0", "octets", "The largest mailbox that is served. 0: no limit, as its size costs time but no memory."
    ),
    "POPAD_MAX_ARGUMENT": Setting(
        argument_octets,
        str(COMMAND_OCTETS),
        "octets",
        "RFC 1939 section 3 asks for at least 40, and names can be long mail addresses. 255: all that a line can hold.",
    ),
    "POPAD_LOWER_CASE": Setting(
        switch, "no", "", "Whether the name that a client gives is put in lower case before it is looked up."
    ),
    "POPAD_STRIP_DOMAINS": Setting(
        domains,
        "",
        "",
        "Domains that are taken off the name that a client gives: with example.org, a@example.org is a.",
    ),
    "POPAD_MAX_SESSIONS": Setting(
        count,
        "250",
        "sessions",
        "For the daemon (-D): how many there may be at once. popa3d: 500; these fit in 2 GB.",
    ),
    "POPAD_MAX_SESSIONS_PER_SOURCE": Setting(
        count,
        "50",
        "sessions",
        "popa3d's limit, for the daemon (-D): how many of one address. More for a large NAT.",
    ),
    "POPAD_MIN_DELAY": Setting(
        seconds,
        "10",
        "seconds",
        "For the daemon (-D): a session without a login keeps its slot so long; limits are logged at most so often.",
    ),
    "POPAD_SOURCE_PREFIX": Setting(
        prefix, "64", "bits", "What counts as one IPv6 source: a customer has a /64 at least, and every address in it."
    ),
    "POPAD_WRAPPERS": Setting(
        wrappers, "daemon", "", "Who asks hosts.allow and hosts.deny: daemon (-D only, as popa3d does), always, never."
    ),
    "POPAD_GUESS_DELAY": Setting(
        count,
        "15",
        "seconds",
        "The longest that a verdict is put off after wrong passwords of the same source or for the same name, which is"
        " 1 second at first and doubles. 0: never.",
    ),
    "POPAD_GUESS_MEMORY": Setting(
        seconds, "300", "seconds", "How long after the last wrong password of a source, or for a name, it is forgotten."
    ),
    "POPAD_TRUSTED_SOURCES": Setting(
        networks,
        "",
        "",
        "Addresses and networks of a proxy or a web mail, which are no source of guesses: one stands for many users.",
    ),
    "POPAD_PROXY_FROM": Setting(
        networks,
        "",
        "",
        "Addresses and networks of proxies that say first who their client is (PROXY protocol 1 and 2), and are"
        " believed. Who else says so is refused.",
    ),
    "POPAD_TLS_CERTIFICATE": Setting(
        paths,
        "",
        "",
        "Certificates with their chains, PEM: the first is for clients that ask for no name of another. Empty: no TLS.",
    ),
    "POPAD_TLS_KEY": Setting(paths, "", "", "Their keys, in the same order. Empty: in the same files."),
    "POPAD_TLS_MIN": Setting(tls_version, "1.2", "", "The oldest version of TLS. RFC 9325 asks for 1.2."),
    "POPAD_TLS_CIPHERS": Setting(
        text, "", "", "Ciphers of TLS 1.2, as OpenSSL lists them. Empty: those with forward secrecy and without CBC."
    ),
    "POPAD_TLS_UNKNOWN_NAME": Setting(
        unknown_name,
        "first",
        "",
        "What a client gets that asks for a name (SNI) that no certificate has: the first one, or a refusal.",
    ),
    "POPAD_TLS_CLIENT_CA": Setting(
        optional_path,
        "",
        "",
        "The CA, PEM, that signs certificates of clients, which may log in with AUTH EXTERNAL. Empty: none is asked"
        " for.",
    ),
    "POPAD_TLS_CLIENT_NAME": Setting(
        certified_name, "email", "", "The part of such a certificate that is the user's name: email or common-name."
    ),
    "POPAD_TLS_PORTS": Setting(
        ports, "995", "", "Ports where TLS begins at once (POP3S, RFC 8314), if they are served."
    ),
    "POPAD_TLS_TIMEOUT": Setting(seconds, "30", "seconds", "How long a client has for the handshake."),
    "POPAD_TLS_SOCKET": Setting(
        optional_path, "", "", "The TLS helper's socket. Empty: the session starts a helper itself, as under inetd."
    ),
    "POPAD_TLS_USER": Setting(
        word, "popad-tls", "", "Who the TLS helper of the daemon (-D) and under inetd runs as. Owns nothing."
    ),
    "POPAD_PLAINTEXT": Setting(
        plaintext,
        "",
        "",
        "Who may log in without TLS: always, local (this host and POPAD_TRUSTED_SOURCES), tls (nobody). Empty: always"
        " while there is no certificate, as popa3d does, and local as soon as there is one.",
    ),
    "POPAD_STOP_TIMEOUT": Setting(
        seconds, "30", "seconds", "How long the daemon (-D), told to stop, waits for the sessions that run."
    ),
    "POPAD_STATE": Setting(
        path,
        "/var/lib/popad",
        "",
        "Where updates keep their redo logs, and room for the next, and unique-ids are remembered. Mode 1733.",
    ),
    "POPAD_CACHE": Setting(
        optional_path,
        "/var/cache/popad",
        "",
        "Where what a session learns of a large mailbox is kept for the next one. Mode 1733. Empty: nowhere.",
    ),
    "POPAD_LOG": Setting(
        logged,
        "normal",
        "",
        "quiet: failures, and one entry for each session that had a login. debug: each command after the login, too.",
    ),
    "POPAD_DEBUG_USERS": Setting(names, "", "", "Users whose sessions are logged as with POPAD_LOG=debug."),
    "POPAD_LOG_UNKNOWN": Setting(
        switch, "no", "", "Whether names that do not exist are logged: such a name may be a password typed too early."
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
