"""Structured events: to journald where there is one, else a line on standard error; where nobody reads that, to syslog.

What a client, a mailbox or a file says is escaped in every field and quoted in every message: an attacker writes it.
What no log takes is counted, and said as soon as one does.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

from popad import sinks
from popad.sinks import ERROR, FACILITY_MAIL

# No event is below NOTICE: popad@.service keeps systemd's three lines for each session out of the journal by its
# LogLevelMax=, which holds for what the session itself writes, too.
WARNING, NOTICE = 4, 5


class Event:
    """One kind of entry. The name goes to POPAD_EVENT; `message` takes its {fields} from the entry, quoted."""

    __slots__ = ("message", "message_id", "name", "priority")

    def __init__(self, name: str, message_id: str, priority: int, message: str) -> None:
        self.name = name
        self.message_id = message_id
        self.priority = priority
        self.message = message
        EVENTS.append(self)


EVENTS: list[Event] = []

SESSION_OPENED = Event("session-opened", "274f78c3aee846149783b074de5e9697", NOTICE, "{rhost}: session")
LOGIN_PASSED = Event(
    "login-passed", "2ee19e18aabf40f3b6bd8a7614ee90d0", NOTICE, "{rhost}: authentication passed for {user}"
)
LOGIN_FAILED = Event(
    "login-failed", "320fffff62cd4ef3a03e2b0efecbb3b6", NOTICE, "{rhost}: authentication failed for {user}: {reason}"
)
LOGIN_REFUSED = Event(
    "login-refused", "3c474ae20ef849a28c864af71645cdd7", WARNING, "{rhost}: {user} may not have a session: {reason}"
)
LOGIN_UNAVAILABLE = Event(
    "login-unavailable", "fcb6bce984864a9ab44ccce98b1fe817", ERROR, "{rhost}: authentication not possible: {reason}"
)
LOGIN_NOT_ATTEMPTED = Event(
    "login-not-attempted",
    "f2cdae1f7aef46cca2c1641ca6f26868",
    NOTICE,
    "{rhost}: didn't attempt authentication: {reason}",
)
PROXY_REFUSED = Event(
    "proxy-refused",
    "9aced1aec11c4ddca7254557fa85e8cc",
    WARNING,
    "{rhost}: a proxy is to send the address of its client first: {reason}",
)
HANDSHAKE_FAILED = Event("handshake-failed", "c1a2a4375a544fb1809e17cac2306a7e", NOTICE, "{rhost}: no TLS: {reason}")
TLS_UNAVAILABLE = Event(
    "tls-unavailable", "e2a4e65262c34cf1a47c83c89a7d453e", ERROR, "{rhost}: TLS not possible: {reason}"
)
CERTIFICATE_EXPIRES = Event(
    "certificate-expires", "286790646b824716a9513b7ca1a9a705", WARNING, "a certificate: {reason}"
)
PEER_GONE = Event("peer-gone", "5029fc8812244570997f84f4344f6405", NOTICE, "{rhost}: premature disconnect of {user}")
PEER_SILENT = Event(
    "peer-silent", "f18230954fcb4d09a899204d002397e7", NOTICE, "{rhost}: connection of {user} timed out"
)
MAILDROP_LOADED = Event(
    "maildrop-loaded",
    "8c8c110c200246af95015aa0c31a9101",
    NOTICE,
    "{rhost}: {messages} messages ({octets} octets) loaded for {user}",
)
MAILDROP_REFUSED = Event(
    "maildrop-refused",
    "5207228bb4174b1ba1634109cac660d4",
    ERROR,
    "{rhost}: failed or refused to load {maildrop} of {user}: {reason}",
)
MAILDROP_CHANGED = Event(
    "maildrop-changed",
    "08c76e6594754d8bbc719cb0e0e0961a",
    WARNING,
    "{rhost}: another program changed {maildrop} of {user}: {reason}",
)
MAILDROP_UNREADABLE = Event(
    "maildrop-unreadable",
    "b1755d11bf1247b582f1e35f3a57b7ed",
    ERROR,
    "{rhost}: cannot read {maildrop} of {user} now: {reason}",
)
MESSAGE_GONE = Event(
    "message-gone",
    "9bea883f508b48d083006d0d3dd63154",
    NOTICE,
    "{rhost}: another program removed a message of {user} from {maildrop}: {reason}",
)
SIZE_WRONG = Event(
    "size-wrong",
    "c3533741e7c84239900d11fa15a2de6a",
    WARNING,
    "{rhost}: messages in {maildrop} of {user} are of another size than their names say: {reason}",
)
MAILDROP_UPDATED = Event(
    "maildrop-updated",
    "81ccae56d3004ca88130d01a198a1e24",
    NOTICE,
    "{rhost}: {deleted} messages deleted, {left} ({left_octets} octets) left for {user}",
)
UPDATE_FAILED = Event(
    "update-failed",
    "642f22e4de904ad4b2f11a13261dda95",
    ERROR,
    "{rhost}: failed to update {maildrop} of {user}: {reason}",
)
UPDATE_RECOVERED = Event(
    "update-recovered",
    "3f64533dace34d35a41f84a059697d29",
    NOTICE,
    "{rhost}: finished an interrupted update of {maildrop} of {user}",
)
UPDATE_ORPHANED = Event(
    "update-orphaned",
    "1d892d0af18f4462879315074d1411be",
    ERROR,
    "{rhost}: an interrupted update of {maildrop} of {user} was not finished, see {kept}: {reason}",
)
IDS_NOT_KEPT = Event(
    "ids-not-kept",
    "0beed544b3684acdabadde6703cfa737",
    ERROR,
    "{rhost}: the unique-ids of {maildrop} of {user} are not kept: {reason}",
)
MAILDROP_READ_ONLY = Event(
    "maildrop-read-only",
    "b6de165be8cb48be9badd2d1a58c3e36",
    WARNING,
    "{rhost}: mail of {user} in {maildrop} cannot be deleted: {reason}",
)
PROTOCOL = Event("protocol", "6c5dab7689c24462ba104a21c6edaa84", NOTICE, "{rhost}: {user}: {said}")
SESSION_CLOSED = Event(
    "session-closed",
    "65f268e413ca4679a5816bf6e36169e0",
    NOTICE,
    "{rhost}: session of {user} closed: {retrieved} retrieved, {topped} topped, {deleted} deleted, {left} left",
)
SESSION_INTERRUPTED = Event(
    "session-interrupted",
    "6d902d2090734f9ea862a732bc133ca1",
    NOTICE,
    "{rhost}: session of {user} was told to end ({signal})",
)
SESSION_KICKED = Event(
    "session-kicked", "e5b016a51dcd4947909570be9fb86357", NOTICE, "{rhost}: session of {user} was ended by {by}"
)
ACCESS_DENIED = Event(
    "access-denied", "268bd6d26243492386b94553453e13ba", NOTICE, "{rhost}: refused by hosts.allow and hosts.deny"
)
LIMIT_REACHED = Event(
    "limit-reached",
    "d3435750e3954da6bc12ea56a18d869c",
    WARNING,
    "{rhost}: connection refused ({limit}), {dropped} refused since the last message",
)
SESSION_STOPPED = Event(
    "session-stopped",
    "142799e2b5eb4f96a73da17def68b18c",
    WARNING,
    "a session was stopped (SIGSTOP) for as long as a client may be silent, and is ended: process {pid}",
)
HELPER_DIED = Event(
    "helper-died",
    "484385f020e742ab97622791b8c16de6",
    ERROR,
    "the helper for {helper} died and is started again: {reason}",
)
DAEMON_STARTED = Event(
    "daemon-started",
    "cd8f1d193aab4ebea47ba509ddf6d666",
    NOTICE,
    "popad {version} listens on {addresses}, for at most {max_sessions} sessions",
)
MEMORY_NOT_SHARED = Event(
    "memory-not-shared",
    "31c1b6f99dae454e80180a5b0ce8a2f9",
    NOTICE,
    "sessions take more memory and time than with Debian's Python: {reason}",
)
DAEMON_STOPPED = Event(
    "daemon-stopped",
    "0a7dcfecc80f44e0b999051df90983c1",
    NOTICE,
    "popad has stopped; sessions that ended by themselves: {finished}, that were told to: {told}",
)
RELOADED = Event("reloaded", "147804122dcb4f748379e1d7c64c2f41", NOTICE, "settings read again, for new sessions")
RELOAD_REFUSED = Event(
    "reload-refused", "34975ef8119a4f4bbf2af13d9476488f", ERROR, "settings not changed, a new one is wrong: {reason}"
)
SETTING_WRONG = Event("setting-wrong", "fc4a6249e3b0453284924ab3a9e06793", ERROR, "cannot serve: {reason}")
CONTRACT_BROKEN = Event(
    "contract-broken", "a650123f666e49cea000d0fc64c98ffa", ERROR, "{rhost}: a part of popad misbehaved: {reason}"
)
ONE_IDENTITY = Event(
    "one-identity",
    "30e0d1b225804091a691a6c3783bf26c",
    NOTICE,
    "{rhost}: not started as root: one user id for all parts",
)
ENTRIES_LOST = Event(
    "entries-lost",
    "1e5b59b63d244ea3800eea9bc0b6ef0d",
    WARNING,
    "{lost} entries before this one could not be written: {reason}",
)

# What POPAD_LOG=quiet leaves out: that all went as it should. A session with a login leaves session-closed.
ROUTINE = (SESSION_OPENED, LOGIN_PASSED, LOGIN_NOT_ATTEMPTED, HANDSHAKE_FAILED, MAILDROP_LOADED, MAILDROP_UPDATED)


def wants(how_much: str, event: Event) -> bool:
    """Whether POPAD_LOG asks for entries of this kind."""
    return how_much != "quiet" or event not in ROUTINE


Value = str | int | bytes | None


def printable(value: Value) -> str:
    r"""`value` as text in which only printable characters stand for themselves; other octets become \xNN."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    plain = str(value)
    if plain.isprintable() and "\\" not in plain:
        return plain
    return "".join(
        mark
        if mark.isprintable() and mark != "\\"
        else "".join(f"\\x{octet:02x}" for octet in mark.encode("utf-8", "surrogateescape"))
        for mark in plain
    )


