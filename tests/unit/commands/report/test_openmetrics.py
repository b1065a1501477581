"""commands/report/openmetrics.py: held against the parser of prometheus_client."""

import re

import pytest

from popad.commands.report.distribution import two_digits
from popad.commands.report.entry import Entry
from popad.commands.report.openmetrics import COUNTERS, HISTOGRAMS, LABELLED, exposition
from popad.commands.report.shown import plain
from popad.commands.report.totals import DISTRIBUTIONS, LABEL, SUMS, TABLE, Totals
from popad.commands.report.totals import LABELLED as LABELS
from tests.support.entries import FIELDS, START, history
from tests.support.here import CHECKOUT

parser = pytest.importorskip("prometheus_client.openmetrics.parser")
classic = pytest.importorskip("prometheus_client.parser")

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
EVIL = ['a"b\\c\nd', "<script>", "x" * 70_000, "\udcff\u2028", '"} 7\n# EOF\n', "\\", "\\n"]


def read(text: str) -> Samples:
    """The samples, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def counted(*entries: tuple[int, str, dict[str, str]]) -> Totals:
    totals = Totals()
    for when, event, fields in entries:
        totals.count(Entry(when, {"event": event, **fields}))
    return totals


def of_all_events() -> Totals:
    return counted(*[(when, event.name, {n: str(v) for n, v in fields.items()}) for when, event, fields in history()])


def test_a_history_with_each_event() -> None:
    samples = read(exposition(of_all_events()))
    for name in TABLE:
        assert samples["popad_entries_total", (("event", name),)] == 2
    assert samples["popad_messages_deleted_total", ()] == 2
    assert samples["popad_entries_lost_total", ()] == 2 * int(str(FIELDS["lost"]))
    assert samples["popad_logins_by_mechanism_total", (("mechanism", "SCRAM-SHA-256"),)] == 2
    assert samples["popad_logins_by_encryption_total", (("encryption", "TLSv1.3"),)] == 2
    assert samples["popad_connections_refused_total", (("limit", "limit of 2 sessions"),)] == 14
    assert samples["popad_session_seconds_sum", ()] == 0.5
    assert samples["popad_session_seconds_bucket", (("le", "0.1"),)] == 0
    assert samples["popad_session_seconds_bucket", (("le", "0.25"),)] == 2
    assert samples["popad_session_seconds_bucket", (("le", "+Inf"),)] == 2
    assert samples["popad_maildrop_bytes_sum", ()] == 3000
    assert samples["popad_login_seconds_sum", ()] == 0.5
    assert samples["popad_last_entry_timestamp_seconds", ()] == (START + 250_000 * (len(history()) - 1)) / 1e6


def test_nothing() -> None:
    samples = read(exposition(Totals()))
    assert set(samples.values()) == {0}
    assert ("popad_last_entry_timestamp_seconds", ()) not in samples


def test_what_is_counted_is_shown() -> None:
    assert {place for place, _ in COUNTERS.values()} | {"dropped"} == {*SUMS}  # the limits have it
    assert {place for place, _ in LABELLED.values()} == {*LABELS}
    assert {place for place, *_ in HISTOGRAMS.values()} == {*DISTRIBUTIONS}


def test_the_man_page_names_each_family() -> None:
    page = (CHECKOUT / "packaging/man/popad.8").read_text()
    families = {family.name for family in parser.text_string_to_metric_families(exposition(of_all_events()))}
    assert set(re.findall(r"\bpopad_[a-z_]+", page)) == families


def test_bounds_are_exact() -> None:
    for _, bounds, scale, _ in HISTOGRAMS.values():
        for bound in bounds:
            assert two_digits(round(bound * scale)) == bound * scale


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
def test_what_clients_say_is_a_label_and_no_more(evil: str) -> None:
    totals = counted(
        (0, "login-passed", {"mechanism": evil, "tls": "none", "user": evil}),
        (0, "limit-reached", {"limit": evil, "dropped": "3", "rhost": evil}),
    )
    text = exposition(totals)
    samples = read(text)
    assert samples["popad_logins_by_mechanism_total", (("mechanism", plain(evil[:LABEL])),)] == 1
    assert samples["popad_connections_refused_total", (("limit", plain(evil[:LABEL])),)] == 3
    assert len(samples) == len(read(exposition(Totals()))) + 3
    text.encode()


def test_node_exporter_reads_it_too() -> None:
    """Its form is the older one, in which the names of counters have their ends from the start."""
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in classic.text_string_to_metric_families(exposition(of_all_events()))
        for sample in family.samples
    }
    assert samples == read(exposition(of_all_events()))
