"""The rule of `digests` on a fleet: which hosts of a model are left out for their weights."""

from collections.abc import Iterator

import msgspec

from arriero.core.digests import Copy, is_odd, served
from arriero.core.fleet import Fleet
from arriero.core.health import AVAILABLE
from arriero.core.roster import Group, Host


class Choice(msgspec.Struct, frozen=True):
    """A change: the model, the digest that is served from now on, and the hosts left out."""

    model: str
    digest: str
    left_out: list[str]


def settle_digests(fleet: Fleet) -> list[Choice]:
    """Decide anew for each model of which something changed; return what that changes."""
    dirty, fleet.roster.dirty = fleet.roster.dirty, set()
    return [choice for group in dirty for choice in _settle(fleet, group)]


def _settle(fleet: Fleet, group: Group) -> Iterator[Choice]:
    stations = [
        host.stations[group.model] for host in fleet.hosts.values() if group.model in host.stations
    ]
    copies = [Copy(station.digest, _available(station.host)) for station in stations]
    group.mixed = _is_mixed(fleet, group)
    group.digest = served(copies, group.digest)
    group.divergent = len({copy.digest for copy in copies if copy.digest}) > 1
    odd, names = 0, []
    for station, copy in zip(stations, copies, strict=True):
        if is_odd(copy, group.digest):
            odd |= station.host.bit
            names.append(station.host.name)
    if odd == group.odd:
        return
    group.odd = odd
    for station in stations:
        station.refresh_usable()
    yield Choice(group.model, group.digest, names)


def _available(host: Host) -> bool:
    return host.breaker.state is AVAILABLE


def _is_mixed(fleet: Fleet, group: Group) -> bool:
    """Say whether any alias of the model takes whatever weights there are."""
    return any(
        alias.settings.digests == "mixed"
        and any(branch.group is group for branch in alias.branches)
        for alias in fleet.aliases.values()
    )