def quoted(value: Value) -> str:
    """A number as it is; anything else in double quotes, unable to end them."""
    if isinstance(value, int):
        return str(value)
    return '"' + printable(value).replace('"', "\\x22") + '"'


class Lost:
    """Entries that no log has taken, and why not the last of them; of other processes, too, that have told this one."""

    entries = 0
    reason = ""


def load() -> None:
    """For a process that forks many sessions: open what an entry goes to, and never die of its own words."""
    sinks.guard_standard_error()
    for sink in (sinks.journald, sinks.standard_error, sinks.syslog):
        try:
            sink.open()
        except OSError:
            pass  # it is tried again with each entry


def entry_of(event: Event, known: "Mapping[str, Value]") -> dict[str, str]:
    """The fields of one entry as the journal has them. A field `name` becomes POPAD_NAME."""
    entry = {
        "MESSAGE": event.message.format_map(Quoting(known)),
        "MESSAGE_ID": event.message_id,
        "PRIORITY": str(event.priority),
        "SYSLOG_IDENTIFIER": "popad",
        "SYSLOG_FACILITY": str(FACILITY_MAIL),
        "POPAD_EVENT": event.name,
    }
    entry.update((f"POPAD_{name.upper()}", printable(value)) for name, value in known.items())
    return entry


