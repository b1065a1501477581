"""The report as an object of JSON: times in microseconds, sizes in octets, moments in seconds since 1970."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from popad.commands.report.figures import Figures
    from popad.commands.report.ranking import Ranking

from popad.commands.report.distribution import Distribution
from popad.commands.report.figures import COLUMNS, TROUBLES
from popad.commands.report.tables import PERCENTS

ROWS = 100  # of a ranking

# The rankings, and what the amounts of a row are.
RANKINGS = {
    "clients": ("connections",),
    "failures_by_address": ("logins",),
    "failures_by_user": ("logins",),
    "refused": ("entries",),
    "users": ("sent_octets", "sessions", "deleted"),
    "slow": ("longest_usec", "total_usec", "times"),
}


def as_json(figures: "Figures", notes: list[str], texts: "dict[str, tuple[str, str]]") -> dict[str, object]:
    """All figures."""
    return {
        "entries": figures.entries,
        "first": seconds(figures.first),
        "last": seconds(figures.last),
        "notes": notes,
        "events": figures.events,
        "sums": figures.sums,
        "distributions": {name: percentiles(found) for name, found in figures.distributions.items()},
        "labels": figures.labelled,
        "unnamed_failures": figures.unnamed_failures,
        "rankings": {name: rows(vars(figures)[name], amounts) for name, amounts in RANKINGS.items()},
        "troubles": {
            name: {
                "subject": texts.get(TROUBLES[name].message_id, (name, ""))[0],
                "entries": figures.events[name],
                "examples": [{"time": seconds(when), **fields} for when, fields in trouble.examples],
            }
            for name, trouble in figures.troubles.items()
            if trouble.examples
        },
        "timeline": {
            "step_seconds": seconds(figures.timeline.width),
            "columns": COLUMNS,
            "steps": [[seconds(when), *amounts] for when, amounts in figures.timeline.all_steps()],
        },
    }


def seconds(microseconds: int) -> float | None:
    """A moment; None where it is not known."""
    return microseconds / 1e6 if microseconds else None


def percentiles(found: Distribution) -> dict[str, int]:
    """Of one distribution."""
    values = {f"p{percent}": found.percentile(percent) for percent in PERCENTS}
    return {"number": found.number, "total": found.total, **values, "largest": found.largest}


def rows(ranking: "Ranking", amounts: tuple[str, ...]) -> dict[str, object]:
    """The first of a ranking. What a row may lack is `forgotten`."""
    named = [{"name": name, **dict(zip(amounts, row, strict=True))} for name, row in ranking.first(ROWS)]
    return {"rows": named, "names": len(ranking.rows), "forgotten": ranking.forgotten}
