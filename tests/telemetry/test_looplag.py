"""How lateness of the event loop is measured."""

import asyncio
import contextlib
from collections.abc import Iterator

from arriero.core.fleet import Fleet
from arriero.telemetry import looplag
from arriero.telemetry.counters import Counters


class ScriptedClock:
    """Tells the given moments one after the other, and cancels the asker at the end."""

    def __init__(self, moments: list[float]) -> None:
        self._moments: Iterator[float] = iter(moments)

    def now_s(self) -> float:
        for moment in self._moments:
            return moment
        raise asyncio.CancelledError

    def unix_s(self) -> float:
        return 0.0


async def test_lateness_is_counted_and_earliness_is_none(fleet: Fleet) -> None:
    counters = Counters(lambda: fleet)
    #                       due at 0.01  0.3 late  due at 1.01  early
    clock = ScriptedClock([0.0, 0.31, 1.0, 1.0])
    with contextlib.suppress(asyncio.CancelledError):
        await looplag.run(counters, clock, interval_s=0.01)
    assert sum(counters.loop_lag.counts) == 2
    assert counters.loop_lag.counts[0] == 1
    assert abs(counters.loop_lag.total - 0.3) < 1e-9
