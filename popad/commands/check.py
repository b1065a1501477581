"""`popad check`: the effective settings, and whether what they name exists and is safe."""

import json
import os
import pwd
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

from popad.auth import credentials, nss
from popad.auth.saslprep import prepared
from popad.commands import deliverers, network_limits, pam_service, tls_files, units
from popad.commands.deployment import wrong_units
from popad.commands.effective import Effective
from popad.commands.names import why_not_typed, wrong_names
from popad.commands.needs import missing
from popad.commands.paths import FIRST_PERSON
from popad.commands.report.shown import plain
from popad.commands.settings_file import SettingsFile, nearest
from popad.commands.tls_files import wrong_tls
from popad.errors import SettingWrong
from popad.settings import PREAUTH_UIDS, TABLE, Settings, sasl_mechanisms
from popad.values import FORMER_SERVERS, NO_MECHANISM

SHARED_MODE = 0o1733
STORE_NAMES = {"mbox": "mbox files", "maildir": "Maildirs"}


def check(environ: "Mapping[str, str]", only_changed: bool = False, as_json: bool = False) -> int:
    """Print the settings (of the unit in use, above it popad.conf, above that `environ`) and all that is wrong; or only
    the settings that are not the defaults. Returns the exit status: 1 where something is wrong.
    """
    effective = Effective(environ)
    file, given = effective.file, effective.given
    written = file.values | given
    complaints = [*file.wrong, *(place_of(each, file, given) for each in effective.unusable if each.name in written)]
    notes: list[str] = []
    if not only_changed:
        notes += described(effective.settings)
        complaints += wrong(effective.settings, file)
    (print_json if as_json else print_text)(effective, only_changed, notes, complaints)
    return 1 if complaints else 0


def print_text(effective: Effective, only_changed: bool, notes: list[str], complaints: list[str]) -> None:
    """For people: a line for each setting, note and complaint. These may have what stands in files, of any encoding."""
    for name, row in TABLE.items():
        value = effective.values.get(name, row.default)
        if not only_changed or value != row.default:
            print(f"{name}={value}  # {effective.source(name)}{', ' + row.unit if row.unit else ''}")
    for note in notes:
        print(f"note: {plain(note)}")
    for complaint in complaints:
        print(f"wrong: {plain(complaint)}")
    if not only_changed or complaints:
        found = {0: "no problem", 1: "1 problem"}.get(len(complaints), f"{len(complaints)} problems")
        print(f"{found} found")


def print_json(effective: Effective, only_changed: bool, notes: list[str], complaints: list[str]) -> None:
    """For programs: one object. `about`: the setting, the unit or the file that a note or a complaint is about."""
    settings = {
        name: {"value": value, "default": row.default, "source": effective.source(name), "unit": row.unit or None}
        for name, row in TABLE.items()
        if (value := effective.values.get(name, row.default)) != row.default or not only_changed
    }
    print(json.dumps({"settings": settings, "notes": list(map(split, notes)), "wrong": list(map(split, complaints))}))


def split(text: str) -> dict[str, str]:
    """What it is about, if it begins with that, and what is said of it."""
    about, _, says = text.partition(": ")
    return {"about": about, "says": says} if says and " " not in about else {"about": "", "says": text}


def described(settings: Settings) -> "Iterator[str]":
    """What is good to know, and not wrong."""
    if os.geteuid() == 0 and not mapped(PREAUTH_UIDS):
        yield f"POPAD_USER: this container has no uids for preauth children: they all run as {settings.user}"
    for certificate in tls_files.described(settings):
        yield f"POPAD_TLS_CERTIFICATE: {certificate}"
    yield from network_limits.described()
    yield from deliverers.described(settings.maildrop)
    if units.are_there() and not units.in_use():
        yield f"{' and '.join(units.SHAPES)}: none of them is enabled: systemctl enable --now {units.SOCKET}"


def place_of(wrong: SettingWrong, file: SettingsFile, given: "Mapping[str, str]") -> str:
    """What is wrong with a setting, and where it stands."""
    where = "environment" if wrong.name in given else file.where(wrong.name)
    return f"{wrong}{nearest(wrong.name)} ({where})"


