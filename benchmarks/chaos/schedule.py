"""What happens to which backend and when: drawn from a seed, before anything starts.

Two promises are kept, because the gateway's own promise rests on them: at least one backend is
untouched at every moment, and no stream lives long enough to be hit more often than a stream is
resumed. So events come one at a time, further apart than half of the longest stream.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

GAP_S = (5.0, 7.0)  # between two events
FIRST_S = 3.0
DOWN_S = (2.5, 8.0)  # for how long a killed one stays away, or a stopped one hangs
HANG_S = (5.0, 9.0)
FAULT_COUNT = (5, 40)  # requests that meet a fault, unless the next event ends it before


class Kind(StrEnum):
    """What is done to a backend."""

    KILL = "kill -9"  # and started again after a while
    HANG = "hang"  # SIGSTOP: connections stand, and nothing comes
    DROP = "drop"  # every connection is reset, and what was loaded is forgotten
    BREAK = "break"  # answers break off in the middle, in one of several ways
    FAIL = "fail"  # requests are answered with a failure, or with what is no answer


BREAKS = ("reset_mid", "close_mid", "eof_mid", "error_mid", "malformed_mid", "hang_mid", "crash")
FAILS = ("status", "reset", "garbage")
_WEIGHTS = {Kind.KILL: 3, Kind.HANG: 2, Kind.DROP: 2, Kind.BREAK: 2, Kind.FAIL: 1}


@dataclass(frozen=True)
class Event:
    """One blow. `fault` is what the simulation is told to show, if it is."""

    at_s: float
    kind: Kind
    backend: int
    for_s: float = 0.0
    fault: dict[str, object] = field(default_factory=dict)

    @property
    def until_s(self) -> float:
        """When the backend is whole again."""
        return self.at_s + self.for_s

    def __str__(self) -> str:
        what = self.fault.get("kind", "")
        return f"{self.kind.value}{f' ({what})' if what else ''} on b{self.backend + 1}"


def draw(seed: int, duration_s: float, backends: int) -> list[Event]:
    """Return the events of a run; the last leaves time to recover from it."""
    chance = random.Random(seed)
    events: list[Event] = []
    at_s = FIRST_S
    while at_s < duration_s - max(HANG_S):
        whole = [each for each in range(backends) if not _is_down(events, each, at_s)]
        if len(whole) > 1:
            events.append(_event(chance, at_s, chance.choice(whole)))
        at_s += chance.uniform(*GAP_S)
    return events


def _is_down(events: Sequence[Event], backend: int, at_s: float) -> bool:
    return any(event.backend == backend and event.until_s > at_s for event in events)


def _event(chance: random.Random, at_s: float, backend: int) -> Event:
    kind = chance.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    if kind is Kind.KILL:
        return Event(at_s, kind, backend, chance.uniform(*DOWN_S))
    if kind is Kind.HANG:
        return Event(at_s, kind, backend, chance.uniform(*HANG_S))
    if kind is Kind.DROP:
        return Event(at_s, kind, backend)
    # Faults end with the next event, so that no stream meets two in a row.
    fault: dict[str, object] = {
        "kind": chance.choice(BREAKS if kind is Kind.BREAK else FAILS),
        "endpoint": "/api/chat",
        "count": chance.randint(*FAULT_COUNT),
        "after": chance.randint(1, 30),
    }
    if fault["kind"] == "status":
        fault["status"] = chance.choice([500, 503])
    return Event(at_s, kind, backend, GAP_S[0] - 1, fault)
