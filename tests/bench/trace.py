"""What each ms of a login of popad -D is spent on: which process ran, and in what, while the client waited.

The kernel's own trace (tracefs: sched_switch, the system calls, followed over forks) of the daemon and all that it
forks, on the clock that the load generator uses. Where no process was on a processor the time went into waking one up,
to the client, or to other processes of the host.
"""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import generator, servers, works
from tests.bench.figures import LOGIN_STEPS
from tests.bench.generator import Session
from tests.bench.servers import SERVERS
from tests.support.instances import table
from tests.support.machine import Machine
from tests.support.serving import children_of

LOGINS = 60
BUFFER_KB = 32_768  # a processor: 60 logins are some MB
DAEMON, HELPER, SESSION, PREAUTH, VERDICT = "daemon", "helper", "session", "authorization child", "helper's worker"
ROLES = (DAEMON, SESSION, PREAUTH, HELPER, VERDICT)
FORK, EXIT, PYTHON, CALLS = "fork", "exit", "Python, page faults", "other calls"
KINDS = {"clone": FORK, "clone3": FORK, "fork": FORK, "vfork": FORK, "exit_group": EXIT, "exit": EXIT}
AFTER = "after QUIT"
LINE = re.compile(r"-(\d+)\s+\[\d+\]\s+\S+\s+([\d.]+): (.*)")
SWITCH = re.compile(r"sched_switch: .*prev_pid=(\d+).* next_pid=(\d+)")
FORKED = re.compile(r"sched_process_fork: .*child_pid=(\d+)")
CALL = re.compile(r"sys_(\w+)(\(| -> )")


@dataclass(frozen=True)
class Slice:
    """Seconds in which a process was on a processor. `what`: the system call that it was in, or PYTHON."""

    begun: float
    ended: float
    pid: int
    what: str

    def within(self, begun: float, ended: float) -> float:
        return max(0.0, min(self.ended, ended) - max(self.begun, begun))


def slices(lines: Iterable[str]) -> tuple[list[Slice], dict[int, int]]:
    """What the trace says: the time on a processor, and who forked whom (parent by child)."""
    found: list[Slice] = []
    parents: dict[int, int] = {}
    doing: dict[int, str] = {}
    since: dict[int, float] = {}

    def stop(pid: int, now: float) -> None:
        if pid in since:
            begins_as = "clone" if pid in parents else PYTHON  # a new process begins in the call that made it
            found.append(Slice(since.pop(pid), now, pid, doing.get(pid, begins_as)))

    for line in lines:
        if (matched := LINE.search(line)) is None:
            continue
        pid, now, event = int(matched[1]), float(matched[2]), matched[3]
        if switch := SWITCH.match(event):
            stop(int(switch[1]), now)
            since[int(switch[2])] = now
        elif forked := FORKED.match(event):
            parents[int(forked[1])] = pid
        elif call := CALL.match(event):
            stop(pid, now)
            doing[pid] = call[1].removeprefix("new") if call[2] == "(" else PYTHON
            since[pid] = now
    return found, parents


def role_of(pid: int, parents: Mapping[int, int], daemon: int, helper: int) -> str:
    """Who a process is, by who forked it; "" for one of nobody's."""
    if pid in (daemon, helper):
        return DAEMON if pid == daemon else HELPER
    parent = parents.get(pid, 0)
    if parent in (daemon, helper):
        return SESSION if parent == daemon else VERDICT
    return PREAUTH if parents.get(parent, 0) == daemon else ""


def windows(sessions: Sequence[Session]) -> Iterator[dict[str, tuple[float, float]]]:
    """For each session when each step begun and ended; what comes behind it ends with the next session's begin."""
    for session, following in zip(sessions, [*sessions[1:], None], strict=True):
        at, found = session.begun, {}
        for step in LOGIN_STEPS:
            found[step] = at, at + session.steps[step].seconds
            at = found[step][1]
        found[AFTER] = at, following.begun if following else session.ended
        yield found


# -- the trace --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def recorded(pids: Sequence[int]) -> Iterator[Path]:
    """Trace these processes and their children. The file to read the trace from, inside the `with`."""
    with tempfile.TemporaryDirectory() as mounted:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", mounted], check=True)
        instance = Path(mounted) / "instances" / f"popad-{os.getpid()}"
        try:
            instance.mkdir()
            for file, text in (
                ("trace_clock", "mono"),
                ("buffer_size_kb", str(BUFFER_KB)),
                ("options/event-fork", "1"),
                ("set_event_pid", " ".join(map(str, pids))),
                ("events/syscalls/enable", "1"),
                ("events/sched/sched_switch/enable", "1"),
                ("events/sched/sched_process_fork/enable", "1"),
            ):
                (instance / file).write_text(text)
            yield instance / "trace"
        finally:
            with contextlib.suppress(FileNotFoundError):
                instance.rmdir()
            subprocess.run(["umount", mounted], check=True)


