"""How a host that comes back gets its work: little at first, more with every answer.

Theory. A host that was ejected and answered once is AVAILABLE, and by then the emptiest of all.
Every strategy would send it all that waits, to a process that has just begun: caches empty, models
to load, and perhaps not as well as one answer made it look. So it begins with one request at a
time and may have one more for each good answer, which doubles what it does in each round. A ramp
is over when it allows what the slots do, or `slow_start_s` after it began: a host that nobody
needs must not stay small.

Envoy's slow start mode and NGINX's `slow_start` scale a weight by the time alone; a count of
answers is the better measure here, because an answer may take a second or minutes.
"""


class Ramp:
    """What a host may do at once after its return; times are monotonic seconds."""

    __slots__ = ("_allowed", "_until_s")

    def __init__(self, now_s: float, slow_start_s: float) -> None:
        self._allowed = 1
        self._until_s = now_s + slow_start_s

    def allowed(self) -> int:
        """Return how many requests the host may have in flight."""
        return self._allowed

    def on_success(self) -> None:
        """It answered: it may have one more."""
        self._allowed += 1

    def is_over(self, now_s: float, slots: int) -> bool:
        """Say whether the ramp allows as much as the host's `slots` do, or has had its time."""
        return self._allowed >= slots or now_s >= self._until_s
