"""How late the event loop comes to its timers: what every stream waits on top of its own work."""

import asyncio

from arriero.base.clock import Clock
from arriero.telemetry.counters import Counters

INTERVAL_S = 0.25


async def run(counters: Counters, clock: Clock, interval_s: float = INTERVAL_S) -> None:
    """Measure the lag every `interval_s`, until cancelled."""
    while True:
        due_s = clock.now_s() + interval_s
        await asyncio.sleep(interval_s)
        counters.loop_lag.observe(max(0.0, clock.now_s() - due_s))
