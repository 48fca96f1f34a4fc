"""What other gateways have on the hosts, and what of the slots is this gateway's in any case.

Theory. Gateways that see each other's requests choose as one would: the least busy host is the one
with the least of all, and a slot that another gateway uses is taken. What they see is a tenth of a
second old, so two may take the last slot at once; the host then queues one request.

A gateway whose queue never ends would so keep a slot for ever, because it fills it again before
anybody else sees it free. Therefore each has a part of every station's slots that is its own
whatever the others use. Where there are fewer slots than gateways they take turns.
"""

from collections.abc import Iterable

from arriero.core.roster import Host

TURN_S = 2.0  # how long a slot that cannot be divided stays with one gateway

# By the address of a host, the requests running there, by model.
State = dict[str, dict[str, int]]


def state_of(hosts: Iterable[Host]) -> State:
    """Return what this gateway has on the hosts."""
    return {
        host.settings.url: {
            station.model: station.running for station in host.stations.values() if station.running
        }
        for host in hosts
        if host.in_flight
    }


def own_part(slots: int, gateways: int, place: int) -> int:
    """Return how many slots are a gateway's own, its place being a number that turns."""
    whole, rest = divmod(slots, gateways)
    return whole + (place % gateways < rest)


def hear(hosts: Iterable[Host], states: list[State], rank: int, now_s: float) -> None:
    """Take over what the others have; `rank` is this gateway's among them, from 0."""
    gateways = len(states) + 1
    turn = int(now_s / TURN_S)
    for position, host in enumerate(hosts):
        others: dict[str, int] = {}
        for state in states:
            for model, running in state.get(host.settings.url, {}).items():
                others[model] = others.get(model, 0) + running
        host.roster.set_others(host, sum(others.values()))
        for model, station in host.stations.items():
            own = own_part(station.slots, gateways, position + rank + turn)
            station.set_others(others.get(model, 0), own)
