"""What is known of the fleet, and the leases by which its use is counted.

Theory. A `Host` is one backend. `in_flight` counts the requests it is working on, whatever alias
they came by: a counter per alias cannot see that a host is busy with another model (LiteLLM's
fault 4, research 3). The only way to be counted is a `Lease`, and a lease is given back exactly
once; `in_flight` is therefore always the number of leases that are out.
"""

from collections.abc import Iterable

import msgspec

from arriero.config.settings import Backend, Model, Route, Routing, Strategy, Timeouts
from arriero.core.health import Breaker, Cause
from arriero.wire.inventory import Listed, Loaded, full_name


class Host:
    """One backend as the gateway knows it. Written only by leases and the inventory."""

    __slots__ = (
        "breaker", "in_flight", "installed", "kind", "last_turn", "name", "resident", "served",
        "settings", "version",
    )  # fmt: skip

    def __init__(self, settings: Backend, routing: Routing) -> None:
        self.settings = settings
        self.name = settings.name
        self.kind = settings.kind
        self.breaker = Breaker(
            failures_max=routing.failures_max,
            ejection_s=routing.ejection_s,
            ejection_max_s=routing.ejection_max_s,
        )
        self.in_flight = 0
        self.served = 0  # leases ever given
        self.last_turn = 0  # turn of the last lease: least recently used breaks ties
        self.installed: dict[str, Listed] | None = None  # None: not known yet
        self.resident: dict[str, Loaded] = {}
        self.version = ""

    def has(self, model: str) -> bool:
        """Say whether requests for `model` may go here; unknown inventories are given a chance."""
        return self.installed is None or model in self.installed

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.breaker.state.name} in_flight={self.in_flight}>"


class Target(msgspec.Struct, frozen=True, eq=False):
    """One way to serve an alias: a host, the model's name there, and the route's settings."""

    host: Host
    model: str
    weight: float
    timeouts: Timeouts


class Alias(msgspec.Struct, frozen=True, eq=False):
    """What clients call a model, with all its targets and the settings that belong to it.

    `strategy`, `retries` and `total_s` are the alias's own or else the gateway's.
    """

    name: str
    settings: Model
    targets: tuple[Target, ...]
    strategy: Strategy
    retries: int
    total_s: float


class Lease(msgspec.Struct, eq=False):
    """The right to have one request on one host; made by `take_lease`, counts until its release."""

    target: Target
    probe: bool  # it is the one request that a half-open breaker lets through
    released: bool = False

    def succeed(self) -> None:
        """The host answered, be it a refusal of a bad request."""
        breaker = self._release().breaker
        if self.probe or breaker.failures or breaker.ejections:
            breaker.on_success(probe=self.probe)

    def fail(self, now_s: float, cause: Cause) -> bool:
        """The host failed; return True when that ejects it."""
        return self._release().breaker.on_failure(now_s, probe=self.probe, cause=cause)

    def abandon(self, now_s: float) -> None:
        """The request ended without a verdict on the host, as when the client left."""
        self._release().breaker.on_abandoned(now_s, probe=self.probe)

    def _release(self) -> Host:
        assert not self.released, "a lease is released exactly once"
        self.released = True
        host = self.target.host
        host.in_flight -= 1
        return host


def take_lease(target: Target, turn: int, now_s: float) -> Lease:
    """Count one more request on the target's host."""
    host = target.host
    host.in_flight += 1
    host.served += 1
    host.last_turn = turn
    return Lease(target, host.breaker.on_try(now_s))


class Fleet:
    """All hosts and aliases of one configuration."""

    __slots__ = ("aliases", "hosts", "turn")

    def __init__(
        self,
        backends: Iterable[Backend],
        models: Iterable[Model],
        routing: Routing,
        known: dict[str, Host] | None = None,
    ) -> None:
        """Build the fleet; `known` hosts of an earlier configuration keep their state by name.

        Turns go on where those hosts left off: counted from zero again, every new lease would look
        older than the last one before the reload, and all ties would go to a single host.
        """
        self.hosts = {
            backend.name: _kept_host((known or {}).get(backend.name), backend, routing)
            for backend in backends
        }
        self.turn = max((host.last_turn for host in self.hosts.values()), default=0)
        self.aliases: dict[str, Alias] = {}
        for model in models:
            self.aliases[model.name] = self._alias(model, routing)

    def _alias(self, model: Model, routing: Routing) -> Alias:
        return Alias(
            model.name,
            model,
            tuple(self._target(route) for route in model.routes),
            model.strategy or routing.strategy,
            routing.retries if model.retries is None else model.retries,
            max((route.timeouts.total_s for route in model.routes), default=0.0),
        )

    def _target(self, route: Route) -> Target:
        host = self.hosts[route.backend]
        model = full_name(route.model) if host.settings.kind == "ollama" else route.model
        return Target(host, model, route.weight, route.timeouts)

    def next_turn(self) -> int:
        """Return the number of this routing decision."""
        self.turn += 1
        return self.turn


def _kept_host(old: Host | None, backend: Backend, routing: Routing) -> Host:
    """Return the old host with the new routing's limits, or a new one if its settings changed."""
    if old is None or old.settings != backend:
        return Host(backend, routing)
    old.breaker.set_limits(
        failures_max=routing.failures_max,
        ejection_s=routing.ejection_s,
        ejection_max_s=routing.ejection_max_s,
    )
    return old
