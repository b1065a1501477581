"""The report's plots, as SVG to put into a page: one function a work, each on what Figures has of it.

Colours are names here. In the SVG they become CSS variables (theme.css), so that a plot follows the page's light or
dark scheme. popad has the warm colours, its peers the cool ones, the generator's floor an outline alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from tests.bench.figures import GROWTH, LOGIN_STEPS, METRICS, Figures
from tests.bench.ratios import (
    ACCEPT,
    DAEMON,
    LINE_OF_PYTHON,
    MAILDIR,
    TLS_ACCEPT,
    TLS_DAEMON,
    TLS_ONE,
    TLS_SHARED,
    Ratio,
)
from tests.bench.servers import FLOOR

# What matplotlib draws with, and what theme.css calls it.
INK, QUIET, GRID, PAPER, GOOD, BAD = "#000001", "#000002", "#000003", "#000004", "#000005", "#000006"
MARKERS = {
    DAEMON: "o",
    ACCEPT: "D",
    "popa3d": "s",
    "dovecot": "^",
    "dovecot-tuned": "v",
    "courier": "P",
    "mailutils": "X",
}
OWN_COLOURS = {server: f"#0000{number}" for number, server in enumerate([*MARKERS, FLOOR, LINE_OF_PYTHON], 10)}
# Servers that stand in plots of their own look like their kin.
KIN = {
    MAILDIR: DAEMON,
    TLS_DAEMON: DAEMON,
    TLS_ACCEPT: ACCEPT,
    TLS_ONE: "dovecot",
    TLS_SHARED: "dovecot-tuned",
}
MARKERS |= {server: MARKERS[kin] for server, kin in KIN.items()}
SERVER_COLOURS = OWN_COLOURS | {server: OWN_COLOURS[kin] for server, kin in KIN.items()}
STEP_COLOURS = {step: f"#0000{number}" for number, step in enumerate(LOGIN_STEPS, 20)}
VARIABLES = {
    **dict(zip((INK, QUIET, GRID, PAPER, GOOD, BAD), "ink quiet grid card good bad".split(), strict=True)),
    **{colour: f"server-{name}" for name, colour in OWN_COLOURS.items()},
    **{colour: f"step-{name.lower()}" for name, colour in STEP_COLOURS.items()},
}
SIZE, WIDTH = 10.5, 10.0  # points, inches
STYLE = {
    "font.family": "sans-serif",
    "font.size": SIZE,
    "svg.fonttype": "none",
    "text.color": INK,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": GRID,
    "axes.labelcolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.titlesize": SIZE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
}
OURS = (DAEMON, ACCEPT, MAILDIR, TLS_DAEMON, TLS_ACCEPT)

Plot = Callable[[Figures, Mapping[str, str]], str]


def drawn(name: str, height: float, draw: Callable[[Any], None]) -> str:
    """An <svg> element, `draw` having drawn on a figure of that many inches. `name` makes its ids unique in a page."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        draw(figure)
        written = io.StringIO()
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.replace("'DejaVu Sans', ", "").replace("<svg ", '<svg role="img" ', 1)


def short(value: float) -> str:
    """A number as a label: three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def signs(asked: str) -> str:
    """The limit as it is printed."""
    return asked.replace(">=", "≥").replace("<=", "≤")


def seconds(value: float, _position: object = None) -> str:
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def name_servers(axes: Any, servers: Sequence[str], titles: Mapping[str, str]) -> None:
    """The servers as labels of rows, the first on top, popad's in bold."""
    axes.set_yticks(range(len(servers)), [titles[server] for server in servers])
    axes.set_ylim(len(servers) - 0.5, -0.6)
    for label, server in zip(axes.get_yticklabels(), servers, strict=True):
        if server in OURS:
            label.set_fontweight("bold")


def with_any(figures: Figures, titles: Mapping[str, str], metrics: Sequence[str]) -> list[str]:
    """The servers that have a figure for one of the metrics, in the order of the titles."""
    return [name for name in titles if any(figures.median(name, metric) is not None for metric in metrics)]