def send(event: Event, **fields: Value) -> None:
    """Write one entry; fields that are None are left out. Never raises, never waits for longer than a moment."""
    if not say_lost() or not taken(event, {name: value for name, value in fields.items() if value is not None}):
        Lost.entries += 1


def lost(entries: int) -> None:
    """A session has ended that could not say itself what it has lost."""
    if entries:
        Lost.entries += entries
        Lost.reason = Lost.reason or "nobody took them from sessions that have ended"


def say_lost() -> bool:
    """Say what was lost, if anything was; whether there is nothing left to say."""
    if Lost.entries and taken(ENTRIES_LOST, {"lost": Lost.entries, "reason": Lost.reason}):
        Lost.entries = 0
    return not Lost.entries


def taken(event: Event, known: "Mapping[str, Value]") -> bool:
    """Whether one of the logs has taken the entry: the first that is there and works."""
    entry = entry_of(event, known)
    failures = []
    if os.path.exists(sinks.journald.path):
        # The journal's native protocol, in which a value without a line end is a line; entry_of() makes no other.
        if sinks.journald.put("".join(f"{name}={value}\n" for name, value in entry.items()).encode()):
            return True
        failures.append(f"the journal: {sinks.journald.failure}")
    rest = "".join(f" {name}={logfmt(printable(value))}" for name, value in known.items())
    if sinks.standard_error.is_there():
        line = f"event={event.name} priority={event.priority} message={logfmt(entry['MESSAGE'])}{rest}\n"
        if sinks.standard_error.put(line.encode()):
            return True
        failures.append(f"standard error: {sinks.standard_error.failure}")
    # The message first: whoever reads syslog looks for the client's address there.
    elif sinks.to_syslog(event.priority, f"{entry['MESSAGE']} event={event.name}{rest}"):
        return True
    else:
        failures.append(f"syslog: {sinks.syslog.failure}")
    Lost.reason = "; ".join(failures)
    return False


def logfmt(plain: str) -> str:
    """A value of a logfmt line: in double quotes where a reader could mistake its end."""
    if plain and not any(mark in ' "=\\' for mark in plain):
        return plain
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Quoting(dict[str, Value]):
    """The fields of an entry as its message shows them; a field that the entry does not have shows as "unknown".

    The client's address comes from the kernel and is not quoted: log readers look for it at the start of the message.
    """

    def __getitem__(self, name: str) -> str:
        if name not in self:
            return "unknown"
        return printable(self.get(name)) if name == "rhost" else quoted(self.get(name))
