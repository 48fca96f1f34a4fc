"""What was used in the last minute, in buckets of a second.

Theory. A bucket counts until its last moment is a minute ago, so no span of a minute ever holds
more than the limit, wherever it begins; the price is that what was used counts up to a second too
long. A counter that starts anew each minute would let twice the limit through around its start.
"""

from collections import deque

from arriero.core.shares import Share

WINDOW_S = 60
SHARED_WAIT_S = 0.1  # what another gateway does not use of its share is back by then


class Window:
    """What was used in the last minute; with a `share`, of a limit of several gateways."""

    __slots__ = ("_buckets", "newest", "share", "total")

    def __init__(self) -> None:
        self.share: Share | None = None
        self._buckets: deque[list[int]] = deque()  # [second, amount], the oldest first
        self.newest = [-1, 0]  # of them
        self.total = 0

    def expire(self, now_s: float) -> None:
        """Forget what is more than a minute ago."""
        oldest, buckets = int(now_s) - WINDOW_S, self._buckets
        while buckets and buckets[0][0] < oldest:
            self.total -= buckets.popleft()[1]
        if not buckets:
            self.newest = [-1, 0]

    def add(self, now_s: float, amount: int) -> None:
        """Count; `now_s` never goes back."""
        second = int(now_s)
        if self.newest[0] == second:
            self.newest[1] += amount
        else:
            self.newest = [second, amount]
            self._buckets.append(self.newest)
        self.total += amount
        if self.share is not None and self.share.live:
            self.share.take(amount)

    def correct(self, at_s: float, more: int) -> None:
        """Count more or less for what was counted at `at_s`, if that is not over yet."""
        second = int(at_s)
        if self.share is not None and self.share.live and more:
            self.share.correct(at_s, more)
        for bucket in reversed(self._buckets):
            if bucket[0] == second:
                bucket[1] += more
                self.total += more
                return

    def wait_s(self, now_s: float, amount: int, limit: int) -> float:
        """Return how long until `amount` more fits; 0.0: it does now."""
        share = self.share
        if share is not None and share.live:
            return 0.0 if share.left >= amount else max(share.wait_s, SHARED_WAIT_S)
        return 0.0 if self.total + amount <= limit else self.empty_s(now_s, amount, limit)

    def empty_s(self, now_s: float, amount: int, limit: int) -> float:
        """Return the same, going by what was used here alone."""
        left = limit - amount  # of what is used, this much may stay
        if self.total <= left:
            return 0.0
        # From the newest: asked for most often is when all will be over, which that one tells.
        for second, used in reversed(self._buckets):
            left -= used
            if left < 0:
                return second + 1 + WINDOW_S - now_s
        return WINDOW_S + 1.0

    @property
    def used(self) -> int:
        """What all gateways used, as far as is known."""
        share = self.share
        return self.total if share is None else self.total + share.others

    def buckets(self) -> list[tuple[int, int]]:
        """Return what was used, by seconds."""
        return [(second, amount) for second, amount in self._buckets]
