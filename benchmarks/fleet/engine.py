"""The event loop of the simulator: no wall clock, no chance, the same run every time.

The engine plays users and hosts. It gives each request to a policy, which calls `send` or `refuse`,
now or later; the engine calls back when a request has ended on its host or was lost there.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final, Protocol

from benchmarks.fleet.host import NEVER, Host, Job
from benchmarks.fleet.workload import Session, Trace, Turn

SWEEP_S: Final = 0.25  # arriero looks at its clock so often
POLL_S: Final = 5.0  # how often gateways look at `/api/ps`; arriero's default


@dataclass(eq=False)
class Request:
    """One request from its arrival to its end."""

    number: int
    turn: Turn
    session: Session
    place: int  # in the session
    arrived_s: float
    attempts: int = 0
    host: int = -1
    job: Job | None = None
    outcome: str = ""  # ok, refused, failed
    ended_s: float = -1.0
    note: object = None  # the policy's own

    @property
    def ttft_s(self) -> float:
        """How long the first token took."""
        assert self.job is not None
        return self.job.first_s - self.arrived_s


class Policy(Protocol):
    """Who decides where requests go."""

    def arrive(self, request: Request, now_s: float) -> None:
        """Send the request, refuse it, or keep it for later."""
        ...

    def ended(self, request: Request, now_s: float) -> None:
        """A host has answered."""
        ...

    def lost(self, request: Request, now_s: float) -> None:
        """The host died, or there was no connection."""
        ...

    def loaded(self, host: int, now_s: float) -> None:
        """A host has loaded a model."""
        ...

    def sweep(self, now_s: float) -> None:
        """A quarter of a second has passed."""
        ...

    def look(self, now_s: float) -> None:
        """It is time to look at the hosts."""
        ...


class Engine:
    """One run."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.hosts = [Host(spec, trace.models) for spec in trace.hosts]
        self.requests: list[Request] = []
        self.open = 0
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._wakes = [0] * len(self.hosts)  # the number of a host's latest wake; others are stale
        self._running: dict[Job, Request] = {}
        self._policy: Policy | None = None
        if trace.warm:
            self._warm_up()

    def _warm_up(self) -> None:
        """Load what fits, other models first on each host, so that all are somewhere."""
        models = self.trace.models
        for number, host in enumerate(self.hosts):
            for place in range(len(models)):
                model = models[(number + place) % len(models)]
                if model.size_bytes <= host.free_bytes:
                    host.install(model)

    def run(self, policy: Policy) -> Sequence[Request]:
        """Play the trace; return all requests, each of which has ended once."""
        self._policy = policy
        for session in self.trace.sessions:
            self.at(session.start_s, partial(self._say, session, 0, session.turns[0]))
        for outage in self.trace.outages:
            self.at(outage.start_s, partial(self._crash, outage.host))
            self.at(outage.start_s + outage.length_s, partial(self._restart, outage.host))
        self._left = self.trace.turns
        self.at(0.0, self._look)
        self.at(SWEEP_S, self._sweep)
        while self._events and self._left:
            now_s, _, act = heapq.heappop(self._events)
            act(now_s)
        return self.requests

    def at(self, when_s: float, act: Callable[[float], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self._events, (when_s, next(self._order), act))

    # -- for policies

    def send(self, request: Request, host: int, now_s: float) -> bool:
        """Send a request to a host; return False when there is no connection."""
        request.attempts += 1
        request.host = host
        if self.hosts[host].down:
            return False
        job = request.job = Job(request.turn, now_s)
        self._running[job] = request
        self.hosts[host].submit(job, now_s)
        self._wake(host)
        return True

    def refuse(self, request: Request, outcome: str, now_s: float) -> None:
        """End a request without an answer."""
        self._end(request, outcome, now_s)

    # -- users

    def _say(self, session: Session, place: int, turn: Turn, now_s: float) -> None:
        request = Request(len(self.requests), turn, session, place, now_s)
        self.requests.append(request)
        self.open += 1
        assert self._policy is not None
        self._policy.arrive(request, now_s)

    def _end(self, request: Request, outcome: str, now_s: float) -> None:
        assert not request.outcome, "a request ends once"
        request.outcome, request.ended_s = outcome, now_s
        self.open -= 1
        self._left -= 1
        # A user whose turn failed goes on all the same: the trace stays the same for all.
        session, place, task = request.session, request.place + 1, request.turn.task
        if task is not None:
            self.at(now_s, partial(self._say, session, request.place, task))
        if place < len(session.turns) and not request.turn.background:
            turn = session.turns[place]
            self.at(now_s + turn.gap_s, partial(self._say, session, place, turn))

    # -- hosts

    def _wake(self, host: int) -> None:
        self._wakes[host] += 1
        number, when_s = self._wakes[host], self.hosts[host].next_s()
        if when_s < NEVER:
            self.at(when_s, partial(self._tick, host, number))

    def _tick(self, host: int, number: int, now_s: float) -> None:
        if number != self._wakes[host]:
            return
        loads = len(self.hosts[host].loads)
        ended = self.hosts[host].tick(now_s)[1]
        assert self._policy is not None
        if len(self.hosts[host].loads) < loads:
            self._policy.loaded(host, now_s)
        for job in ended:
            request = self._running.pop(job)
            self._policy.ended(request, now_s)
            self._end(request, "ok", now_s)
        self._wake(host)

    def _crash(self, host: int, now_s: float) -> None:
        assert self._policy is not None
        if self.hosts[host].down:
            return
        lost = self.hosts[host].crash()
        self._wakes[host] += 1
        for job in sorted(lost, key=lambda job: self._running[job].number):
            self._policy.lost(self._running.pop(job), now_s)

    def _restart(self, host: int, now_s: float) -> None:
        if self.hosts[host].down:
            self.hosts[host].restart(now_s)

    def _look(self, now_s: float) -> None:
        assert self._policy is not None
        self._policy.look(now_s)
        self.at(now_s + POLL_S, self._look)

    def _sweep(self, now_s: float) -> None:
        assert self._policy is not None
        self._policy.sweep(now_s)
        self.at(now_s + SWEEP_S, self._sweep)
