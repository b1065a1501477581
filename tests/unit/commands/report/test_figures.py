"""commands/report/figures.py: who, when, and what went wrong."""

from popad.commands.report.entry import Entry
from popad.commands.report.figures import EXAMPLES, SHOWN, TROUBLES, Figures
from popad.commands.report.ranking import KEPT
from popad.commands.report.totals import TABLE
from popad.journal import EVENTS, WARNING


def counted(*entries: tuple[str, dict[str, str]]) -> Figures:
    figures = Figures()
    for place, (event, fields) in enumerate(entries):
        figures.count(Entry(1_790_000_000_000_000 + place, {"event": event, **fields}))
    return figures


def test_who_failed() -> None:
    figures = counted(
        ("login-failed", {"rhost": "192.0.2.7", "user": "alice"}),
        ("login-failed", {"rhost": "192.0.2.7"}),
        ("login-refused", {"rhost": "192.0.2.8", "user": "root"}),
    )
    assert figures.failures_by_address.first(9) == [("192.0.2.7", [2]), ("192.0.2.8", [1])]
    assert figures.failures_by_user.first(9) == [("alice", [1]), ("root", [1])]
    assert figures.unnamed_failures == 1
    assert [amounts for _, amounts in figures.timeline.all_steps()] == [[0, 3, 0]]


def test_users_and_mailboxes() -> None:
    session = {"rhost": "192.0.2.7", "rport": "4", "user": "alice", "maildrop": "mbox:/m"}
    figures = counted(
        ("session-opened", session),
        ("login-passed", session),
        ("maildrop-loaded", session),
        ("session-closed", session | {"sent_octets": "50", "deleted": "2"}),
        ("session-closed", session | {"sent_octets": "1"}),
    )
    assert figures.users.first(9) == [("alice", [51, 2, 2])]
    assert figures.slow.first(9) == [("mbox:/m", [1, 1, 1])]
    assert figures.clients.first(9) == [("192.0.2.7", [1])]


def test_refusals() -> None:
    figures = counted(("limit-reached", {"rhost": "192.0.2.7", "dropped": "7", "limit": "a"}))
    assert figures.refused.first(9) == [("192.0.2.7", [1])]
    assert [amounts for _, amounts in figures.timeline.all_steps()] == [[0, 0, 7]]


def test_each_warning_and_error_is_told() -> None:
    assert TROUBLES.keys() == {event.name for event in EVENTS if event.priority <= WARNING}
    figures = counted(*[(name, {"reason": str(place)}) for name in TABLE for place in range(EXAMPLES + 1)])
    for name, trouble in figures.troubles.items():
        last = [str(place + 1) for place in range(EXAMPLES)]
        assert [fields["reason"] for _, fields in trouble.examples] == last, name


def test_what_others_make_up_is_bounded() -> None:
    figures = Figures()
    for place in range(5 * KEPT):
        name = f"{place} {'x' * 1000}"
        for event in ("session-opened", "login-failed", "session-closed", "limit-reached", "update-failed"):
            figures.count(Entry(1 + place, {"event": event, "rhost": name, "user": name, "limit": name, name: name}))
    for ranking in (figures.clients, figures.failures_by_user, figures.users, figures.refused):
        assert len(ranking.rows) <= 2 * KEPT
        assert ranking.has_forgotten
    (*_, (_, fields)) = figures.troubles["update-failed"].examples
    assert max(map(len, [*fields, *fields.values()])) <= SHOWN
