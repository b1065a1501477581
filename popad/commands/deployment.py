"""What the units of popad allow, as systemd has them, for `popad check`: whether the sessions fit into the memory, and
whether they wait for the file systems that they need.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

from popad.commands import units
from popad.commands.drop_ins import wrong_drop_ins
from popad.commands.listening import wrong_listening
from popad.commands.paths import is_below, mail_places, mount_points
from popad.commands.port_holders import wrong_idle
from popad.commands.sandbox import wrong_sandbox
from popad.commands.units import HELPER, SESSION, SHAPES, SOCKET, show
from popad.settings import Settings

MIB = 1 << 20
# Of a session that waits for its login. Measured, with what the kernel has for it (page tables, stacks): 7.4 MiB, and
# up to 3.0 (Debian 12; 2.65 to 2.8 without the kernel's part).
SOCKET_SESSION = 8 * MIB
DAEMON_SESSION = 3 * MIB
# Octets for one large mailbox where nothing limits it (MemoryMax= of popad@.service, as shipped).
LARGE_SESSION = 256 * MIB
# Of it what a session has of its own, and octets a message while unique-ids are made for the first time. Measured: 233
# MiB with 1,000,000 (tests/hostile/sizes.py). Of a Maildir: names of 60 octets, listed anew, 84 MiB with 200,000.
OWN, MESSAGE, MAILDIR_MESSAGE = 16 * MIB, 224, 440
ON_THEIR_WAY = 3  # descriptors of one session: for the auth helper one, for the TLS helper two


def wrong_units(settings: Settings, file: "Mapping[str, str]") -> "Iterator[str]":
    """What does not fit together in the units in use. Nothing where systemd does not serve.

    `file`: what popad.conf says, for settings that the units have from elsewhere.
    """
    if not units.are_there():
        return
    if len(units.enabled({shape: show(shape) for shape in SHAPES})) > 1:
        yield f"{' and '.join(SHAPES)} are both enabled, and want the same port: systemctl disable one of them"
    points = mount_points()
    for shape in units.in_use():
        socket, services = SHAPES[shape]
        shown = {unit: show(unit) for unit in dict.fromkeys((shape, socket, *services))}
        for unit, properties in shown.items():
            if properties.get("NeedDaemonReload") == "yes":
                yield f"{unit}: its file or a drop-in has changed since systemd read it: systemctl daemon-reload"
        yield from wrong_idle(shape, socket, shown[socket])
        yield from wrong_listening(shape, shown[socket])
        for unit in services:
            yield from units.wrong_environment(unit, shown[unit], file)
        if shape == SOCKET:
            yield from wrong_pair(shown[SESSION], shown[HELPER], file)
            yield from wrong_sources(settings, shown[SOCKET])
        served = services[0]
        yield from wrong_memory(settings, shape, shown[served])
        if shape == SOCKET:
            yield from wrong_messages(settings, shown[served])
        yield from wrong_mounts(settings, served, shown[served], points)
        for unit in services:
            yield from wrong_sandbox(settings, unit, shown[unit])
        for unit in dict.fromkeys((shape, socket, *services)):
            yield from wrong_drop_ins(unit, shown[unit], needs_homes="{home}" in settings.maildrop)


def wrong_pair(session: "Mapping[str, str]", helper: "Mapping[str, str]", file: "Mapping[str, str]") -> "Iterator[str]":
    """A setting in Environment= that only one of the two services has. Where the helper is, only a session asks."""
    one, other = units.environment(session), units.environment(helper)
    for name in sorted({*one, *other} - {*file, *units.SHIPPED}):
        if one.get(name) != other.get(name):
            has, not_ = (SESSION, HELPER) if name in one else (HELPER, SESSION)
            yield f"{has}: Environment={name}=… is not in {not_}: settings for both belong into popad.conf"


def wrong_sources(settings: Settings, socket: "Mapping[str, str]") -> "Iterator[str]":
    """systemd counts connections before popad knows of whom a proxy speaks."""
    of_one, of_all = (int(socket.get(name) or 0) for name in ("MaxConnectionsPerSource", "MaxConnections"))
    if settings.proxy_from and 0 < of_one < of_all:
        yield (
            f"POPAD_PROXY_FROM: all clients of a proxy are one source to {SOCKET}: [Socket]"
            f" MaxConnectionsPerSource={of_all}"
        )


def octets(limit: str, otherwise: int) -> int:
    """A limit as systemd shows it."""
    return int(limit) if limit.isdigit() and int(limit) < 1 << 63 else otherwise


def fitting(memory: int, session: int, large: int = LARGE_SESSION) -> int:
    """How many sessions of `session` octets fit into `memory` beside one that takes `large`."""
    return max(0, memory - large) // session


def wrong_memory(settings: Settings, listening: str, unit: "Mapping[str, str]") -> "Iterator[str]":
    """All sessions that may be must fit into what their slice may have, with a large one among them."""
    slice_name = unit.get("Slice", "popad.slice")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    memory = min(total, octets(show(slice_name).get("MemoryMax", ""), total))
    if listening == "popad.socket":
        name, session = "MaxConnections=", SOCKET_SESSION
        sessions = int(show(listening).get("MaxConnections", "0"))
        large = octets(unit.get("MemoryMax", ""), LARGE_SESSION)
    else:
        name, session, sessions, large = "POPAD_MAX_SESSIONS=", DAEMON_SESSION, settings.max_sessions, LARGE_SESSION
    yield from wrong_descriptors(sessions, listening, unit)
    if sessions > (fits := fitting(memory, session, large)):
        yield (
            f"{listening}: {sessions} sessions, one of them large, take {(sessions * session + large) // MIB} MB, and "
            f"{slice_name} has {memory // MIB} MB: " + (f"{name}{fits} fits" if fits else "raise its MemoryMax=")
        )


def wrong_descriptors(sessions: int, listening: str, unit: "Mapping[str, str]") -> "Iterator[str]":
    """A session gives the helpers descriptors, and the kernel counts those of all that are on their way against the
    limit of each (unix(7), ETOOMANYREFS).
    """
    limit = octets(unit.get("LimitNOFILE", ""), sessions * ON_THEIR_WAY)
    if limit < sessions * ON_THEIR_WAY:
        yield (
            f"{listening}: {sessions} sessions that log in at once need LimitNOFILE={sessions * ON_THEIR_WAY} in"
            f" [Service], and it is {limit}"
        )


def wrong_messages(settings: Settings, unit: "Mapping[str, str]") -> "Iterator[str]":
    """The largest mailbox must fit into what a session may have, or it is ended without an answer."""
    message = MAILDIR_MESSAGE if settings.maildrop.startswith("maildir:") else MESSAGE
    large = octets(unit.get("MemoryMax", ""), settings.max_messages * message + OWN)
    if settings.max_messages > (most := (large - OWN) // message):
        yield (
            f"POPAD_MAX_MESSAGES: {settings.max_messages} messages take "
            f"{(settings.max_messages * message + OWN) // MIB} MB, and popad@.service has MemoryMax={large // MIB}M: "
            f"raise that, or {most} fit"
        )


def wrong_mounts(
    settings: Settings, serving: str, unit: "Mapping[str, str]", points: "Iterable[str]"
) -> "Iterator[str]":
    """A session must not begin before the file systems are there that it needs."""
    needed = [("POPAD_STATE", settings.state), *((("POPAD_CACHE", settings.cache),) if settings.cache else ())]
    needed += [("POPAD_MAILDROP", place) for place in mail_places(settings.maildrop)]
    required = units.words(unit.get("RequiresMountsFor", ""))
    for setting, path in needed:
        mounted = max((point for point in points if point != "/" and is_below(path, point)), key=len, default="")
        if mounted and not any(is_below(other, mounted) for other in required):
            yield (
                f"{setting}: {serving} does not wait until {mounted} is mounted, and mailboxes would look empty: "
                f"[Unit] RequiresMountsFor={path}"
            )
