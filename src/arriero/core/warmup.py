"""Which models are to be loaded without being asked for: `keep_loaded`.

Theory. An alias may name hosts that keep its model in memory (`keep_loaded` of a route), or say on
how many of its hosts that should be (`keep_loaded` of the alias), or both: the named ones count.
What is loaded or being loaded anywhere counts, so a model that users brought up elsewhere is not
loaded once more. One load at a time is begun on a host, because Ollama loads one after the other
and what waits there cannot be seen.

At the start, and when a host's process is another one, loads begin at once. A model that Ollama
took out of memory by itself made room for another: to bring it back at once would start a quarrel
over the memory, so that waits until the host is idle and `RELOAD_AFTER_S` have passed, and twice as
long each time: two models that are both to be kept, and do not fit, end with few loads a day.
"""

from collections.abc import Sequence
from typing import NamedTuple

from arriero.core.residency import Residency

RELOAD_AFTER_S = 60.0
_DOUBLINGS_MAX = 7  # two hours
_HERE = (Residency.LOADING, Residency.LOADED)


class Place(NamedTuple):
    """One host of an alias."""

    named: bool  # its route says `keep_loaded`
    open: bool  # host and model are in use: not ejected, and installed or not known to be absent
    state: Residency
    loads: int  # under way on this host, of whatever model
    residents: int  # models in its memory
    in_flight: int
    evicted_s: float  # when Ollama last took the model out of memory by itself
    evictions: int  # how often, since its process began


def to_load(places: Sequence[Place], count: int, now_s: float) -> list[int]:
    """Return the indices of the places where a load should begin now."""
    chosen = [at for at, place in enumerate(places) if place.named and _may(place, now_s)]
    covered = sum(place.state in _HERE for place in places)
    # A named host that cannot be had now still is one of the count: its turn will come.
    covered += sum(place.named and place.state not in _HERE for place in places)
    others = [at for at, place in enumerate(places) if not place.named and _may(place, now_s)]
    others.sort(key=lambda at: (places[at].residents, places[at].in_flight))
    return chosen + others[: max(count - covered, 0)]


def _may(place: Place, now_s: float) -> bool:
    if not place.open or place.loads or place.state in (*_HERE, Residency.ABSENT):
        return False
    if not place.evictions:
        return True
    wait_s = RELOAD_AFTER_S * 2.0 ** min(place.evictions - 1, _DOUBLINGS_MAX)
    return not place.in_flight and now_s - place.evicted_s >= wait_s
