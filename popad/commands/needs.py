"""The Python modules of others that popad needs, and where they come from."""

from importlib.util import find_spec

MODULES = {
    "systemd": "Debian's python3-systemd; or systemd-python of PyPI, which is built with gcc, pkg-config, python3-dev"
    " and libsystemd-dev",
    "pam": "Debian's python3-pampy; or python-pam of PyPI",
    "six": "Debian's python3-six; or six of PyPI",
    "sdnotify": "Debian's python3-sdnotify; or sdnotify of PyPI",
}


def missing() -> list[str]:
    """A line for each that this Python does not find."""
    return [lacks(name) for name in MODULES if find_spec(name) is None]


def lacks(module: str | None) -> str:
    """What is missing, and where to have it from."""
    where = MODULES.get((module or "").partition(".")[0], "a module of popad's own: it is not installed as a whole")
    return f"Python has no module {module}: {where}"
