"""The file that says how PAM checks a password, for `popad check`: whether what it names is there, see pam.conf(5)."""

import glob
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORIES = ("/etc/pam.d", "/usr/lib/pam.d")
MODULES = ("/lib/security", "/usr/lib/security", "/lib/*/security", "/usr/lib/*/security", "/lib64/security")
OTHERS = ("include", "substack")  # in place of a control: the module is another file
CHECKED = "auth", "account"  # the types that popad asks


class Line:
    """A line of such a file: where it stands, its type, and the module."""

    def __init__(self, where: str, type_: str, module: str) -> None:
        self.where = where
        self.type = type_.lstrip("-").lower()
        self.is_optional = type_.startswith("-")  # its module need not be there
        self.module = module


def wrong_service(service: str) -> "Iterator[str]":
    """What keeps every password from being right. A line for each."""
    path = found(service)
    if not path:
        yield (f"POPAD_PAM_SERVICE: no file {service} in {' or '.join(DIRECTORIES)} (the package's own is popad)")
        return
    lines: list[Line] = []
    try:
        yield from read(path, lines, set())
    except OSError as error:
        yield f"POPAD_PAM_SERVICE: {error}"
        return
    for line in lines:
        if line.type in CHECKED and not line.is_optional and not is_there(line.module):
            yield (
                f"POPAD_PAM_SERVICE: {line.where}: there is no module {line.module}, so nobody can log in: install its"
                " package, or take the line out"
            )
    if not any(line.type == "auth" for line in lines):
        yield f"POPAD_PAM_SERVICE: {path}: no line checks a password, so nobody can log in: @include common-auth"


def read(path: str, lines: list[Line], known: set[str]) -> "Iterator[str]":
    """Add the lines of a file and of those that it includes, each once; what is wrong with these. Raises OSError."""
    known.add(path)
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read().replace("\\\n", " ")
    for number, row in enumerate(text.splitlines(), 1):
        words = words_of(row.partition("#")[0])
        where = f"{path}:{number}"
        if len(words) >= 2 and words[0] == "@include":
            other = words[1]
        elif len(words) >= 3 and words[1] in OTHERS:
            other = words[2]
        else:
            if len(words) >= 3:
                lines.append(Line(where, words[0], words[2]))
            continue
        if not (included := found(other)):
            yield f"POPAD_PAM_SERVICE: {where}: there is no {other} to include, so nobody can log in: take the line out"
        elif included not in known:
            yield from read(included, lines, known)


def words_of(row: str) -> list[str]:
    """Type, control, module and the rest; a control in brackets is one word."""
    before, bracket, rest = row.partition("[")
    if not bracket or len(before.split()) != 1:
        return row.split()
    control, _, behind = rest.partition("]")
    return [*before.split(), f"[{control}]", *behind.split()]


def found(service: str) -> str:
    """The file of this name; "" for none."""
    places = [service] if service.startswith("/") else [f"{place}/{service}" for place in DIRECTORIES]
    return next(filter(os.path.exists, places), "")


def is_there(module: str) -> bool:
    """Whether there is such a module."""
    return bool(
        glob.glob(module)
        if module.startswith("/")
        else [path for place in MODULES for path in glob.glob(f"{place}/{glob.escape(module)}")]
    )
