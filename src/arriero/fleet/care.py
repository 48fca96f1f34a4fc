"""What the gateway does for its backends by itself: loads, probes, and a look at their weights."""

from collections.abc import Mapping
from typing import Protocol

from arriero.base.clock import Clock
from arriero.config.settings import Routing
from arriero.core.fleet import Fleet
from arriero.fleet import loader, prober
from arriero.fleet.inventory import report_digests
from arriero.fleet.loader import Loader
from arriero.fleet.pool import Pool, Spawn
from arriero.fleet.prober import Prober
from arriero.fleet.warmer import Warmer


class Reporter(loader.Reporter, prober.Reporter, Protocol):
    """Who counts and logs all that."""


class Care:
    """Looks after the fleet, a few times a second."""

    def __init__(self, spawn: Spawn, clock: Clock, report: Reporter) -> None:
        self.loader = Loader(spawn, clock, report)
        self._prober = Prober(spawn, clock, report)
        self._warmer = Warmer(self.loader)

    def sweep(
        self, fleet: Fleet, pools: Mapping[str, Pool], routing: Routing, now_s: float
    ) -> None:
        """Begin what is due."""
        report_digests(fleet)
        self._warmer.sweep(fleet, pools, now_s)
        self._prober.sweep(fleet, pools, routing, now_s)

    def stop(self) -> None:
        """End what is under way: the gateway goes down."""
        self._prober.stop()
        self.loader.stop()
