"""What drop-ins take away from popad's units, for `popad check`: directives of their sandboxes, as systemd has them in
force or as a drop-in has them, against those of the units as they are shipped.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

from popad.commands.units import words

SHIPPED = ("/usr/lib/systemd/system", "/lib/systemd/system")
NO, YES = ("no", "false", "0", "off"), ("yes", "true", "1", "on")
# Directives with levels, the weakest first. "yes" and "tmpfs" hide homes alike.
LEVELS = {
    "ProtectHome": ("no", "read-only", "tmpfs"),
    "ProtectSystem": ("no", "yes", "full", "strict"),
    "ProtectProc": ("default", "ptraceable", "invisible"),
    "ProcSubset": ("all", "pid"),
    **dict.fromkeys(
        ("NoNewPrivileges", "PrivateNetwork", "PrivateTmp", "PrivateDevices", "PrivateMounts", "RestrictSUIDSGID"),
        ("no", "yes"),
    ),
    **dict.fromkeys(("RestrictRealtime", "LockPersonality", "MemoryDenyWriteExecute"), ("no", "yes")),
}
# Lists of which an empty assignment lets go.
LISTS = (
    "SystemCallFilter",
    "SystemCallArchitectures",
    "IPAddressDeny",
    "TemporaryFileSystem",
    "RestrictAddressFamilies",
)
# Lists to which nothing may come that the unit has not.
BOUNDS = ("CapabilityBoundingSet", "AmbientCapabilities", "RestrictAddressFamilies")
WHOLE_DISK = {"/", "/etc", "/usr", "/var", "/root"}


def wrong_drop_ins(unit: str, shown: "Mapping[str, str]", needs_homes: bool) -> "Iterator[str]":
    """A line for each directive that is weaker than as shipped. `needs_homes`: mail is there."""
    shipped = directives(shipped_file(unit) or shown.get("FragmentPath", ""))
    files = [*words(shown.get("DropInPaths", ""))]
    if os.path.dirname(fragment := shown.get("FragmentPath", "")) not in (*SHIPPED, ""):
        files.insert(0, fragment)  # a unit of the administrator's in place of the shipped one
    given = [(path, name, value) for path in files for name, values in directives(path).items() for value in values]
    for name, levels in LEVELS.items():
        if name == "ProtectHome" and needs_homes:
            continue
        was, is_now = level(levels, (shipped.get(name) or [""])[-1]), level(levels, shown.get(name, levels[-1]))
        if is_now < was:
            where = next((path for path, other, _ in reversed(given) if other == name), "")
            yield told(unit, where, f"{name}={shown[name]}", f"{name}={(shipped[name])[-1]}")
    for path, name, value in given:
        if undoes(name, value, shipped):
            yield told(unit, path, f"{name}={value}", f"{name}={' '.join(shipped.get(name, []))}")
    if shown.get("Accept") == "no" and (shipped.get("Accept") or ["no"])[-1] in YES:
        where = next((path for path, name, _ in given if name == "Accept"), "")
        yield f"{unit}: {where or 'a drop-in'} has Accept=no, and so no session begins: take it out" + AFTERWARDS


AFTERWARDS = ", then systemctl daemon-reload and systemctl restart popad"


def told(unit: str, where: str, has: str, shipped: str) -> str:
    """One of them."""
    return f"{unit}: {where or 'a drop-in'} has {has} in place of {shipped}: take it out" + AFTERWARDS


def level(levels: tuple[str, ...], value: str) -> int:
    """How strong a value is; what is not known is as strong as can be."""
    value = value.lower()
    value = "no" if value in NO else "yes" if value in YES else value
    if value == "yes" and "yes" not in levels:
        return len(levels) - 1
    if not value:
        return 0
    return levels.index(value) if value in levels else len(levels) - 1


def undoes(name: str, value: str, shipped: "Mapping[str, list[str]]") -> bool:
    """Whether an assignment of a list lets go of what the unit has, or adds what it must not have."""
    if name in LISTS and not value and shipped.get(name):
        return True
    if name == "SystemCallFilter" and value and not value.startswith("~") and is_denied(shipped):
        return True  # it takes calls out of those that are denied
    if name == "RestrictNamespaces":
        return value.lower() in NO or value.startswith("~")
    if name in BOUNDS:
        return not value.startswith("~") and not set(words(value)) <= set(words(" ".join(shipped.get(name, []))))
    return name == "ReadWritePaths" and bool(
        {path.lstrip("-+").rstrip("/") or "/" for path in words(value)} & WHOLE_DISK
    )


def is_denied(shipped: "Mapping[str, list[str]]") -> bool:
    """Whether the unit's filter is a list of calls that are denied."""
    return any(value.startswith("~") for value in shipped.get("SystemCallFilter", []))


def shipped_file(unit: str) -> str:
    """The unit as its package has it; "" where it is not there."""
    return next((path for place in SHIPPED if os.path.exists(path := f"{place}/{unit}")), "")


def directives(path: str) -> dict[str, list[str]]:
    """The assignments of a unit's file, or of a drop-in, by name. Nothing of one that cannot be read."""
    found: dict[str, list[str]] = {}
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read().replace("\\\n", " ")
    except OSError:
        return {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name[:1] not in "#;[":
            found.setdefault(name.strip(), []).append(value.strip())
    return found
