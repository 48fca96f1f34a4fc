"""The simulations' clock, and the two forms in which Ollama writes times."""

import time
from datetime import UTC, datetime
from typing import Final

FOREVER_S: Final = float("inf")
# Go's longest duration, about 292 years: what "for ever" is shown as.
NEVER_S: Final = (2**63 - 1) / 1e9


class LoopClock:
    """`arriero.base.clock.Clock` for code that runs inside an event loop.

    It is the loop's own clock, read anew each time: uvloop's moves once an iteration and in whole
    milliseconds, which would make short durations zero.
    """

    def now_s(self) -> float:
        """Return the monotonic clock's seconds."""
        return time.monotonic_ns() / 1e9

    def unix_s(self) -> float:
        """Return the system's seconds since 1970."""
        return time.time_ns() / 1e9


def rfc3339(unix_s: float) -> str:
    """Return a UTC timestamp as Ollama writes it; infinity is its "never"."""
    unix_s = min(unix_s, time.time_ns() / 1e9 + NEVER_S)
    moment = datetime.fromtimestamp(unix_s, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def nanoseconds(duration_s: float) -> int:
    """Return seconds as Ollama's integer nanoseconds."""
    return int(duration_s * 1e9)
