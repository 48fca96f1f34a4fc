"""Keeps models in memory that the configuration wants there: `keep_loaded`."""

from collections.abc import Mapping

from arriero.core.fleet import Alias, Fleet, Target
from arriero.core.health import AVAILABLE, Breaker, Cause
from arriero.core.warmup import Place, to_load
from arriero.fleet.loader import Loader
from arriero.fleet.pool import Pool

INTERVAL_S = 1.0


class Warmer:
    """Looks once a second whether something is to be loaded."""

    __slots__ = ("_aliases", "_due_s", "_fleet", "_loader")

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._fleet: Fleet | None = None
        self._aliases: list[Alias] = []
        self._due_s = 0.0

    def sweep(self, fleet: Fleet, pools: Mapping[str, Pool], now_s: float) -> None:
        """Begin the loads that are due."""
        if fleet is not self._fleet:
            self._fleet = fleet
            self._aliases = [alias for alias in fleet.aliases.values() if _is_kept(alias)]
        elif now_s < self._due_s:
            return
        self._due_s = now_s + INTERVAL_S
        for alias in self._aliases:
            targets = [target for target in alias.targets if target.host.kind == "ollama"]
            places = [_place(target, now_s) for target in targets]
            for at in to_load(places, alias.settings.keep_loaded, now_s):
                target = targets[at]
                self._loader.load(target, pools[target.host.name], own=True)


def _is_kept(alias: Alias) -> bool:
    return alias.settings.keep_loaded > 0 or any(target.keep_loaded for target in alias.targets)


def _place(target: Target, now_s: float) -> Place:
    station, host = target.station, target.host
    usable = _may_load(host.breaker, now_s) and (
        station.breaker is None or _may_load(station.breaker, now_s)
    )
    return Place(
        target.keep_loaded,
        usable and host.installed is not None and not station.group.odd & host.bit,
        station.residency,
        host.loads,
        len(host.resident),
        host.in_flight,
        station.evicted_s,
        station.evictions,
    )


def _may_load(breaker: Breaker, now_s: float) -> bool:
    """Say whether a load may be tried; it can end an ejection, but for silence, as a request does.

    What fell silent is the prober's, because a load is no generation.
    """
    if breaker.state is AVAILABLE:
        return True
    return breaker.cause is not Cause.SILENT and breaker.may_probe(now_s)
