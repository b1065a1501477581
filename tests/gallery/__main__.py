"""Makes the pictures of CONTRIBUTING.md anew: a booted machine is busy for some minutes, then its report is looked at.

Needs root, dist/popad_*_all.deb (packaging/build-deb), and what `tests/install gallery` installs.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.gallery import load, pictures
from tests.support.here import CHECKOUT
from tests.support.machine import Machine, needs, tree

PLACE = CHECKOUT / "packaging/doc/gallery"
PAGES = {"report-light": (1280, 1500, False), "report-dark": (1280, 1500, True)}
PAGES |= {"phone-light": (500, 1800, False), "phone-dark": (500, 1800, True)}
WATCHED = 12.0  # seconds for the screen of "popad who" to be shown some times


def main() -> None:
    """Asks for how long the machine is to be busy."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.gallery", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="for how long the machine is busy (10)")
    parser.add_argument("--directory", type=Path, default=PLACE, help="where the pictures go (packaging/doc/gallery)")
    given = parser.parse_args()
    if lacks := needs() or " ".join(pictures.missing()):
        sys.exit(f"tests.gallery: {lacks}")
    (package,) = (CHECKOUT / "dist").glob("popad_*_all.deb")
    given.directory.mkdir(parents=True, exist_ok=True)
    with Machine(tree("bookworm")) as machine, tempfile.TemporaryDirectory() as scratch:
        machine.install(package)
        load.prepare(machine)
        with load.Load(machine):
            time.sleep(given.minutes * 60 - WATCHED)  # the load itself
            command = machine.entered(["env", "TERM=xterm-256color", "popad", "who", "--watch"])
            with pictures.terminal(command, 100, 24) as display:
                time.sleep(WATCHED)
                pictures.of_terminal(display, given.directory / "who.png")
        page = Path(scratch) / "report.html"
        page.write_text(machine.run(["popad", "report", "--html", "-"]).stdout)
        for name, (width, height, dark) in PAGES.items():
            pictures.of_page(page, given.directory / f"{name}.png", width, height, dark=dark)


if __name__ == "__main__":
    main()
