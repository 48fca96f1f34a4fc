"""The machine's clocks, for the processes of the embedded fleet."""

import time


class SystemClock:
    """A `base.clock.Clock` that tells the real time."""

    def now_s(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()  # noqa: TID251 - this is the clock that others take

    def unix_s(self) -> float:
        """Return seconds since 1970-01-01T00:00Z."""
        return time.time()  # noqa: TID251 - this is the clock that others take
