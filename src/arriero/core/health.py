r"""When a backend, or one model on it, is left out, and how it comes back: a breaker for each.

Theory. What has a breaker is AVAILABLE until it fails too often; then it is EJECTED for a time
that doubles with each ejection. When that time is over it is PROBING: exactly one request is let
through. Its success makes it AVAILABLE again, its failure ejects it for longer. A probe that ends
without telling anything (the client left) gives the place to the next request.

    state \\ event   SUCCESS     FAILURE            PROBE (given)   ABANDONED
    AVAILABLE       AVAILABLE   AVAILABLE|EJECTED  --              AVAILABLE
    EJECTED         EJECTED     EJECTED            PROBING         EJECTED
    PROBING         AVAILABLE   EJECTED            --              EJECTED (due at once)

`--` cannot happen: a probe is given only by `may_try`, and only to an EJECTED backend whose time
is over. Late results of requests that began before an ejection do not lift it (EJECTED stays
EJECTED on SUCCESS): a wedged host may still finish what it had begun.

What counts as a failure is decided in `attempts`; a client's own bad request never gets here.
Which of the two breakers a failure reaches is decided in `blame`.
"""

from collections.abc import Callable
from enum import IntEnum


class State(IntEnum):
    """Where a backend stands; the figure is what the metric `arriero_backend_state` shows."""

    AVAILABLE = 0
    PROBING = 1
    EJECTED = 2


class Cause(IntEnum):
    """What kind of failure it was; it decides how much patience there is."""

    STATUS = 0  # an HTTP 5xx, an error in mid-stream: eject after `failures_max` in a row
    LOST = 1  # the connection broke: eject at once, probe as soon as it can be reached again
    REFUSED = 2  # no connection: the same
    SILENT = 3  # timed out: eject at once, because tries cost users time, and serve it out
    LOAD = 4  # the model could not be loaded: eject at once, because it would fail again


# Looked up on every request: as members they would cost an attribute of the enumeration each time.
AVAILABLE, _PROBING, _EJECTED = State.AVAILABLE, State.PROBING, State.EJECTED
_SILENT = Cause.SILENT


class Breaker:
    """One backend's availability. All methods are total; times are monotonic seconds."""

    __slots__ = (
        "_ejection_max_s", "_ejection_s", "_failures_max", "_on_change", "cause", "ejections",
        "failures", "probe_first_s", "state", "until_s",
    )  # fmt: skip

    def __init__(
        self,
        *,
        failures_max: int,
        ejection_s: float,
        ejection_max_s: float,
        on_change: Callable[["Breaker"], None] | None = None,
    ) -> None:
        """Begin AVAILABLE; `on_change` is told of each change of `state`."""
        self.set_limits(
            failures_max=failures_max, ejection_s=ejection_s, ejection_max_s=ejection_max_s
        )
        self._on_change = on_change
        self.probe_first_s = 0.0  # what was silent is left to the prober for so long, once due
        self.state = AVAILABLE
        self.failures = 0  # in a row
        self.ejections = 0  # in a row; sets the next ejection's length
        self.until_s = 0.0
        self.cause = Cause.STATUS  # of the last ejection

    def set_limits(self, *, failures_max: int, ejection_s: float, ejection_max_s: float) -> None:
        """Change the limits, as a reload does; an ejection under way keeps its end."""
        self._failures_max = failures_max
        self._ejection_s = ejection_s
        self._ejection_max_s = ejection_max_s

    def may_try(self, now_s: float) -> bool:
        """Say whether a user's request may be sent now; changes nothing."""
        if self.state is AVAILABLE:
            return True
        return self.state is _EJECTED and now_s >= self.due_s

    def may_probe(self, now_s: float) -> bool:
        """Say whether one of our own requests may find out if the ejection can end."""
        return self.state is _EJECTED and now_s >= self.until_s

    @property
    def due_s(self) -> float:
        """When a user's request may be the half-open probe.

        For one that was silent this is later than our own prober may ask: a user would wait for
        the whole timeout, should it still be wedged.
        """
        return self.until_s + (self.probe_first_s if self.cause is _SILENT else 0.0)

    def on_try(self, now_s: float, *, own: bool = False) -> bool:
        """Note that a request is being sent; return True when it is the half-open probe.

        `own` is one of ours, not a user's.
        """
        if self.state is _EJECTED and now_s >= (self.until_s if own else self.due_s):
            self._become(_PROBING)
            return True
        return False

    def on_success(self, *, probe: bool) -> None:
        """A request was answered. Only a probe's success ends an ejection."""
        if self.state is AVAILABLE:
            if self.failures or self.ejections:
                self.failures = 0
                self.ejections = 0
        elif probe and self.state is _PROBING:
            self._become(AVAILABLE)
            self.failures = 0
            # `ejections` is kept until a success in AVAILABLE: a host that flaps waits longer.

    def on_failure(self, now_s: float, *, probe: bool, cause: Cause) -> bool:
        """A request failed by the backend's fault; return True when this ejects it."""
        self.failures += 1
        if self.state is AVAILABLE:
            if cause is Cause.STATUS and self.failures < self._failures_max:
                return False
        elif not (probe and self.state is _PROBING):
            return False
        self.cause = cause
        self._eject(now_s)
        return True

    def on_abandoned(self, now_s: float, *, probe: bool) -> None:
        """A request ended without a verdict; a probe's place becomes free at once."""
        if probe and self.state is _PROBING:
            self.until_s = now_s
            self._become(_EJECTED)

    def on_reachable(self, now_s: float) -> None:
        """The inventory reached an ejected backend whose process had gone away: probe it now.

        Not a success, and no help for a silent one: a wedged Ollama answers `/api/*` for hours
        (ollama #18370), so only a generation can clear it, when its time is over.
        """
        if self.state is _EJECTED and self.cause in (Cause.LOST, Cause.REFUSED):
            self.until_s = min(self.until_s, now_s)

    def on_gone(self) -> None:
        """The process itself is gone: whatever was wrong with it went with it."""
        if self.state is _EJECTED:
            self.cause = Cause.REFUSED

    def _eject(self, now_s: float) -> None:
        length_s = min(self._ejection_s * 2.0**self.ejections, self._ejection_max_s)
        self.ejections = min(self.ejections + 1, 32)
        self.until_s = now_s + length_s  # before who is told, because they look at it
        self._become(_EJECTED)

    def _become(self, state: State) -> None:
        self.state = state
        if self._on_change is not None:
            self._on_change(self)
