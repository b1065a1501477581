"""The report: one self-contained page with a plot a work, the ratios, and how all of it was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template

from tests.bench import plots
from tests.bench.figures import METRICS, Figures
from tests.bench.ratios import LINE_OF_PYTHON, Ratio
from tests.bench.servers import FLOOR, SERVERS
from tests.bench.works import WORKS

HERE = Path(__file__).parent
TITLES = {name: server.title for name, server in SERVERS.items()} | {LINE_OF_PYTHON: "one line of Python"}
LOADS = ("login_load", "small_load")
# What the figures of a work mean, in HTML. In the order of the page.
STORY = {
    "login": """USER, PASS, STAT, QUIT on a mailbox of ten messages: by one client that begins the next session when the
        last one is over, and by eight at once. Mailboxes are looked at like this every few minutes.""",
    "small": """Ten messages of 4 kB, listed and fetched one by one. The half second of some servers is one bug: the end
        of each RETR waits 40 ms for an acknowledgement that the client delays.""",
    "greeting": """With Accept=yes systemd starts an interpreter in a sandbox of its own for each connection. The least
        that Python can do there is <code>python3 -I -S</code> printing one line, in the same unit.""",
    "session": "The same up to the end of the stream, of a client that logs in, says STAT and QUIT.",
    "big": """The first login meets a mailbox that the server has never seen, later ones find it unchanged; the first
        UIDL comes in a session of its own, and together with the first login in one. RETR fetches all messages, each
        after the one before.""",
    "maildir": """Files of 8.5 kB, without sizes in their names, and with S= and W=: the first login meets a Maildir
        that the server has never seen, later ones find it unchanged.""",
    "tls": """The same certificate kind for all, over the loopback. The clients are Python's: their own work is in each
        figure, and takes a large part of the processors.""",
    "growth": "Messages of 1 kB: what a login costs as a mailbox grows.",
    "one": "In memory, over the loopback.",
    "idle": """What each of 20 clients that have logged in and wait adds to the proportional set size (PSS) of all
        processes of its machine.""",
}


def page(figures: Figures, reached: Sequence[Ratio], facts: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """The whole page."""
    met = sum(each.verdict == "met" for each in reached)
    known = sum(each.value is not None for each in reached)
    fact = {name: escape(value) for name, value in facts.items()}
    return Template((HERE / "page.html").read_text()).substitute(
        style=(HERE / "theme.css").read_text(),
        when=f"{fact['date']}. A {fact['run']} run on {fact['cores']} cores ({fact['processor']}), {fact['release']}.",
        verdict=f"{met} of {known} ratios are met",
        scores=plots.scores(reached),
        ratios=table_of_ratios(reached),
        works="\n".join(section(figures, work) for work in STORY),
        load=f"{largest_load(figures):.0f}",
        floor=escape(SERVERS[FLOOR].title),
        versions=", ".join(f"{escape(SERVERS[name].title)} {escape(version)}" for name, version in versions.items()),
        conditions=", ".join(f"{name} {value}" for name, value in fact.items()),
    )


def largest_load(figures: Figures) -> float:
    """The clients' part of the processors, in percent, with the server that leaves the most to them."""
    loads = [figures.median(name, metric) or 0.0 for name in SERVERS if name != FLOOR for metric in LOADS]
    return max(loads)


def table_of_ratios(reached: Sequence[Ratio]) -> str:
    rows = "\n".join(
        f'<tr><td><code>{each.row.name}</code><td>{escape(each.row.work)}<td class="n">{plots.signs(each.row.asked)}'
        f'<td class="n">{each.shown}<td class="{each.verdict.replace(" ", "-")}">{each.verdict}'
        for each in reached
    )
    heads = '<tr><th>ratio<th>work<th class="n">asked<th class="n">reached<th>'
    return f"<table><thead>{heads}<tbody>{rows}</table>"


def section(figures: Figures, work: str) -> str:
    """A work's plots with what there is to say about them; nothing where nothing was measured."""
    drawings = [draw(figures, TITLES) for metric, draw in plots.PLOTS[work] if figures.measured(metric)]
    if not drawings:
        return ""
    said = [
        f"* {TITLES[server]}, {METRICS[metric].title}: {note}"
        for (server, metric), note in figures.notes.items()
        if metric.startswith(work)
    ]
    said += [f"{TITLES[server]} failed: {why}" for (server, name), why in figures.failures.items() if name == work]
    shown = "".join(f'<div class="plot">{drawing}</div>' for drawing in drawings)
    notes = "".join(f'<p class="note">{escape(line)}</p>' for line in said)
    return f"<section>\n<h2>{escape(WORKS[work].title)}</h2>\n<p>{STORY[work]}</p>\n{shown}\n{notes}\n</section>"
