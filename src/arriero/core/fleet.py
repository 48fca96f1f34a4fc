"""Aliases and the targets that serve them, and the leases by which their use is counted.

Theory. The only way to be counted is a `Lease`, and a lease is given back exactly once: what a host
and a station count is therefore always the number of leases that are out.
"""

from collections.abc import Iterable
from itertools import accumulate

import msgspec

from arriero.config.settings import Backend, Model, Route, Routing, Strategy, Timeouts
from arriero.core.blame import Ejected, blame
from arriero.core.cells import cells_of
from arriero.core.health import Cause
from arriero.core.residency import LOADED, Told
from arriero.core.roster import Group, Host, Roster, Station, slots_of
from arriero.wire.inventory import full_name


class Target(msgspec.Struct, frozen=True, eq=False):
    """One way to serve an alias: a model on a host, the route's settings, and the alias's."""

    station: Station
    weight: float
    timeouts: Timeouts
    settings: Model
    keep_loaded: bool = False

    @property
    def host(self) -> Host:
        """The backend."""
        return self.station.host

    @property
    def model(self) -> str:
        """The model's name there."""
        return self.station.model


class Branch(msgspec.Struct, frozen=True, eq=False):
    """The targets of one alias that have the same model name: nearly always all of them."""

    group: Group
    hosts: int  # mask


class Alias(msgspec.Struct, frozen=True, eq=False):
    """What clients call a model, with all its targets and the settings that belong to it.

    `strategy`, `retries` and `total_s` are the alias's own or else the gateway's. `by_bit` finds
    the targets of a host, `weights` are added up along `targets`. `cell` is the same number for all
    aliases that compete for slots. `is_weighed` says that it matters what a request asks for and in
    whose name: because it may have to wait for a slot, or is placed by its prompt.
    """

    name: str
    settings: Model
    targets: tuple[Target, ...]
    strategy: Strategy
    retries: int
    total_s: float
    branches: tuple[Branch, ...]
    by_bit: dict[int, tuple[Target, ...]]
    weights: tuple[float, ...]
    is_weighed: bool
    cell: int = 0


class Lease(msgspec.Struct, eq=False):
    """The right to have one request on one host; made by `take_lease`, counts until its release."""

    target: Target
    probe: bool  # it is the one request that the host's half-open breaker lets through
    retrial: bool = False  # the same for the station's
    asked_s: float = 0.0
    released: bool = False

    def succeed(self) -> None:
        """The host generated what was asked for."""
        host, station = self._release(), self.target.station
        roster, breaker = host.roster, host.breaker
        station.answered_s = roster.now_s
        if station.residency is not LOADED:
            station.learn(Told.ANSWERED)
        # Nearly always there is nothing more to note: two calls that every request would pay.
        if (
            station.breaker is not None
            or breaker.failures
            or breaker.ejections
            or host.ramp is not None
            or roster.suspects
        ):
            host.on_answer(probe=self.probe)
            station.on_answer(retrial=self.retrial)

    def fail(self, now_s: float, cause: Cause) -> Ejected:
        """The request failed by the host's or the model's fault; return who is left out now."""
        self._release()
        return blame(self.target.station, self, now_s, cause)

    def abandon(self, now_s: float) -> None:
        """The request ended without a verdict on the host.

        As when the client left, or when the host refused what no host would do: that proves a web
        server, and no model.
        """
        host = self._release()
        host.roster.now_s = now_s
        host.breaker.on_abandoned(now_s, probe=self.probe)
        breaker = self.target.station.breaker
        if breaker is not None:
            breaker.on_abandoned(now_s, probe=self.retrial)

    def _release(self) -> Host:
        assert not self.released, "a lease is released exactly once"
        self.released = True
        station = self.target.station
        host = station.host
        host.roster.vacate(station)
        return host


def take_lease(target: Target, turn: int, now_s: float) -> Lease:
    """Count one more request on the target's host."""
    station = target.station
    host = station.host
    host.roster.occupy(station)
    host.served += 1
    host.last_turn = turn
    breaker = station.breaker
    retrial = breaker is not None and breaker.on_try(now_s)
    return Lease(target, host.breaker.on_try(now_s), retrial, now_s)


