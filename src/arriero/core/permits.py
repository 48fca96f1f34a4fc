"""Limits on how many run at once, of several gateways: a request needs a *permit*.

Theory. In one place stands how many permits each gateway holds, never more together than the limit,
and since when its requests wait. Free ones are granted to those who have waited longest, at
whichever gateway. A gateway keeps the permits of requests that ended, and gives them to the next
ones without asking anybody, until it hears that others wait (it is *pressed*): from then on every
permit goes back as its request ends, and the one place decides whose turn it is.

The permits of a gateway that is gone are free as soon as the others notice. When the place is away
each goes by its own count (`Sharing.live` is false), and tells what it has running when it is back;
nobody is granted more then until there are fewer than the limit.
"""

from collections.abc import Callable
from itertools import islice
from typing import Protocol

import msgspec

from arriero.core.shares import Grant, Sharing

WAITERS_MAX = 64  # of one gateway that are told; the others come after them
SPARE_TICKS = 50  # how long a permit that nobody uses is kept
RENEW_TICKS = 200  # the place forgets after a minute


class PermitClaim(msgspec.Struct, frozen=True, array_like=True, tag="permits"):
    """What a gateway holds, and since when those wait for whom it needs more (there, seconds)."""

    limit: int
    held: int
    since_s: list[float]


class Busy(Protocol):
    """What has requests under way."""

    running: int


class Permits:
    """How many requests of one subject may be under way at this gateway."""

    __slots__ = (
        "_busy", "_changed", "_sharing", "_ticks", "_unused_ticks",
        "go_on", "held", "limit", "line", "name", "pressed",
    )  # fmt: skip

    def __init__(self, sharing: Sharing, name: str, limit: int, busy: Busy) -> None:
        self._sharing = sharing
        self._busy = busy
        self.name = name  # the same at all gateways
        self.limit = limit
        self.held = 0
        self.pressed = False  # others wait
        self.line: dict[object, float] = {}  # who waits here, and since when by this clock
        self.go_on: Callable[[], None] = lambda: None  # looks at the line
        self._changed = False
        self._ticks = self._unused_ticks = 0

    def most(self, limit: int) -> int:
        """Return how many may be under way here."""
        return min(self.held, limit) if self._sharing.live else limit

    def wait(self, who: object, since_s: float, go_on: Callable[[], None]) -> None:
        """Somebody waits for there being fewer under way; `go_on` is called when that may be."""
        self.line[who] = since_s
        self.go_on = go_on
        self._sharing.hasten(self)

    def leave(self, who: object) -> None:
        """Somebody does not wait any more."""
        self.line.pop(who, None)
        self._changed = True
        self._sharing.active[self] = None

    def used(self) -> None:
        """A request was let in."""
        self._unused_ticks = 0
        self._sharing.active[self] = None

    def released(self) -> None:
        """A request ended; while others wait, its permit is not for this gateway to give away."""
        if self.pressed:
            self._give_back()

    def press(self) -> None:
        """Somebody waits somewhere; who waits here hears it with every answer."""
        if not self.line and self.held:
            self.pressed = True
            self._give_back()

    def _give_back(self) -> None:
        if self.held > self._busy.running:
            self.held = self._busy.running
            self._changed = True
            self._sharing.hasten(self)

    def claim(self, *, tick: bool) -> PermitClaim | None:
        """Return what to ask for and to tell, None if there is nothing."""
        running = self._busy.running
        if running > self.held:  # let in while nobody could be asked
            self.held, self._changed = running, True
        if tick:
            self._ticks += 1
            self._unused_ticks = self._unused_ticks + 1 if self.held > running else 0
            if self._unused_ticks >= SPARE_TICKS:
                self.held, self._changed = running, True
        renew = self.held > 0 and self._ticks >= RENEW_TICKS
        if not (self.line or self.pressed or self._changed or renew):
            return None
        self._ticks, self._changed = 0, False
        offset_s = self._sharing.offset_s
        since = [since_s + offset_s for since_s in islice(self.line.values(), WAITERS_MAX)]
        return PermitClaim(self.limit, self.held, since)

    def take_over(self, grant: Grant, second: int) -> None:  # noqa: ARG002 - as all who claim
        """Take what was granted, and whether others wait."""
        self.held += grant.granted
        self.pressed = bool(grant.others)
        if grant.granted:
            self.go_on()

    def void(self) -> None:
        """Nothing that was granted counts any more."""
        self.held, self.pressed, self._changed = 0, False, False
        if self.line:
            self.go_on()

    def end(self) -> None:
        """There is no limit any more."""
        self.held, self._changed = 0, True
        self._sharing.active[self] = None

    @property
    def idle(self) -> bool:
        """Whether there is nothing to ask for or to tell."""
        return not (self.held or self.line or self._changed)
