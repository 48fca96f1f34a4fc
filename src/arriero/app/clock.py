"""The real clock. Everybody else takes one (`base.clock.Clock`)."""

import time


class SystemClock:
    """The machine's clocks; as instance attributes, so that a reading is one call."""

    __slots__ = ("now_s", "unix_s")

    def __init__(self) -> None:
        self.now_s = time.monotonic  # noqa: TID251 - this is the one place
        self.unix_s = time.time  # noqa: TID251 - this is the one place
