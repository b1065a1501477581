"""How a page and a terminal are turned into pictures."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.patience import PATIENCE
from tests.support.screen import screen

# Chromium asks nobody, and shows no bars to scroll with.
QUIET = ("--disable-background-networking", "--disable-component-update", "--no-first-run", "--hide-scrollbars")
PROGRAMS = ("chromium", "xterm", "Xvfb", "import", "convert", "optipng")


def missing() -> list[str]:
    """Programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


def of_page(page: Path, picture: Path, width: int, height: int, *, dark: bool) -> None:
    """The top of a page in a browser of this size, in CSS pixels."""
    home = page.parent / "chromium"
    how = ["--headless", "--no-sandbox", "--disable-gpu", *QUIET, f"--user-data-dir={home}"]
    how += [f"--window-size={width},{height}", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    subprocess.run(
        ["chromium", *how, f"--screenshot={picture}", page.as_uri()],
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    smaller(picture)


@contextmanager
def terminal(command: Sequence[str], columns: int, lines: int) -> Iterator[str]:
    """A command in xterm on a display that nobody sees; which display."""
    with screen("1400x900") as display:
        look = ["-geometry", f"{columns}x{lines}+0+0", "-fa", "DejaVu Sans Mono", "-fs", "10", "-bg", "#12151a"]
        look += ["-fg", "#e7e9ec", "-b", "8", "+sb", "-bw", "0"]
        environment = {**os.environ, "DISPLAY": display, "LC_ALL": "C.UTF-8"}
        with subprocess.Popen(["xterm", *look, "-e", *command], env=environment) as process:
            try:
                yield display
            finally:
                process.terminate()


def of_terminal(display: str, picture: Path) -> None:
    """What is on the display, without what is empty around it."""
    environment = {**os.environ, "DISPLAY": display}
    subprocess.run(["import", "-window", "root", picture], env=environment, check=True, timeout=PATIENCE)
    subprocess.run(["convert", picture, "-trim", "+repage", picture], check=True)
    smaller(picture)


def smaller(picture: Path) -> None:
    """A palette of few colours, which is enough for text and bars, packed well."""
    subprocess.run(["convert", picture, "-strip", "+dither", "-colors", "96", f"png8:{picture}"], check=True)
    subprocess.run(["optipng", "-quiet", "-o5", picture], check=True)