def take_probe_lease(target: Target, now_s: float) -> Lease:
    """Count one of our own requests: it takes a slot, and no turn from anybody."""
    station = target.station
    host = station.host
    host.roster.occupy(station)
    breaker = station.breaker
    retrial = breaker is not None and breaker.on_try(now_s, own=True)
    return Lease(target, host.breaker.on_try(now_s, own=True), retrial, now_s)


class Fleet:
    """All hosts and aliases of one configuration."""

    __slots__ = ("aliases", "hosts", "roster", "turn")

    def __init__(
        self,
        backends: Iterable[Backend],
        models: Iterable[Model],
        routing: Routing,
        previous: "Fleet | None" = None,
        roster: Roster | None = None,
    ) -> None:
        """Build the fleet; hosts of the `previous` one keep their state by name, on its roster.

        Turns go on where it left off: counted from zero again, every new lease would look older
        than the last one before the reload, and all ties would go to a single host.
        """
        self.roster: Roster = previous.roster if previous else roster or Roster()
        known: dict[str, Host] = previous.hosts if previous else {}
        self.hosts: dict[str, Host] = {
            backend.name: _kept_host(known.get(backend.name), backend, routing, self.roster)
            for backend in backends
        }
        self.turn: int = previous.turn if previous else 0
        models = tuple(models)
        ways = [tuple(self._target(route, model) for route in model.routes) for model in models]
        _set_slots(models, ways)
        cells = cells_of([[target.station for target in targets] for targets in ways])
        self.aliases: dict[str, Alias] = {
            model.name: _alias(model, targets, routing, cell)
            for model, targets, cell in zip(models, ways, cells, strict=True)
        }
        patient = {
            branch.group
            for alias in self.aliases.values()
            if alias.strategy == "adaptive"
            for branch in alias.branches
        }
        for group in self.roster.groups.values():
            group.set_patient(group in patient)
        self.roster.dirty.update(self.roster.groups.values())  # who takes which weights is new

    def _target(self, route: Route, settings: Model) -> Target:
        host = self.hosts[route.backend]
        model = full_name(route.model) if host.kind == "ollama" else route.model
        station = host.station(model)
        return Target(station, route.weight, route.timeouts, settings, route.keep_loaded)

    def next_turn(self) -> int:
        """Return the number of this routing decision."""
        self.turn += 1
        return self.turn


def _alias(model: Model, targets: tuple[Target, ...], routing: Routing, cell: int) -> Alias:
    strategy = model.strategy or routing.strategy
    return Alias(
        model.name,
        model,
        targets,
        strategy,
        routing.retries if model.retries is None else model.retries,
        max((route.timeouts.total_s for route in model.routes), default=0.0),
        _branches(targets),
        _by_bit(targets),
        tuple(accumulate(target.weight for target in targets)),
        strategy == "adaptive" or any(map(_may_be_full, targets)),
        cell,
    )


def _may_be_full(target: Target) -> bool:
    """Say whether its slots can be taken before its connections are."""
    return target.station.slots < target.host.settings.connections_max


def _set_slots(models: Iterable[Model], ways: Iterable[tuple[Target, ...]]) -> None:
    """Give each station the most slots that any of its routes says, or else its backend's."""
    said: dict[Station, int] = {}
    for model, targets in zip(models, ways, strict=True):
        for route, target in zip(model.routes, targets, strict=True):
            said[target.station] = max(said.get(target.station, 0), route.slots or 0)
    for station, slots in said.items():
        station.set_slots(slots or slots_of(station.host.settings))


def _branches(targets: tuple[Target, ...]) -> tuple[Branch, ...]:
    masks: dict[Group, int] = {}
    for target in targets:
        group = target.station.group
        masks[group] = masks.get(group, 0) | target.host.bit
    return tuple(Branch(group, mask) for group, mask in masks.items())


def _by_bit(targets: tuple[Target, ...]) -> dict[int, tuple[Target, ...]]:
    found: dict[int, tuple[Target, ...]] = {}
    for target in targets:
        found[target.host.bit] = (*found.get(target.host.bit, ()), target)
    return found


def _kept_host(old: Host | None, backend: Backend, routing: Routing, roster: Roster) -> Host:
    """Return the old host with the new routing's limits, or a new one if its settings changed."""
    if old is None or old.settings != backend:
        return Host(backend, routing, roster)
    old.set_limits(routing)
    return old
