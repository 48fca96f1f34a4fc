"""Asks loaded models for one token, when nobody else has for a while.

It finds a wedged host before a user does, and is the first to ask one again when its ejection is
over. A probe takes a slot as every request does, and only a free one, so it neither waits in the
backend's queue nor lets a user wait there. `core/probing.py` says when one is due.
"""

import asyncio
from collections.abc import Mapping
from typing import Protocol

from arriero.base.clock import Clock
from arriero.config.settings import Routing
from arriero.core.attempts import RULES, End
from arriero.core.blame import Ejected
from arriero.core.fleet import Fleet, Lease, Target, take_probe_lease
from arriero.core.health import AVAILABLE, Cause
from arriero.core.probing import Seen, is_due
from arriero.core.residency import LOADED
from arriero.core.roster import Host, Station
from arriero.fleet.errors import UpstreamError
from arriero.fleet.fetch import fetch
from arriero.fleet.own import STATUS_OK, ask
from arriero.fleet.pool import Pool, Spawn
from arriero.wire.canonical import Chat, Completion, Embedding, Message, Sampling
from arriero.wire.dialect import BackendDialect
from arriero.wire.inventory import decode_ps
from arriero.wire.ollama import OLLAMA
from arriero.wire.openai_backend import OPENAI

INTERVAL_S = 0.25
PROMPT = "Hi"
_DIALECTS: dict[str, BackendDialect] = {"ollama": OLLAMA, "openai": OPENAI}
# A probe looks for silence. What else may go wrong with it may be its own fault.
_TELLING = frozenset({Cause.SILENT, Cause.LOST, Cause.REFUSED})


class Reporter(Protocol):
    """Who counts and logs what becomes of models and hosts."""

    def tell_probed(self, target: Target, *, ok: bool) -> None:
        """A probe is over."""
        ...

    def tell_ejected(self, target: Target, ejected: Ejected, reason: str) -> None:
        """A failure may have left somebody out."""
        ...


