"""What the helpers that systemd starts have in common: how they begin, when they leave for new settings, and how one
becomes its successor.
"""

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from popad.auth.loaded import Stamp

from popad.auth.loaded import stamp_of
from popad.configuration import CONFIGURATION
from popad.net.activation import open_standard_streams, passed_by_systemd
from popad.settings import Settings
from popad.sinks import guard_standard_error, standard_error

PLACES = ("/etc/systemd/system", "/run/systemd/system")
SETTLING = 2_000_000_000  # nanoseconds
READING = 100_000_000  # nanoseconds that may go by between the two


def begin(unit: str) -> "tuple[Sources, Settings, int | None]":
    """Where the settings of this process are from, the settings, and the descriptor that was passed, if one was.

    Raises SettingWrong, NotInvokedRight.
    """
    os.close(open_standard_streams())
    guard_standard_error()
    sources = Sources(f"{unit}.d")  # before the settings: what changes from now on is another
    return sources, Settings(os.environ), passed_by_systemd(os.environ)


class Sources:
    """Where systemd has this process's settings from. Where they change, only a helper that systemd starts has the new
    ones: this one leaves with the next request, which waits for its successor.
    """

    def __init__(self, drop_ins: str) -> None:
        """`drop_ins` is the name of the directories that systemd reads them from."""
        self.places = [f"{place}/{drop_ins}" for place in PLACES]
        self.read_at_start = stamp_of(CONFIGURATION)
        # systemd has read the file just before it started this process: what was written later may not be what it read.
        self.is_unsure = bool(self.read_at_start and self.read_at_start[-1] > started() - READING)
        self.drop_ins = look(self.places)

    def are_changed(self) -> bool:
        """Whether they are others than when this process began. A drop-in counts when systemd can be expected to have
        read it, as `systemctl edit` has it do at once.
        """
        if self.is_unsure or stamp_of(CONFIGURATION) != self.read_at_start:
            return True
        if (now := look(self.places)) == self.drop_ins:
            return False
        latest = max((stamp[-1] for stamp in now.values() if stamp), default=0)
        return time.time_ns() - latest > SETTLING


def started() -> int:
    """When this process was, as file times are: nanoseconds since 1970."""
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])  # proc(5): starttime, the 22nd field
    age = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    return time.time_ns() - age


def look(places: "Sequence[str]") -> "dict[str, Stamp | None]":
    """The directories of drop-ins and what is in them, each with what changes when it does."""
    found: dict[str, Stamp | None] = {}
    for place in places:
        found[place] = stamp_of(place)
        try:
            names = os.listdir(place)
        except OSError:
            continue  # there is none
        found |= {name: stamp_of(os.path.join(place, name)) for name in names}
    return found


def start_afresh(fd: int) -> None:
    """Become a new helper on the listening socket `fd`: the same process to systemd, which would end the workers of one
    that leaves. Returns where Python cannot be started, as in the middle of an update of it.
    """
    os.set_inheritable(fd, True)
    try:
        passed = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **passed})  # noqa: S606 - as it was started
    except OSError as error:
        standard_error.put(f"popad: a helper cannot be started afresh: {error}\n".encode("utf-8", "backslashreplace"))
        os.set_inheritable(fd, False)
