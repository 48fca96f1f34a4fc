"""The simulations' clock: the event loop's for what passes, the system's for what people read."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final

FOREVER_S: Final = float("inf")
# What Go shows as the moment of "never": the largest duration, about 292 years, from now.
_YEAR_OF_NEVER: Final = 2318


class LoopClock:
    """`arriero.base.clock.Clock` for code that runs inside an event loop."""

    def now_s(self) -> float:
        """Return the event loop's seconds."""
        return asyncio.get_running_loop().time()

    def unix_s(self) -> float:
        """Return the system's seconds since 1970."""
        return time.time_ns() / 1e9


def rfc3339(unix_s: float) -> str:
    """Return a UTC timestamp as Ollama writes it; infinity becomes a date far away."""
    if unix_s == FOREVER_S:
        return f"{_YEAR_OF_NEVER}-01-01T00:00:00Z"
    moment = datetime.fromtimestamp(unix_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def nanoseconds(duration_s: float) -> int:
    """Return seconds as Ollama's integer nanoseconds."""
    return int(duration_s * 1e9)
