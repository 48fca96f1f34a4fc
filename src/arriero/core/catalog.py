"""Questions about what can be served now."""

import difflib

from arriero.core.fleet import Alias, Fleet, Target
from arriero.core.health import Breaker, State
from arriero.core.routing import usable_mask


def is_ready(fleet: Fleet, now_s: float) -> bool:
    """Say whether at least one alias could be routed now, by a host known to have its model."""
    roster = fleet.roster
    return any(
        host.installed is not None
        for alias in fleet.aliases.values()
        for host in roster.hosts_of(usable_mask(alias, roster, now_s))
    )


def retry_after_s(alias: Alias, now_s: float) -> int:
    """Return whole seconds until one of the alias's ejected hosts may be tried, from 1 to 60."""
    waits = [
        max(breaker.due_s for breaker in ejected) - now_s
        for target in alias.targets
        if (ejected := _ejected(target))
    ]
    return min(max(int(min(waits, default=1.0)) + 1, 1), 60)


def _ejected(target: Target) -> list[Breaker]:
    """Return the breakers that keep requests from a target: the host's, the model's there."""
    both = (target.host.breaker, target.station.breaker)
    return [each for each in both if each is not None and each.state is not State.AVAILABLE]


def suggest(fleet: Fleet, name: str) -> str | None:
    """Return the alias that looks most like `name`, if any does."""
    near = difflib.get_close_matches(name, fleet.aliases, n=1)
    return near[0] if near else None
