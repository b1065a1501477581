"""How the text of a setting is read: a function for each kind of value, which raises ValueError with what is wrong. And
what is more than one setting's: names, and the limits of a line.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.sources import Network

STORES = ("mbox", "maildir")
FORMER_SERVERS = {"dovecot": ("mbox", "maildir"), "courier": ("maildir",), "qpopper": ("mbox",)}  # of which stores
OWN_IDS = ("", "popa3d", "name")  # popad's own: popa3d's for mbox files, the names of the files for Maildirs
DOVECOTS_FORMAT = "%08Xu%08Xv"  # of pop3_uidl_format, where Dovecot has no other
SWITCH = {"yes": True, "no": False}
COMMAND_OCTETS = 255  # RFC 2449 section 4: a command line with its line end
# Of a command's one argument: what such a line has room for, as USER and PASS are the same length, and clients may end
# a line with a bare LF. All that names and passwords pass through has room for so many.
ARGUMENT_OCTETS = COMMAND_OCTETS - len(b"USER \n")
LEAST_ARGUMENT = 40  # octets, RFC 1939 section 3
# Of SASL, the better first. SCRAM implies its form with channel binding.
MECHANISMS = ("EXTERNAL", "SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN", "LOGIN")
NO_MECHANISM = "NONE"


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
    """The POP3 server whose unique-ids count, and their format; or nothing, for popad's own."""
    server, colon, template = value.partition(":")
    if value in OWN_IDS:
        return ()
    if server not in FORMER_SERVERS or (colon and (server != "dovecot" or not template)):
        raise ValueError("must be dovecot, dovecot:FORMAT, courier, qpopper, popa3d, name or empty")
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