def mapped(uids: range) -> bool:
    """Whether processes in this user namespace can have these uids; also where nobody says."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as rows:
            ranges = [(int(first), int(count)) for first, _, count in map(str.split, rows)]
    except OSError:
        return True
    return any(first <= uids[0] and uids[-1] < first + count for first, count in ranges)


def wrong(settings: Settings, file: SettingsFile) -> "Iterator[str]":
    """What would keep popad from serving, or serve more than it should. A line for each."""
    yield from missing()
    if os.geteuid() == 0:
        yield from wrong_user("POPAD_USER", settings.user)
    if settings.virtual_user:
        yield from wrong_user("POPAD_VIRTUAL_USER", settings.virtual_user)
        if settings.virtual_user == settings.user:
            yield f"POPAD_VIRTUAL_USER: {settings.user} is the preauth user (POPAD_USER) and must not own mail"
    if settings.auth == "file":
        yield from wrong_credentials(settings)
    else:
        yield from pam_service.wrong_service(settings.pam_service)
        yield from wrong_names(settings)
    for name in settings.sasl:
        if name != NO_MECHANISM and name not in sasl_mechanisms(settings):
            needs = "POPAD_TLS_CLIENT_CA" if name == "EXTERNAL" else "POPAD_AUTH=file"
            yield f"POPAD_SASL: {name} is not offered, as it needs {needs}"
    if settings.uidl and (reason := why_no_former_ids(settings.uidl, settings.maildrop)):
        yield f"POPAD_UIDL: {reason}"
    yield from wrong_maildrop(settings.maildrop)
    if settings.locks == "fcntl,dotlock":
        yield from wrong_locks(settings)
    yield from wrong_shared("POPAD_STATE", settings.state)
    if settings.cache:
        yield from wrong_shared("POPAD_CACHE", settings.cache)
    if settings.auth_socket:
        yield from wrong_socket(settings.auth_socket)
    if settings.tls_certificate and not settings.tls_socket:
        yield from wrong_user("POPAD_TLS_USER", settings.tls_user)
    yield from wrong_tls(settings, units.in_use() if units.are_there() else [])
    yield from wrong_units(settings, file.values)
    yield from network_limits.wrong()
    yield from deliverers.wrong_delivery(settings.maildrop)


def why_no_former_ids(former: tuple[str, str], maildrop: str) -> str:
    """Why this server cannot have left unique-ids in such a maildrop (STORE:...); "" if it can."""
    server, template = former
    store = maildrop.partition(":")[0]
    if store not in FORMER_SERVERS[server]:
        return f"{server} leaves ids in {' and '.join(STORE_NAMES[each] for each in FORMER_SERVERS[server])} alone"
    if store == "mbox" and ("%f" in template or "%g" in template):
        return "%f and %g of a format are parts of a Maildir's files, and POPAD_MAILDROP is mbox files"
    return ""


def wrong_user(setting: str, name: str) -> "Iterator[str]":
    """A user popad becomes must exist and not be root."""
    try:
        entry = nss.user(name)
    except nss.Unanswered as unanswered:
        yield f"{setting}: {name}: {unanswered}"
        return
    if entry is None:
        yield f"{setting}: there is no user {name} (adduser --system --group {name})"
    elif entry.pw_uid == 0:
        yield f"{setting}: {name} is root, and has to be another user (adduser --system --group)"


def wrong_credentials(settings: Settings) -> "Iterator[str]":
    """The file must be safe to believe, each of its lines understood, and each name one that a client can give."""
    try:
        text, _ = credentials.read(settings.credentials)
    except FileNotFoundError as error:
        yield f"POPAD_CREDENTIALS: {error} (popad passwd --file {settings.credentials} NAME)"
        return
    except (credentials.FileWrong, OSError) as error:
        yield f"POPAD_CREDENTIALS: {error}"
        return
    seen: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not (fields := line.split()) or fields[0].startswith("#"):
            continue
        where = f"{settings.credentials}:{number}"
        try:
            credentials.parse(fields, where)
            if (name := prepared(fields[0].encode()).decode()) in seen:
                raise credentials.FileWrong(f"{where}: {name!a} stands here twice")
            seen.add(name)
        except credentials.FileWrong as error:
            yield f"POPAD_CREDENTIALS: {error}"
        else:
            if reason := why_not_typed(name, settings):
                yield f"POPAD_CREDENTIALS: {where}: nobody can log in as {name!a}: {reason}"


def wrong_maildrop(maildrop: str) -> "Iterator[str]":
    """The directory that stands before the first {user} or {home} must be there, and not be open to everybody."""
    path = maildrop.partition(":")[2]
    directory = os.path.dirname(path.partition("{")[0])
    if not directory:
        return
    try:
        mode = os.stat(directory).st_mode
    except OSError as error:
        yield f"POPAD_MAILDROP: {error} (install -d -g mail -m 2775 {directory})"
        return
    if mode & 0o002 and not mode & stat.S_ISVTX:
        yield f"POPAD_MAILDROP: everybody may rename mailboxes in {directory} (chmod o-w, or +t)"
    elif mode & 0o002:
        yield (
            f"POPAD_MAILDROP: everybody may make files in {directory} (chmod o-w), as the mailbox or the lock file of"
            " another user; lock files that other users make do not count there"
        )


def wrong_locks(settings: Settings) -> "Iterator[str]":
    """Who has to make lock files in a directory must be allowed to."""
    directory = os.path.dirname(settings.maildrop.partition(":")[2])
    try:
        status = os.stat(directory)  # of one that is each user's own there is nothing to say
    except OSError:
        return
    may = [status.st_mode & 0o002]
    for entry in pwd.getpwall():
        if entry.pw_uid >= FIRST_PERSON or entry.pw_name == settings.virtual_user:
            may.append(entry.pw_uid == status.st_uid or (entry.pw_gid == status.st_gid and status.st_mode & 0o020))
    if not any(may):
        yield (
            f"POPAD_LOCKS: no user may make a lock file in {directory}, so no mailbox there will be served:"
            " POPAD_LOCKS=auto"
        )


def wrong_shared(setting: str, path: str) -> "Iterator[str]":
    """Every user may make a file there, and nobody see or remove another's."""
    try:
        status = os.lstat(path)
    except OSError as error:
        yield f"{setting}: {error} (install -d -m {SHARED_MODE:o} {path})"
        return
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISDIR(status.st_mode):
        yield f"{setting}: {path} is not a directory (install -d -m {SHARED_MODE:o} where it is to be)"
    elif status.st_uid not in (0, os.geteuid()):
        yield f"{setting}: {path} belongs to uid {status.st_uid}, not to root (chown root:root {path})"
    elif status.st_uid == 0 and mode != SHARED_MODE:
        yield f"{setting}: {path} has mode {mode:04o}, not {SHARED_MODE:04o} (chmod {SHARED_MODE:o} {path})"


def wrong_socket(path: str) -> "Iterator[str]":
    """Who may connect can try passwords without a limit."""
    try:
        mode = os.lstat(path).st_mode
    except OSError as error:
        yield f"POPAD_AUTH_SOCKET: {error} (systemctl start popad-auth.socket)"
        return
    if not stat.S_ISSOCK(mode) or mode & 0o077:
        yield f"POPAD_AUTH_SOCKET: {path} is not a socket that only root may use (systemctl restart popad-auth.socket)"
