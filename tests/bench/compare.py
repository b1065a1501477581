"""popad in both shapes beside popa3d, Dovecot (as it comes, and tuned), Courier and GNU mailutils, in one run.

Each server has a booted machine of its own (tests/support/machine.py), with the same users and the same mail, and they
take turns: each round visits all of them in random order. Prints a table of medians and the ratios asked of popad;
--json and --report (a page with plots) hold more. Needs root, mmdebstrap, gcc; the page python3-matplotlib.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from tests.bench import servers, trace, works
from tests.bench.figures import METRICS, Figures
from tests.bench.generator import ServerFailed
from tests.bench.ratios import Ratio, ratios
from tests.bench.servers import SERVERS, Running, Server
from tests.bench.soak import soak
from tests.bench.works import WORKS, Size, Work
from tests.support.here import CACHE, CHECKOUT
from tests.support.instances import table
from tests.support.machine import Machine, MachineError, needs

BEGINNING = "begin"  # in place of a work: a server that did not come to serve, whose ratios are not measured


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="about 3 minutes: fewer rounds, some works on fewer servers"
    )
    parser.add_argument("--only", nargs="+", choices=WORKS, metavar="WORK", default=list(WORKS), help=", ".join(WORKS))
    parser.add_argument(
        "--servers", nargs="+", choices=SERVERS, metavar="SERVER", default=list(SERVERS), help=", ".join(SERVERS)
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured to this file")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help=f"where the page goes (default: {CACHE}/bench/report)"
    )
    parser.add_argument("--page-of", type=Path, metavar="FILE", help="make the page anew from a --json FILE; no more")
    parser.add_argument(
        "--release",
        "--tree",
        default="bookworm",
        help="of Debian, whose trees are booted: trixie, or bookworm (default)",
    )
    parser.add_argument("--package", type=Path, metavar="DEB", help="the popad to measure (default: build this tree's)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the servers (0)")
    parser.add_argument(
        "--soak", type=float, metavar="MINUTES", help="both shapes of popad under mixed clients for so long; no more"
    )
    parser.add_argument(
        "--trace-login", action="store_true", help="what each ms of a login of popad -D is spent on; no more"
    )
    return parser.parse_args()


def built_package() -> Path:
    """The package of this tree as it is now."""
    said = subprocess.run([CHECKOUT / "packaging/build-deb"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return CHECKOUT / said.split()[-1]


def measure(running: list[Running], works_: list[Work], size: Size, quick: bool, figures: Figures) -> None:
    """All rounds of all works. A server that fails a work is left out of its further rounds, and the reason kept."""
    for work in works_:
        for round_ in range(work.quick_rounds if quick else work.rounds):
            for each in random.sample(running, len(running)):
                name = each.server.name
                if not work.concerns(each.server, quick) or (name, work.name) in figures.failures:
                    continue
                begun = time.monotonic()
                try:
                    work.go(each, size, figures, round_)
                except (ServerFailed, OSError, AssertionError) as failure:
                    why = str(failure) or type(failure).__name__
                    figures.failures[name, work.name] = f"{why} ({servers.state(each)})"
                progress(f"{work.name:8} round {round_ + 1}  {each.server.title:24} {time.monotonic() - begun:5.1f} s")


def begin(server: Server, release: str, package: Path, machines: contextlib.ExitStack) -> Running:
    """The server, with mail, in a machine that `machines` ends. Raises MachineError, RuntimeError, ServerFailed."""
    with contextlib.ExitStack() as own:
        machine = own.enter_context(Machine(servers.tree_of(server, release)))
        running = servers.start(server, machine, package)
        works.prepare(running)
        machines.push(own.pop_all())
    return running


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def shown(value: float | None, metric: str) -> str:
    return "" if value is None else f"{value:.{METRICS[metric].digits}f}"


def tables(figures: Figures, running: list[Running]) -> str:
    """Medians: a row a server, and one table a work."""
    parts = []
    for work in WORKS.values():
        prefixes = (work.name, "login_step") if work.name == "login" else (work.name,)
        metrics = [name for name in METRICS if name.startswith(prefixes) and figures.measured(name)]
        if not metrics:
            continue
        titles = {each.server.name: each.server.title for each in running} | {
            "python-line": "one line of python3 -I -S"
        }
        rows = []
        for server, title in titles.items():
            cells = []
            for metric in metrics:
                cell = shown(figures.median(server, metric), metric)
                cells.append(cell + (" *" if (server, metric) in figures.notes else ""))
            if why := figures.failures.get((server, work.name)):
                cells[-1] += f" (failed: {why})"
            if any(cells):
                rows.append([title, *cells])
        heads = [work.name, *(f"{METRICS[name].title}, {METRICS[name].unit}" for name in metrics)]
        parts.append(table(rows, heads))
    left_out = [
        f"left out: {SERVERS[server].title}: {why}"
        for (server, work), why in figures.failures.items()
        if work == BEGINNING
    ]
    notes = left_out + sorted({f"* {server}, {metric}: {note}" for (server, metric), note in figures.notes.items()})
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def table_of_ratios(reached: list[Ratio]) -> str:
    rows = [[each.row.name, each.row.work, each.row.asked, each.shown, each.verdict] for each in reached]
    return table(rows, ["ratio", "work", "asked", "reached", ""])


def as_json(facts: dict[str, str], figures: Figures, versions: dict[str, str], reached: list[Ratio]) -> str:
    """`ratios` is keyed by the names of ratios.py; null where something that it needs was not measured."""
    content = {
        "machine": facts,
        "versions": versions,
        "ratios": {each.row.name: each.value for each in reached},
        "asked": {each.row.name: {"asked": each.row.asked, "verdict": each.verdict} for each in reached},
        "failures": [{"server": server, "work": work, "why": why} for (server, work), why in figures.failures.items()],
        "figures": figures.rows(),
    }
    return json.dumps(content, indent=1) + "\n"


def write_page(directory: Path, figures: Figures, facts: dict[str, str], versions: dict[str, str]) -> None:
    """The page with the plots, where matplotlib is there to draw them."""
    if importlib.util.find_spec("matplotlib") is None:
        progress("no page: python3-matplotlib is not installed")
        return
    from tests.bench import report  # loads matplotlib

    directory.mkdir(parents=True, exist_ok=True)
    (directory / "index.html").write_text(report.page(figures, ratios(figures, facts["release"]), facts, versions))
    progress(f"the page: {directory / 'index.html'}")


def main() -> int:
    """The exit status: 1 where something could not be measured, or a ratio is missed."""
    options = arguments()
    directory = options.report or CACHE / "bench/report"
    if options.page_of:
        content = json.loads(options.page_of.read_text())
        write_page(directory, Figures.of(content), content["machine"], content["versions"])
        return 0
    if reason := needs():
        raise SystemExit(f"tests/bench/run: {reason}")
    package = options.package or built_package()
    if options.trace_login:
        print(trace.of_a_login(package, options.release))
        return 0
    if options.soak:
        return soak(options.soak, options.release, package, directory)
    random.seed(options.seed)
    begun = time.monotonic()
    figures = Figures()
    facts = servers.machine_facts() | {"release": options.release, "run": "quick" if options.quick else "full"}
    facts |= {"date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "load before": f"{os.getloadavg()[0]:.1f}"}
    chosen = [work for work in WORKS.values() if work.name in options.only]
    with contextlib.ExitStack() as machines:
        running = []
        for name in SERVERS:
            if name not in options.servers or not any(work.concerns(SERVERS[name], options.quick) for work in chosen):
                continue
            try:
                running.append(begin(SERVERS[name], options.release, package, machines))
            except (MachineError, ServerFailed, RuntimeError) as failure:
                if name.startswith("popad"):
                    raise
                figures.failures[name, BEGINNING] = str(failure)
                progress(f"left out: {SERVERS[name].title}: {failure}")
            else:
                progress(f"serving: {SERVERS[name].title} {running[-1].version}")
        measure(running, chosen, works.QUICK if options.quick else works.FULL, options.quick, figures)
    if left_out := [SERVERS[server].title for server, work in figures.failures if work == BEGINNING]:
        facts["left out"] = ", ".join(left_out)
    facts["minutes"] = f"{(time.monotonic() - begun) / 60:.1f}"
    reached = ratios(figures, options.release)
    print(f"{', '.join(f'{name} {value}' for name, value in facts.items())}\n")
    print(f"{tables(figures, running)}\n\n{table_of_ratios(reached)}")
    versions = {each.server.name: each.version for each in running if each.version}
    if options.json:
        options.json.write_text(as_json(facts, figures, versions, reached))
    write_page(directory, figures, facts, versions)
    return 1 if figures.failures or any(each.verdict == "missed" for each in reached) else 0