class Prober:
    """Sends the probes that are due: at most one to a host at a time."""

    def __init__(self, spawn: Spawn, clock: Clock, report: Reporter) -> None:
        self._spawn = spawn
        self._clock = clock
        self._report = report
        self._fleet: Fleet | None = None
        self._targets: dict[Station, list[Target]] = {}
        self._under_way: dict[Host, asyncio.Task[None]] = {}

    def sweep(
        self, fleet: Fleet, pools: Mapping[str, Pool], routing: Routing, now_s: float
    ) -> None:
        """Begin the probes that are due."""
        if not routing.probe_interval_s:
            return
        if fleet is not self._fleet:
            self._fleet = fleet
            self._targets = {}
            for alias in fleet.aliases.values():
                for target in alias.targets:
                    self._targets.setdefault(target.station, []).append(target)
        for host in fleet.hosts.values():
            if host in self._under_way:
                continue
            due = self._due(host, routing.probe_interval_s, now_s)
            if due is not None:
                probe = self._probe(due, pools[host.name], routing)
                self._under_way[host] = self._spawn(probe)

    def stop(self) -> None:
        """End all probes: the gateway goes down."""
        for task in self._under_way.values():
            task.cancel()

    # -- which

    def _due(self, host: Host, interval_s: float, now_s: float) -> Target | None:
        """Return what to ask the host for now, if anything."""
        breaker = host.breaker
        suspect = host in host.roster.suspects
        if breaker.state is not AVAILABLE:
            if breaker.cause is not Cause.SILENT or not breaker.may_probe(now_s):
                return None
            suspect = True
        for station in host.stations.values():
            if station.residency is not LOADED or not station.group.free & host.bit:
                continue
            if self._is_due(station, interval_s, now_s, suspect=suspect):
                target = self._target_of(station)
                if target is not None:
                    return target
        return None

    def _is_due(self, station: Station, interval_s: float, now_s: float, *, suspect: bool) -> bool:
        breaker = station.breaker
        if breaker is not None and breaker.state is not AVAILABLE:
            return breaker.cause is Cause.SILENT and breaker.may_probe(now_s)
        return suspect or is_due(_seen(station), now_s, interval_s)

    def _target_of(self, station: Station) -> Target | None:
        """Return a way to ask for the model as it is loaded: any other would load it anew."""
        loaded = station.host.resident.get(station.model)
        for target in self._targets.get(station, ()):
            wanted = target.settings.context
            if wanted is None or loaded is None or loaded.context in (0, wanted):
                return target
        return None

    # -- one probe

    async def _probe(self, target: Target, pool: Pool, routing: Routing) -> None:
        station = target.station
        shared = station.host.roster.shared
        if shared is not None and not shared.claim(station):  # another worker was first
            del self._under_way[target.host]
            return
        before = 0 if station.answered_s > station.probed_s else station.probes
        lease = take_probe_lease(target, self._clock.now_s())
        try:
            if await _is_loaded(target, pool, routing):
                await self._ask(lease, pool, routing.probe_timeout_s)
        finally:
            station.probes = before + 1
            station.probed_s = self._clock.now_s()
            del self._under_way[target.host]
            if not lease.released:
                lease.abandon(self._clock.now_s())

    async def _ask(self, lease: Lease, pool: Pool, timeout_s: float) -> None:
        target = lease.target
        dialect = _DIALECTS[target.host.kind]
        request = _question(target)
        path, body = dialect.encode(request, target.model, target.settings)
        answer = await ask(
            pool,
            dialect,
            path,
            body,
            timeout_s=timeout_s,
            connect_timeout_s=target.timeouts.connect_s,
        )
        end = answer.end
        if end is End.ANSWERED and not _is_answer(dialect, request, answer.body):
            end = End.MALFORMED
        self._settle(lease, end)

    def _settle(self, lease: Lease, end: End) -> None:
        now_s, mark = self._clock.now_s(), RULES[end].mark
        half_open = lease.probe or lease.retrial
        self._report.tell_probed(lease.target, ok=end is End.ANSWERED)
        if end is End.ANSWERED:
            lease.succeed()
        elif mark is not None and (half_open or mark in _TELLING):
            self._report.tell_ejected(lease.target, lease.fail(now_s, mark), f"probe_{end.value}")
        else:
            lease.abandon(now_s)


def _seen(station: Station) -> Seen:
    loaded = station.host.resident.get(station.model)
    used = station.answered_s > station.probed_s
    return Seen(
        loaded=True,
        running=station.running,
        answered_s=max(station.answered_s, station.probed_s),
        probes=0 if used else station.probes,
        kept=loaded is None or loaded.forever,
    )


async def _is_loaded(target: Target, pool: Pool, routing: Routing) -> bool:
    """Look again just before, because a probe must not load what has expired meanwhile."""
    if target.host.kind != "ollama":
        return True
    try:
        status, body = await fetch(pool, b"/api/ps", routing.inventory_timeout_s)
        if status != STATUS_OK:
            return False
        target.host.resident = decode_ps(body)
    except (OSError, UpstreamError, ValueError):  # the inventory will have its say
        return False
    return target.station.resident


def _question(target: Target) -> Chat | Completion | Embedding:
    listed = (target.host.installed or {}).get(target.model)
    mode = target.settings.mode
    if mode == "embedding" or (
        mode is None and listed is not None and bool(listed.capabilities) and listed.only_embeds
    ):
        return Embedding(model=target.model, inputs=[PROMPT])
    one = Sampling(max_tokens=1)
    if mode == "completion":
        return Completion(model=target.model, prompt=PROMPT, sampling=one)
    messages = [Message("user", PROMPT)]
    return Chat(model=target.model, messages=messages, text_only=True, sampling=one)


def _is_answer(
    dialect: BackendDialect, request: Chat | Completion | Embedding, body: bytes
) -> bool:
    try:
        if isinstance(request, Embedding):
            dialect.decode_vectors(body)
        else:
            dialect.decode_answer(request, body)
    except ValueError:
        return False
    return True
