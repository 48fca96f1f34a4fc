"""The clock port: only `app` holds a real one, everything else is told what time it is."""

from typing import Protocol


class Clock(Protocol):
    """Two clocks in seconds: one that only moves forward, one that people read."""

    def now_s(self) -> float:
        """Return monotonic seconds; only differences mean anything."""
        ...

    def unix_s(self) -> float:
        """Return seconds since 1970-01-01T00:00Z, which may jump."""
        ...