def host_pids(machine: Machine) -> tuple[int, int]:
    """The daemon and its helper, the first child that it has, as this host numbers them."""
    inside = int(machine.show("popad-standalone.service", "MainPID")["MainPID"])
    daemon = next(pid for pid, namespaced in numbered(machine) if namespaced == inside)
    return daemon, children_of(daemon)[0]


def descendants(pid: int) -> dict[int, int]:
    """All that a process and its children have forked: the parent by the child."""
    found: dict[int, int] = {}
    for child in children_of(pid):
        found |= {child: pid, **descendants(child)}
    return found


def numbered(machine: Machine) -> Iterator[tuple[int, int]]:
    """The machine's processes: this host's number, the machine's."""
    namespace = Path(f"/proc/{machine.pid}/ns/pid").readlink()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # ended meanwhile, or is not ours to look at
            if process.name.isdigit() and (process / "ns/pid").readlink() == namespace:
                status = (process / "status").read_text()
                yield int(process.name), int(status.split("NSpid:")[1].splitlines()[0].split()[-1])


def of_a_login(package: Path, release: str) -> str:
    """The tables, from LOGINS logins one after the other."""
    server = SERVERS["popad-daemon"]
    with Machine(servers.tree_of(server, release)) as machine:
        works.prepare(servers.start(server, machine, package))
        untraced = generator.run(machine, works.login_session(), sessions=LOGINS)
        daemon, helper = host_pids(machine)
        before = descendants(daemon)  # the helper, a worker of it, the session of the next client
        with recorded([daemon, *before]) as trace:
            traced = generator.run(machine, works.login_session(), sessions=LOGINS)
            with trace.open() as lines:
                found, parents = slices(lines)
        parents |= before
    p50, with_trace = (statistics.median(each.seconds * 1000 for each in run.sessions) for run in (untraced, traced))
    by_role = {pid: role for pid in {each.pid for each in found} if (role := role_of(pid, parents, daemon, helper))}
    head = f"popad -D, {LOGINS} logins one after the other: p50 {p50:.2f} ms, while traced {with_trace:.2f} ms"
    return f"{head}\n\n{report(found, by_role, traced.sessions)}"


def report(found: Sequence[Slice], by_role: Mapping[int, str], sessions: Sequence[Session]) -> str:
    """Per step who was on a processor, then in what, in ms of one login (medians)."""
    steps: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    whole: defaultdict[str, list[float]] = defaultdict(list)
    kinds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    calls: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for window in windows(sessions):
        in_kinds: defaultdict[tuple[str, str], float] = defaultdict(float)
        begun, ended = window["greeting"][0], window[AFTER][1]
        near = [each for each in found if each.pid in by_role and each.within(begun, ended)]
        for step, (from_, to) in window.items():
            whole[step].append((to - from_) * 1000)
            spent: defaultdict[str, float] = defaultdict(float)
            for each in near:
                ms = each.within(from_, to) * 1000
                role = by_role[each.pid]
                spent[role] += ms
                kind = KINDS.get(each.what, PYTHON if each.what == PYTHON else CALLS)
                in_kinds[role, kind] += ms
                if kind == CALLS:
                    calls[role][each.what] += ms / len(sessions)
            for role in ROLES:
                steps[step, role].append(spent[role])
        for role in ROLES:
            for kind in (PYTHON, CALLS, FORK, EXIT):
                kinds[role, kind].append(in_kinds[role, kind])
    middle = statistics.median
    rows = [
        [step, f"{middle(whole[step]):.2f}", *(f"{middle(steps[step, role]):.2f}" for role in ROLES)]
        for step in (*LOGIN_STEPS, AFTER)
    ]
    more = [
        [
            role,
            *(f"{middle(kinds[role, kind]):.2f}" for kind in (PYTHON, CALLS, FORK, EXIT)),
            ", ".join(f"{name} {ms:.2f}" for name, ms in sorted(calls[role].items(), key=lambda call: -call[1])[:5]),
        ]
        for role in ROLES
    ]
    heads = ["the client waits", "ms", *(f"{role} on a processor" for role in ROLES)]
    return "\n\n".join(
        [table(rows, heads), table(more, ["process", PYTHON, CALLS, FORK, EXIT, "dearest calls (mean)"])]
    )
