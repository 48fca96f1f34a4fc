"""arriero's policies: the gateway's own fleet, leases, queue and strategies, played by the engine.

Everything that decides is imported from `arriero.core`. What is written here is the part of the
server around it, in a few lines: ask the strategy while a slot is free, else wait in the queue.
"""

from typing import Final

from arriero.base.errors import QueueFull
from arriero.config.settings import Backend, Model, Queueing, Route, Routing, Strategy
from arriero.core.admission import Queue
from arriero.core.ask import Ask, Priority
from arriero.core.fairness import Charge, cost_of
from arriero.core.fleet import Alias, Fleet, Lease, Target, take_lease
from arriero.core.health import Cause
from arriero.core.learning import Sent, answered, sent
from arriero.core.line import Ticket
from arriero.core.residency import Residency, Told
from arriero.core.routing import last_resorts, open_mask, target_on, usable_mask
from arriero.core.strategies import ADAPTIVE, choose
from arriero.wire.canonical import Usage
from arriero.wire.inventory import Listed, Loaded
from benchmarks.fleet.engine import Engine, Request
from benchmarks.fleet.workload import Trace

OUTPUT_TOKENS: Final = 256  # what core.ask takes for a usual answer
RETRIES: Final = Routing().retries


def fleet_for(trace: Trace, strategy: Strategy) -> Fleet:
    """Return the gateway's fleet of a trace's hosts and models, as its configuration makes it."""
    backends = [
        Backend(name=spec.name, url=f"http://{spec.name}:11434", slots=spec.slots)
        for spec in trace.hosts
    ]
    models = [
        Model(
            name=model.name,
            strategy=strategy,
            routes=tuple(Route(backend=spec.name, model=model.name) for spec in trace.hosts),
        )
        for model in trace.models
    ]
    return Fleet(backends, models, Routing())


class Note:
    """What the gateway keeps of a request."""

    __slots__ = ("ask", "charge", "failures", "lease", "sent", "ticket", "tried")

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.lease: Lease | None = None
        self.sent: Sent | None = None
        self.charge: Charge | None = None
        self.ticket: Ticket | None = None
        self.tried = 0
        self.failures = 0


