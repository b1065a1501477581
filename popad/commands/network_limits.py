"""popad-limits.service, as `popad check` sees it: limits on connections by network, which the kernel keeps."""

import os
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

from popad.commands import units

UNIT = "popad-limits.service"
TABLE = ("nft", "list", "table", "inet", "popad")


def described() -> "Iterator[str]":
    """Whether it is on; nothing where systemd does not serve, or the unit is not installed."""
    shown = units.show(UNIT) if units.are_there() else {}
    if shown.get("LoadState") == "loaded":
        is_on = shown.get("ActiveState") == "active"
        yield f"{UNIT}: {'on' if is_on else 'off: nothing limits connections before systemd or popad takes them'}"


def wrong() -> "Iterator[str]":
    """Rules that another program has taken away. Only root can ask for them."""
    if os.geteuid() != 0 or not units.are_there() or units.show(UNIT).get("ActiveState") != "active":
        return
    try:
        found = subprocess.run(TABLE, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return
    if not found:
        yield f"{UNIT} is active, and its rules are gone: systemctl restart popad-limits"
