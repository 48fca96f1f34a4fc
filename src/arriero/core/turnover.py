"""How fast a queue goes, so that who is refused can be told when to come back."""

_WEIGHT = 1 / 8  # of the newest interval; a queue of chats has seconds to minutes between two
RETRY_AFTER_MAX_S = 60  # OpenAI's and Anthropic's SDKs disregard anything longer


class Turnover:
    """The usual time between two services of a queue that is not empty. Times are monotonic."""

    __slots__ = ("_interval_s", "_last_s")

    def __init__(self) -> None:
        self._interval_s = -1.0  # not known yet
        self._last_s = 0.0

    def begin(self, now_s: float) -> None:
        """Somebody waits, where nobody did: the time before says nothing about the pace."""
        self._last_s = now_s

    def served(self, now_s: float) -> None:
        """One of those who wait was served."""
        interval_s = max(now_s - self._last_s, 0.0)
        self._last_s = now_s
        if self._interval_s < 0:
            self._interval_s = interval_s
        else:
            self._interval_s += (interval_s - self._interval_s) * _WEIGHT

    def wait_s(self, waiting: int, now_s: float) -> int:
        """Return how long `waiting` requests will take, in whole seconds from 1 to 60.

        When the last service is longer ago than usual, that is what is believed: a queue that has
        stopped must not promise the pace of better times.
        """
        interval_s = max(self._interval_s, now_s - self._last_s if waiting else 0.0)
        return min(max(int(waiting * interval_s) + 1, 1), RETRY_AFTER_MAX_S)