class Gateway:
    """A fleet behind one strategy, with the queue in front of it."""

    def __init__(self, engine: Engine, strategy: Strategy) -> None:
        self.engine = engine
        self.fleet = fleet_for(engine.trace, strategy)
        self.queue = Queue(Queueing())
        self._learns = strategy == ADAPTIVE
        self._hosts = list(self.fleet.hosts.values())
        self._number = {host.name: number for number, host in enumerate(self._hosts)}
        self.notes: dict[Request, Note] = {}

    def arrive(self, request: Request, now_s: float) -> None:
        """Ask the strategy if a slot is free and nobody waits, else wait."""
        turn = request.turn
        ask = Ask(
            turn.user,
            Priority.BACKGROUND if turn.background else Priority.INTERACTIVE,
            turn.session,
            turn.prompt_tokens,
            OUTPUT_TOKENS,
            turn.chat,
        )
        note = self.notes[request] = Note(ask)
        self._go(request, note, now_s)

    def _go(self, request: Request, note: Note, now_s: float) -> None:
        alias, roster = self.fleet.aliases[request.turn.model], self.fleet.roster
        mask = open_mask(alias, roster, now_s) & ~note.tried
        if mask and not self.queue.contended(alias):
            if note.charge is None:
                note.charge = self.queue.charge(alias, note.ask)
            self._send(request, note, self._choose(alias, mask, note), now_s)
        elif usable_mask(alias, roster, now_s) & ~note.tried:
            self._wait(request, note, alias, now_s)
        else:
            self._last_resort(request, note, alias, now_s)

    def _choose(self, alias: Alias, mask: int, note: Note) -> Target:
        return choose(alias, mask, self.fleet.roster, note.ask, self.fleet.turn)

    def _wait(self, request: Request, note: Note, alias: Alias, now_s: float) -> None:
        note.ticket = Ticket(alias, note.ask, request, tried=note.tried, charge=note.charge)
        try:
            self.queue.join(note.ticket, now_s)
        except QueueFull:
            self._give_up(request, "refused", now_s)
        else:
            self._dispatch(now_s)

    def _last_resort(self, request: Request, note: Note, alias: Alias, now_s: float) -> None:
        mask = last_resorts(alias, self.fleet.roster) & ~note.tried
        if mask:
            self._send(request, note, target_on(alias, mask & -mask), now_s)
        else:
            self._give_up(request, "failed", now_s)

    def _give_up(self, request: Request, outcome: str, now_s: float) -> None:
        self._settle(self.notes.pop(request), 0, 0)
        self.engine.refuse(request, outcome, now_s)

    def _send(self, request: Request, note: Note, target: Target, now_s: float) -> None:
        station = target.station
        bit = station.host.bit
        note.tried |= bit
        if not station.resident:
            station.learn(Told.LOAD)
        note.lease = take_lease(target, self.fleet.next_turn(), now_s)
        if self.engine.send(request, self._number[station.host.name], now_s):
            if self._learns:
                note.sent = sent(station, note.ask)
        else:
            note.lease.fail(now_s, Cause.REFUSED)
            station.learn(Told.FAILED)
            station.learn(Told.GONE)
            self._go(request, note, now_s)

    def _dispatch(self, now_s: float) -> None:
        """Give free stations to those who wait."""
        while self.queue.waiting:
            ticket = self._next(now_s)
            if ticket is None:
                return
            request = ticket.waiter
            assert isinstance(request, Request)
            note = self.notes[request]
            note.charge, note.ticket = ticket.charge, None
            alias = ticket.alias
            mask = open_mask(alias, self.fleet.roster, now_s) & ~note.tried
            self._send(request, note, self._choose(alias, mask, note), now_s)

    def _next(self, now_s: float) -> Ticket | None:
        roster = self.fleet.roster
        for group, hosts in list(self.queue.demand()):
            for host in roster.hosts_of(hosts & group.open & roster.available):
                ticket = self.queue.next_for(host.stations[group.model], now_s)
                if ticket is not None:
                    return ticket
        return None

    def ended(self, request: Request, now_s: float) -> None:
        """Give the lease back, learn, and let the next one in."""
        note, job = self.notes.pop(request), request.job
        assert note.lease is not None
        assert job is not None
        note.lease.succeed()
        self._settle(note, request.turn.prompt_tokens, request.turn.answer.tokens)
        if note.sent is not None:
            # What Ollama tells: the prompt's tokens with the cached ones, and two durations.
            prompt_s, answer_s = job.first_s - job.started_s, job.end_s - job.first_s
            told = Usage(request.turn.prompt_tokens, request.turn.answer.tokens)
            told.prompt_s, told.completion_s = prompt_s, answer_s
            answered(note.sent, told)
        self._dispatch(now_s)

    def lost(self, request: Request, now_s: float) -> None:
        """The host died under the request: another one, if the user has seen nothing."""
        note, job = self.notes[request], request.job
        assert note.lease is not None
        assert job is not None
        station = note.lease.target.station
        note.lease.fail(now_s, Cause.LOST)
        if station.residency is Residency.LOADING:
            station.learn(Told.FAILED)
        station.learn(Told.GONE)
        note.failures += 1
        if job.first_s >= 0 or note.failures > RETRIES:
            self._give_up(request, "failed", now_s)
        else:
            self._go(request, note, now_s)

    def _settle(self, note: Note, prompt_tokens: int, answer_tokens: int) -> None:
        if note.charge is not None and not note.charge.settled:
            note.charge.settle(cost_of(prompt_tokens, answer_tokens))

    def look(self, now_s: float) -> None:
        """Take the inventory, and whoever can be reached again."""
        for host, seen in zip(self._hosts, self.engine.hosts, strict=True):
            if seen.down:
                continue
            host.breaker.on_reachable(now_s)
            host.installed = {f"{name}": Listed() for name in seen.models}
            host.resident = {
                name: Loaded(8192, int(runner.model.size_bytes), int(runner.model.size_bytes))
                for name, runner in seen.runners.items()
            }
        self._dispatch(now_s)

    def loaded(self, host: int, now_s: float) -> None:
        """A load has ended well."""
        ours = self._hosts[host]
        for name in self.engine.hosts[host].runners:
            if ours.stations[name].residency is Residency.LOADING:
                ours.stations[name].learn(Told.DONE)
        self._dispatch(now_s)

    def sweep(self, now_s: float) -> None:
        """End what waits too long, and see who may load."""
        roster = self.fleet.roster
        roster.sweep(now_s)
        for ticket in self.queue.expired(now_s):
            request = ticket.waiter
            assert isinstance(request, Request)
            self._give_up(request, "refused", now_s)
        for group, _ in list(self.queue.demand()):
            group.wanted(now_s, roster.available)
        self._dispatch(now_s)
