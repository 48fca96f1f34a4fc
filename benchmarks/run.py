"""A whole run: install, rounds over all entrants, results."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from http.client import HTTPException

from benchmarks import machine, measure, stats
from benchmarks.gateways import Gateway
from benchmarks.install import NotInstalled, say
from benchmarks.measure import Entry, Figures, Plan, Subject
from benchmarks.paths import ROOT
from benchmarks.ports import NotReady
from benchmarks.results import Results, Row
from benchmarks.rig import Mock, Rig, RigBroken

# What a gateway that breaks under load can make the rig run into; a mistake in the rig's own code
# is none of these and ends the run.
TROUBLE = (RigBroken, OSError, HTTPException, subprocess.TimeoutExpired)
Phase = Callable[[Subject, Rig, Plan, Figures], None]


@dataclass
class Book:
    """What has been found so far."""

    rounds: list[dict[str, Figures]] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def installed(gateways: Sequence[Gateway], book: Book) -> list[Entry]:
    """Install every gateway; those that cannot be are remembered with the reason."""
    entries = []
    for gateway in gateways:
        try:
            entries.append(Entry(gateway, gateway.install()))
        except NotInstalled as problem:
            say(f"{gateway.title}: not run: {problem}")
            book.not_run[gateway.name] = str(problem)
    return entries


class Run:
    """The rounds of one run, within its time limit."""

    def __init__(self, rig: Rig, plan: Plan, entries: Sequence[Entry], book: Book) -> None:
        self._rig = rig
        self._plan = plan
        self._entries = entries
        self._book = book
        self._ends_at = time.monotonic() + plan.limit_s

    def rounds(self) -> None:
        """Measure A B C, then again A B C: what disturbs the machine meets all of them."""
        for number in range(1, self._plan.rounds + 1):
            if time.monotonic() > self._ends_at:
                self._book.notes.append(f"round {number} and later: left out, the time was over")
                return
            self._plan = replace(self._plan, memory=self._plan.memory and number == 1)
            figures: dict[str, Figures] = {stats.DIRECT: Figures()}
            self._book.rounds.append(figures)
            self._phase(number, figures, self._rig.start_nginx, measure.requests_phase)
            self._phase(number, figures, self._rig.start_streammock, measure.streams_phase)

    def _phase(
        self, number: int, figures: dict[str, Figures], start: Callable[[], Mock], phase: Phase
    ) -> None:
        mock = start()
        try:
            phase(measure.direct(mock), self._rig, self._plan, figures[stats.DIRECT])
            self._say(number, stats.DIRECT, figures[stats.DIRECT])
            for entry in self._entries:
                self._measure(number, entry, mock, figures, phase)
        finally:
            mock.server.stop()

    def _measure(
        self, number: int, entry: Entry, mock: Mock, figures: dict[str, Figures], phase: Phase
    ) -> None:
        name = entry.gateway.name
        if name in self._book.not_run:
            return
        if time.monotonic() > self._ends_at:
            kind = phase.__name__.removesuffix("_phase")
            self._book.notes.append(
                f"{entry.gateway.title}, round {number}, {kind}: left out, the time was over"
            )
            return
        mine = figures.setdefault(name, Figures())
        try:
            with measure.running(entry, self._rig, mock, mine) as subject:
                phase(subject, self._rig, self._plan, mine)
        except NotReady as problem:
            self._book.not_run[name] = str(problem)
        except TROUBLE as problem:
            kind = phase.__name__.removesuffix("_phase")
            note = f"{entry.gateway.title}, round {number}, {kind}: ended early: {problem}"
            self._book.notes.append(note)
            say(note)
        self._say(number, name, mine)

    def _say(self, number: int, name: str, figures: Figures) -> None:
        shown = ("cpu_us_per_request", "requests_per_s", "cpu_us_per_chunk", "stalls")
        words = [f"{key} {figures.values[key]:.4g}" for key in shown if key in figures.values]
        if name in self._book.not_run:
            words.append(f"not run: {self._book.not_run[name]}")
        say(f"round {number}/{self._plan.rounds} {name}: {', '.join(words) or 'done'}")


def results(
    gateways: Sequence[Gateway], entries: Sequence[Entry], rig: Rig, plan: Plan, book: Book
) -> Results:
    """Put everything together."""
    values = [{name: dict(f.values) for name, f in figures.items()} for figures in book.rounds]
    marks = [{name: f.marks for name, f in figures.items()} for figures in book.rounds]
    cells = stats.cells(values, marks)
    by_name = {entry.gateway.name: entry for entry in entries}
    direct = Row(stats.DIRECT, "no gateway", "rig", "", "the rig itself", cells[stats.DIRECT])
    rows = [direct]
    for gateway in gateways:
        entry = by_name.get(gateway.name)
        rows.append(
            Row(
                name=gateway.name,
                title=gateway.title,
                family=gateway.family,
                version=entry.installed.version if entry is not None else "",
                job=gateway.job,
                cells=cells.get(gateway.name, {}),
                not_run=book.not_run.get(gateway.name),
                facts=_without_root(entry.installed.facts) if entry is not None else {},
                missing=stats.missing(gateway.name, cells.get(gateway.name, {}), marks),
            )
        )
    settings = {**asdict(plan), "cores": asdict(rig.cores), "tools": dict(rig.tools.versions)}
    return Results(machine.facts(), settings, rows, book.notes, values)


def _without_root(facts: Mapping[str, object]) -> dict[str, object]:
    """Return facts fit to be published: paths from the project's root on."""
    root = f"{ROOT}/"
    return {
        name: fact.removeprefix(root) if isinstance(fact, str) else fact
        for name, fact in facts.items()
    }