def figure_rows(
    axes: Any, figures: Figures, metric: str, servers: Sequence[str], draw: Callable[[int, str, float], None]
) -> float:
    """`draw` each server's median on its row, with its label and a thin line from the least to the 95th percentile.

    Returns the largest value drawn.
    """
    what, most = METRICS[metric], 0.0
    for row, server in enumerate(servers):
        if (median := figures.median(server, metric)) is None:
            continue
        low, high = figures.percentile(server, metric, 1) or median, figures.percentile(server, metric, 95) or median
        most = max(most, median, high)
        draw(row, server, median)
        axes.plot([low, high], [row, row], color=INK, linewidth=1.2, alpha=0.5, solid_capstyle="butt", zorder=2)
        axes.annotate(
            short(median) + (" *" if (server, metric) in figures.notes else ""),
            (max(median, high), row),
            (9, 0),
            textcoords="offset points",
            va="center",
            fontweight="bold" if server in OURS else "normal",
        )
    axes.grid(axis="x")
    axes.set_title(f"{what.title}, {'per second' if what.unit == '/s' else what.unit}")
    axes.set_xlabel("further right is better" if what.more_is_better else "further left is better")
    return most


def marks(axes: Any, figures: Figures, metric: str, servers: Sequence[str]) -> None:
    """Marks on a logarithmic axis: a bar would have no foot there, and its length would say nothing."""

    def mark(row: int, server: str, median: float) -> None:
        axes.axhline(row, color=GRID, linewidth=0.7, zorder=0)
        axes.plot(median, row, **mark_of(server, hollow=server == FLOOR), zorder=3)

    most = figure_rows(axes, figures, metric, servers, mark)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(right=most * 3)
    axes.set_xlabel(f"{axes.get_xlabel()}, logarithmic")


def pair(name: str, metrics: tuple[str, str]) -> Plot:
    """Two metrics of the same servers beside each other."""

    def plot(figures: Figures, titles: Mapping[str, str]) -> str:
        servers = with_any(figures, titles, metrics)

        def draw(figure: Any) -> None:
            left, right = figure.subplots(1, 2)
            for axes, metric in ((left, metrics[0]), (right, metrics[1])):
                marks(axes, figures, metric, servers)
                name_servers(axes, servers, titles)
            right.set_yticklabels([])

        return drawn(name, 0.36 * len(servers) + 1.2, draw)

    return plot


def alone(name: str, metric: str) -> Plot:
    """A horizontal bar a server. The floor, far off, is said and not drawn."""

    def plot(figures: Figures, titles: Mapping[str, str]) -> str:
        servers = [server for server in with_any(figures, titles, [metric]) if server != FLOOR]

        def draw(figure: Any) -> None:
            axes = figure.subplots()

            def bar(row: int, server: str, median: float) -> None:
                axes.barh(row, median, height=0.62, color=SERVER_COLOURS[server])

            most = figure_rows(axes, figures, metric, servers, bar)
            name_servers(axes, servers, titles)
            axes.set_xlim(0, most * 1.12)
            if floor := figures.median(FLOOR, metric):
                axes.set_xlabel(f"{axes.get_xlabel()}; the generator with canned replies: {short(floor)}")

        return drawn(name, 0.36 * len(servers) + 1.2, draw)

    return plot


def login_steps(figures: Figures, titles: Mapping[str, str]) -> str:
    """A stacked bar a server: how long the client waits for each reply of one login."""
    servers = with_any(figures, titles, ["login_ms"])

    def draw(figure: Any) -> None:
        patches = [Patch(color=STEP_COLOURS[step]) for step in LOGIN_STEPS]
        axes = below_legend(figure, patches, {step: step for step in LOGIN_STEPS}, 0.09).subplots()
        most = 0.0
        for row, server in enumerate(servers):
            at = 0.0
            for step in LOGIN_STEPS:
                ms = figures.median(server, f"login_step_ms/{step}") or 0.0
                axes.barh(row, ms, left=at, height=0.62, color=STEP_COLOURS[step])
                at += ms
            most = max(most, at)
            weight = "bold" if server in OURS else "normal"
            axes.annotate(short(at), (at, row), (6, 0), textcoords="offset points", va="center", fontweight=weight)
        name_servers(axes, servers, titles)
        axes.set_xlim(0, most * 1.1)
        axes.grid(axis="x")
        axes.set_title("one login by replies, ms (medians)")
        axes.set_xlabel("shorter is better")

    return drawn("login-steps", 0.36 * len(servers) + 1.4, draw)


