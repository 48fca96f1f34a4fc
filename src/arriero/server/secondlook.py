"""A second look at the store before a key is called unknown: it may just have been made elsewhere.

A script that makes a key and uses it at once may reach two gateways, or two workers of one, and the
second learns of the key half a second later. So a request whose key is not known waits for one look
at what changed. All that wait share a look, and looks keep a distance, so that wrong keys cost the
store little; whoever tries many only waits. It lets nobody in whom the keys do not.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from arriero.base.clock import Clock
from arriero.fleet.pool import Spawn
from arriero.server.dispatch import Waiter

DISTANCE_S: Final = 0.05
TIMEOUT_S: Final = 1.0
WAITING_MAX: Final = 1024


class SecondLook:
    """Who waits for a look, and when the next one is."""

    def __init__(self, look: Callable[[], Awaitable[None]], spawn: Spawn, clock: Clock) -> None:
        """`look` takes over what changed elsewhere if the store can be asked; it raises nothing."""
        self._look = look
        self._spawn = spawn
        self._clock = clock
        self._waiting: list[Waiter] = []
        self._running: asyncio.Task[None] | None = None
        self._next_s = 0.0

    def join(self, waiter: Waiter) -> bool:
        """Have `waiter` resumed after a look; False when too many wait already."""
        if len(self._waiting) >= WAITING_MAX:
            return False
        self._waiting.append(waiter)
        if self._running is None:
            self._running = self._spawn(self._run())
        return True

    async def _run(self) -> None:
        """Look for those who wait, until nobody does."""
        while self._waiting:
            pause_s = self._next_s - self._clock.now_s()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            waiting, self._waiting = self._waiting, []
            with contextlib.suppress(TimeoutError):  # who waits is refused by what is known
                async with asyncio.timeout(TIMEOUT_S):
                    await self._look()
            self._next_s = self._clock.now_s() + DISTANCE_S
            for waiter in waiting:
                waiter.resume(None)
        self._running = None
