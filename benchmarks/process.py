"""Servers as process trees: started on one core, measured through /proc, ended by their id."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Stat:
    """The fields of /proc/PID/stat that we need."""

    pid: int
    parent: int
    session: int
    children_ticks: int
    rss_pages: int


def parse_stat(text: str) -> Stat:
    """Parse one /proc/PID/stat line; the command's name may hold spaces and parentheses."""
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    # User and system time of the children it has waited for; its own is read more finely.
    ticks = int(fields[13]) + int(fields[14])
    pid = int(head.split(" ", 1)[0])
    return Stat(pid, int(fields[1]), int(fields[3]), ticks, int(fields[21]))


def _all_stats() -> dict[int, Stat]:
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = parse_stat((entry / "stat").read_text())
        except OSError:  # it ended while we looked
            continue
        found[stat.pid] = stat
    return found


def members(root: int, stats: Mapping[int, Stat]) -> list[Stat]:
    """Return the processes of a tree: the root's session, and descendants that left it."""
    inside = {pid for pid, stat in stats.items() if root in (pid, stat.session)}
    grown = True
    while grown:
        more = {pid for pid, stat in stats.items() if stat.parent in inside} - inside
        inside |= more
        grown = bool(more)
    return [stats[pid] for pid in inside]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Let everything that is started inside inherit this core, itself and its children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _cpu_s(stat: Stat) -> float:
    """Return a process's own time, all its threads, to the nanosecond, and its children's.

    /proc counts in ticks of 10 ms, too coarse for a window in which a gateway uses 50 ms. The
    clock's number is made as clock_getcpuclockid(3) makes it.
    """
    try:
        own_s = time.clock_gettime((~stat.pid << 3) | 2)
    except OSError:  # it ended since the list was made
        own_s = 0.0
    return own_s + stat.children_ticks / TICKS_PER_S


class Server:
    """A process tree that we started and that we end."""

    def __init__(self, popen: subprocess.Popen[bytes], started_at: float) -> None:
        self._popen = popen
        self.started_at = started_at

    @property
    def alive(self) -> bool:
        """Whether the head of the tree still runs."""
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The head's exit code, None while it runs."""
        return self._popen.poll()

    def members(self) -> list[Stat]:
        """Return the processes of the tree."""
        return members(self._popen.pid, _all_stats())

    def cpu_s(self) -> float:
        """Return the processor time that the tree has used so far."""
        return sum(_cpu_s(stat) for stat in self.members())

    def rss_mb(self) -> float:
        """Return the resident memory of the tree in MB (10^6), shared pages counted per process."""
        return sum(stat.rss_pages for stat in self.members()) * PAGE_BYTES / 1e6

    def stop(self) -> None:
        """End the tree: politely, and after a while by force."""
        tree = self.members()
        self._signal(tree, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(STOP_TIMEOUT_S)
        # A child may outlive its parent, or have left the session; both are in the list.
        self._signal([*tree, *self.members()], signal.SIGKILL)
        self._popen.wait()

    def _signal(self, tree: Sequence[Stat], number: signal.Signals) -> None:
        alive = _all_stats()
        for stat in tree:
            now = alive.get(stat.pid)
            if now is not None and now.session == stat.session:
                _kill(stat.pid, number)


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended by itself in the meantime


def start(
    argv: Sequence[str], *, core: int, log: Path, env: Mapping[str, str], folder: Path
) -> Server:
    """Start a server on a core, as the head of a session of its own, its output in `log`."""
    with log.open("ab") as output, on_core(core):
        started_at = time.monotonic()
        popen = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **env},
            cwd=folder,
            start_new_session=True,
        )
    return Server(popen, started_at)


@dataclass(frozen=True)
class CoreTime:
    """One core's counters: how long it was busy, and how long the host took it away."""

    busy_s: float
    steal_s: float


def core_time(core: int) -> CoreTime:
    """Read one core's line of /proc/stat."""
    return parse_core(Path("/proc/stat").read_text(), core)


def parse_core(text: str, core: int) -> CoreTime:
    """Find `cpuN` in /proc/stat: user nice system idle iowait irq softirq steal."""
    for line in text.splitlines():
        name, *fields = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _wait, irq, softirq, steal = (int(x) for x in fields[:8])
            busy = user + nice + system + irq + softirq
            return CoreTime(busy / TICKS_PER_S, steal / TICKS_PER_S)
    raise LookupError(f"/proc/stat has no cpu{core}")