def beside_a_line(name: str, metric: str, until: str) -> Plot:
    """Every sample of a metric as a dot, and the medians: of popad, and of one line of Python."""
    servers = {ACCEPT: "popad, Accept=yes", LINE_OF_PYTHON: "one line of Python"}

    def plot(figures: Figures, _titles: Mapping[str, str]) -> str:
        def draw(figure: Any) -> None:
            axes = figure.subplots()
            for row, server in enumerate(servers):
                samples = figures.values[server, metric]
                spread = [row + 0.44 * ((number * 0.618) % 1 - 0.5) for number in range(len(samples))]
                colour = SERVER_COLOURS[server]
                axes.plot(samples, spread, "o", color=colour, markersize=5, alpha=0.55, markeredgewidth=0)
                median = figures.median(server, metric) or 0.0
                axes.plot([median, median], [row - 0.32, row + 0.32], color=INK, linewidth=2)
                axes.annotate(short(median), (median, row - 0.32), (0, 3), textcoords="offset points", ha="center")
            name_servers(axes, list(servers), servers)
            axes.set_ylim(1.5, -0.7)
            axes.set_xlim(left=0)
            axes.grid(axis="x")
            axes.set_title(f"from connect to {until}, ms, each connection a dot")
            axes.set_xlabel("further left is better")

        return drawn(name, 2.3, draw)

    return plot


BIG = (
    *("big_first_s", "big_look_s", "big_later_s", "big_uidl_first_s", "big_uidl_later_s", "big_retr_s"),
    *("big_dele_first_s", "big_dele_all_s"),
)
MAILDIR_JOBS = tuple(
    f"{kind}_{job}_s" for kind in ("maildir", "maildir_sized") for job in ("first", "later", "uidl", "retr", "dele_all")
)


def jobs(name: str, metrics: Sequence[str]) -> Plot:
    """A line a job, a mark a server, on one logarithmic axis of seconds."""

    def plot(figures: Figures, titles: Mapping[str, str]) -> str:
        measured = [metric for metric in metrics if figures.measured(metric)]
        servers = with_any(figures, titles, measured)

        def draw(figure: Any) -> None:
            axes = servers_legend(figure, servers, titles, 0.11).subplots()
            for row, job in enumerate(measured):
                axes.axhline(row, color=GRID, linewidth=0.7, zorder=0)
                for server in reversed(servers):  # popad's are drawn last, on top
                    if (median := figures.median(server, job)) is None:
                        continue
                    hollow = (server, job) in figures.notes or server == FLOOR
                    axes.plot(median, row, **mark_of(server, hollow=hollow), zorder=3)
            titled = [METRICS[job].title for job in measured]
            axes.set_yticks(range(len(measured)), [title.removeprefix("big: ") for title in titled])
            axes.set_ylim(len(measured) - 0.5, -0.6)
            seconds_axis(axes.set_xscale, axes.xaxis)
            axes.grid(axis="x")
            axes.set_xlabel("further left is better, logarithmic; hollow: extrapolated, or the generator's floor")

        return drawn(name, 0.42 * len(measured) + 1.5, draw)

    return plot


def growth(figures: Figures, titles: Mapping[str, str]) -> str:
    """Seconds of a login over the number of messages, both logarithmic: the first login, and later ones."""
    servers = with_any(figures, titles, [f"growth_later_s/{count}" for count in GROWTH])
    counts = [count for count in GROWTH if figures.measured(f"growth_later_s/{count}")]

    def draw(figure: Any) -> None:
        panels = servers_legend(figure, servers, titles, 0.13).subplots(1, 2, sharey=True)
        for axes, kind, title in zip(panels, ("first", "later"), ("first login", "later logins"), strict=True):
            for server in reversed(servers):
                points = [(n, figures.median(server, f"growth_{kind}_s/{n}")) for n in counts]
                known = [(n, value) for n, value in points if value is not None]
                look = mark_of(server) | {"linestyle": "-", "linewidth": 2.6 if server in OURS else 1.4}
                axes.plot([n for n, _ in known], [value for _, value in known], **look)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(
                FixedLocator([n for n in counts if n not in (20_000, 200_000) or len(counts) < 4])
            )
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            axes.xaxis.set_minor_locator(NullLocator())
            seconds_axis(axes.set_yscale, axes.yaxis)
            axes.grid()
            axes.spines["left"].set_visible(True)
            axes.set_title(title)
            axes.set_xlabel("messages in the mailbox; lower is better")

    return drawn("growth", 4.2, draw)


def course(title: str, series: Mapping[str, Sequence[tuple[float, float]]], titles: Mapping[str, str]) -> str:
    """A line a server over the minutes of a run."""

    def draw(figure: Any) -> None:
        axes = servers_legend(figure, list(series), titles, 0.14).subplots()
        for server, points in series.items():
            axes.plot(*zip(*points, strict=True), color=SERVER_COLOURS[server], linewidth=1.4)
        axes.set_ylim(bottom=0)
        axes.set_title(title)
        axes.set_xlabel("minutes")
        axes.grid(axis="y")

    return drawn(title.split(",")[0].replace(" ", "-"), 2.8, draw)


