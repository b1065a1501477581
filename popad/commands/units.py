"""What systemd says of popad's units, for the commands: their properties as they are in force, with all drop-ins."""

import os
import shlex
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

from popad.errors import SettingWrong
from popad.settings import PREFIX, Settings

SHIPPED = ("POPAD_AUTH_SOCKET", "POPAD_TLS_SOCKET")  # popad@.service has them, as it comes
RUNNING = "/run/systemd/system"  # there where systemd is process 1, see sd_booted(3)
SOCKET, DAEMON = "popad.socket", "popad-standalone.service"
SESSION, HELPER = "popad@.service", "popad-auth.service"
# A shape: the unit that is enabled, the socket that listens, and the services that its settings are read by.
SHAPES = {SOCKET: (SOCKET, (SESSION, HELPER)), DAEMON: ("popad-standalone.socket", (DAEMON,))}


def are_there() -> bool:
    """Whether systemd serves here."""
    return os.path.isdir(RUNNING)


def show(unit: str) -> "Mapping[str, str]":
    """The properties of a unit (a template: of an instance of it); none where systemd does not answer."""
    command = ["systemctl", "show", unit.replace("@.", "@check.")]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            found[name] = f"{found[name]} {value}" if name in found else value  # Listen= has a line each
    return found


def show_all(units: "Sequence[str]", properties: "Sequence[str]") -> list[dict[str, str]]:
    """These properties of all units that are loaded and match the patterns, in one call. Raises OSError where systemd
    does not answer. Only a line feed ends a line: a session chooses its StatusText.
    """
    command = ["systemctl", "show", "--timestamp=unix", f"--property={','.join(properties)}", "--", *units]
    try:
        done = subprocess.run(command, capture_output=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        raise OSError("systemd does not answer") from None
    if done.returncode != 0:
        raise OSError(done.stderr.decode("utf-8", "replace").strip() or "systemd does not answer")
    blocks = done.stdout.decode("utf-8", "replace").split("\n\n")
    found = [dict(line.split("=", 1) for line in block.split("\n") if "=" in line) for block in blocks]
    return [each for each in found if each]


def in_use() -> list[str]:
    """The shapes that are active; where none is, those that are enabled."""
    shown = {shape: show(shape) for shape in SHAPES}
    active = [shape for shape in SHAPES if shown[shape].get("ActiveState") == "active"]
    return active or enabled(shown)


def enabled(shown: "Mapping[str, Mapping[str, str]]") -> list[str]:
    """The shapes that are enabled."""
    return [shape for shape in SHAPES if shown[shape].get("UnitFileState") == "enabled"]


def environment(unit: "Mapping[str, str]") -> dict[str, str]:
    """The settings in Environment= of a unit and its drop-ins."""
    assigned = (word.partition("=") for word in words(unit.get("Environment", "")))
    return {name: value for name, _, value in assigned if name.startswith(PREFIX)}


def settings_in_use() -> tuple[str, dict[str, str]]:
    """The service that serves, and the settings in its Environment=; nothing where systemd does not serve."""
    for shape in in_use() if are_there() else ():
        service = SHAPES[shape][1][0]
        return service, environment(show(service))
    return "", {}


def words(shown: str) -> list[str]:
    """A list as systemd shows it: some words in quotes."""
    try:
        return shlex.split(shown)
    except ValueError:
        return shown.split()


def wrong_environment(unit: str, shown: "Mapping[str, str]", file: "Mapping[str, str]") -> "Iterator[str]":
    """Settings in Environment= that are wrong, or that popad.conf overrules: the units read it last."""
    own = environment(shown)
    wrong: list[SettingWrong] = []
    Settings(own, wrong)
    for each in wrong:
        yield f"{unit}: Environment=: {each}"
    for name, value in own.items():
        if name in SHIPPED:
            continue
        if file.get(name, value) != value:
            yield (f"{unit}: Environment={name}={value} does not count: popad.conf has {file[name]!a}; take one out")
