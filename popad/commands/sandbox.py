"""What the sandboxes of the units let popad see and write, for `popad check`: by systemd.exec(5), from the properties
that are in force.
"""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

from popad.commands.paths import is_below, mail_places
from popad.commands.units import HELPER, SESSION, words
from popad.settings import Settings

HOMES = ("/home", "/root", "/run/user")
PROTECTED = {"yes": ("/usr", "/boot", "/efi"), "full": ("/usr", "/boot", "/efi", "/etc"), "strict": ("/",)}


class Sandbox:
    """What one unit has of the file system."""

    def __init__(self, unit: str, shown: "Mapping[str, str]") -> None:
        self.unit = unit
        self.shown = shown
        self.hidden: dict[str, str] = {}  # by path, the directive that hides it
        self.bound = [destination(word) for name in ("BindPaths", "BindReadOnlyPaths") for word in self.list(name)]
        self.writable = [path_of(word) for name in ("ReadWritePaths", "BindPaths") for word in self.list(name)]
        self.read_only = [path_of(word) for word in self.list("ReadOnlyPaths")]
        self.read_only += PROTECTED.get(shown.get("ProtectSystem", ""), ())
        home = shown.get("ProtectHome", "no")
        if home in ("yes", "tmpfs"):
            self.hidden |= dict.fromkeys(HOMES, f"ProtectHome={home}")
        elif home == "read-only":
            self.read_only += HOMES
        for name in ("InaccessiblePaths", "TemporaryFileSystem"):
            self.hidden |= {path_of(word).partition(":")[0]: f"{name}={word}" for word in self.list(name)}

    def list(self, name: str) -> "list[str]":
        return words(self.shown.get(name, ""))

    def hides(self, path: str) -> str:
        """The directive that keeps the unit from seeing a path; "" where it sees it, as what is bound into a hidden
        directory.
        """
        for directory, directive in self.hidden.items():
            if is_below(path, directory) and not any(
                is_below(path, bound) and is_below(bound, directory) for bound in self.bound
            ):
                return directive
        return ""

    def writes(self, path: str) -> bool:
        """Whether the unit may write there, as far as its sandbox goes. The longest path that is named decides."""
        allowed = max((len(each) for each in self.writable if is_below(path, each)), default=-1)
        return allowed >= max((len(each) for each in self.read_only if is_below(path, each)), default=-1)

    def missing(self) -> "Iterator[str]":
        """Directories without which the unit does not start."""
        for name in ("ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "BindPaths", "BindReadOnlyPaths"):
            for word in self.list(name):
                if not word.startswith("-") and not os.path.exists(path := word.lstrip("+").partition(":")[0]):
                    yield (
                        f"{self.unit}: there is no {path}, and so it does not start (226/NAMESPACE): make it, or write "
                        f"{name}=-{path}"
                    )


def path_of(word: str) -> str:
    """The path in a list of paths, where it may have a sign in front."""
    return word.lstrip("-+")


def destination(word: str) -> str:
    """Where BindPaths= puts SOURCE:DESTINATION:OPTIONS."""
    source, _, rest = path_of(word).partition(":")
    return rest.partition(":")[0] or source


def wrong_sandbox(settings: Settings, unit: str, shown: "Mapping[str, str]") -> "Iterator[str]":
    """What the settings need of a service and its sandbox does not have."""
    sandbox = Sandbox(unit, shown)
    yield from sandbox.missing()
    if settings.auth == "file" and unit != SESSION and (directive := sandbox.hides(settings.credentials)):
        yield (
            f"POPAD_CREDENTIALS: {unit} does not see {settings.credentials} ({directive}): move it to /etc/popad, and"
            " change the setting"
        )
    if unit == HELPER:
        return
    if settings.auth_socket and (directive := sandbox.hides(settings.auth_socket)):
        yield (
            f"POPAD_AUTH_SOCKET: {unit} does not see {settings.auth_socket} ({directive}): take the setting out of"
            " popad.conf"
        )
    written = [("POPAD_STATE", settings.state), ("POPAD_CACHE", settings.cache)]
    written += [("POPAD_MAILDROP", place) for place in mail_places(settings.maildrop)]
    for setting, path in written:
        if not path:
            continue
        if directive := sandbox.hides(path):
            name = directive.partition("=")[0]
            yield f"{setting}: {unit} does not see {path} ({directive}): [Service] {name}=" + (
                f"no and ReadWritePaths=-{path}" if name == "ProtectHome" else ""
            )
        elif not sandbox.writes(path):
            yield f"{setting}: {unit} may not write to {path}: [Service] ReadWritePaths=-{path}"