def mark_of(server: str, *, hollow: bool = False) -> dict[str, Any]:
    """How a server looks as a mark or a line."""
    colour = SERVER_COLOURS[server]
    return {
        "color": colour,
        "linestyle": "none",
        "marker": MARKERS.get(server, "|"),
        "markersize": 10 if server in OURS else 8,
        "markerfacecolor": PAPER if hollow else colour,
        "markeredgecolor": colour if hollow else PAPER,
        "markeredgewidth": 1.6 if hollow else 0.8,
    }


def seconds_axis(set_scale: Callable[[str], None], axis: Any) -> None:
    set_scale("log")
    axis.set_major_locator(LogLocator())
    axis.set_major_formatter(FuncFormatter(seconds))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def below_legend(figure: Any, marks: Sequence[Any], names: Mapping[str, str], share: float) -> Any:
    """The part of the figure below a legend, which takes a `share` of its height: a mark for each of `names`."""
    top, rest = figure.subfigures(2, 1, height_ratios=[share, 1 - share])
    for part in (top, rest):
        part.set_facecolor("none")
    shown = top.legend(marks, list(names.values()), ncols=5, loc="upper left", columnspacing=1.6, handlelength=1)
    for label, name in zip(shown.get_texts(), names, strict=True):
        if name in OURS:
            label.set_fontweight("bold")
    return rest


def servers_legend(figure: Any, servers: Sequence[str], titles: Mapping[str, str], share: float) -> Any:
    marks = [Line2D([], [], **mark_of(server, hollow=server == FLOOR)) for server in servers]
    return below_legend(figure, marks, {server: titles[server] for server in servers}, share)


def scores(reached: Sequence[Ratio]) -> str:
    """How far each ratio is from its limit: on the left of the line it is better than asked."""
    known = [(each, each.value) for each in reached if each.value]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for row, (each, value) in enumerate(known):
            times = each.row.limit / value if each.row.at_least else value / each.row.limit
            colour = GOOD if each.row.met(value) else BAD
            axes.plot([1, times], [row, row], color=colour, linewidth=5, solid_capstyle="butt", alpha=0.85)
            axes.plot(times, row, "o", color=colour, markersize=9, markeredgecolor=PAPER)
            place = {"ha": "right", "xytext": (-9, 0)} if times < 1 else {"ha": "left", "xytext": (9, 0)}
            axes.annotate(
                f"{value:.2f}  ({signs(each.row.asked)})",
                (times, row),
                textcoords="offset points",
                va="center",
                **place,
            )
        axes.axvline(1, color=INK, linewidth=1.4)
        axes.set_yticks(range(len(known)), [each.row.name for each, _ in known])
        axes.set_ylim(len(known) - 0.4, -0.6)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        axes.set_xlim(min(low / 3, 0.2), max(high * 3, 5))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "asked" if value == 1 else f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="x")
        axes.set_xlabel("times what is asked, logarithmic; left of the line: better than asked")

    return drawn("scores", 0.36 * len(known) + 1.0, draw) if known else ""


# By work: the metric without which there is nothing to draw, and what draws it.
PLOTS: Mapping[str, Sequence[tuple[str, Plot]]] = {
    "login": [("login_ms", pair("login", ("login_ms", "login_rate"))), ("login_ms", login_steps)],
    "small": [("small_ms", pair("small", ("small_ms", "small_rate")))],
    "greeting": [("greeting_ms", beside_a_line("greeting", "greeting_ms", "the first octet"))],
    "session": [("session_ms", beside_a_line("session", "session_ms", "the end of the stream"))],
    "idle": [("idle_mb", alone("idle", "idle_mb"))],
    "one": [("one_mb_s", alone("one", "one_mb_s"))],
    "big": [("big_retr_s", jobs("big", BIG))],
    "maildir": [("maildir_retr_s", jobs("maildir", MAILDIR_JOBS))],
    "tls": [
        ("tls_handshakes", pair("tls-rates", ("tls_handshakes", "tls_mb_s"))),
        ("tls_greeting_ms", pair("tls-waits", ("tls_greeting_ms", "tls_round_trip_us"))),
        ("tls_login_ms/pop3s", pair("tls-logins", ("tls_login_ms/pop3s", "tls_login_ms/plain"))),
    ],
    "growth": [("growth_later_s/200000", growth)],
}
