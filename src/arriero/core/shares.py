"""Limits that several gateways share: each holds a small part of what is left, and asks for more.

Theory. What all gateways used in the last minute is counted in one place, by seconds and gateways.
Nobody uses what was not granted there before, so all gateways together never exceed a limit,
however their requests fall. A gateway that uses much is granted a little in advance (a *share*), a
hundredth of the limit at most, so that most of its requests wait for nobody; what it did not use
within a tenth of a second goes back. What is out at a time is therefore the error, and it errs to
the side of refusing.

When that place is away, each gateway goes by its own window alone (`Sharing.live` is false), and
writes down there what it used meanwhile when it is back.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

IN_ADVANCE = 0.01  # of a limit, for each gateway


class Claim(msgspec.Struct, frozen=True, array_like=True, tag="minute"):
    """What one share asks for; `changes` are amounts to be added, by second.

    `need` is the largest amount that somebody waits for. `afresh` replaces all that was written
    down for this gateway by `changes`.
    """

    limit: int
    want: int
    need: int
    changes: list[tuple[int, int]]
    afresh: bool = False


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """What was granted, and what is known of the others.

    Of a limit per minute that is what they used, and `more` the seconds until it is worth coming
    back; of a budget what they used, and `more` its base; of permits how many wait at them.
    """

    granted: int
    others: int
    more: float


class Claimant(Protocol):
    """What asks in the common place for its part of one limit."""

    @property
    def name(self) -> str:
        """What it is called there."""
        ...

    @property
    def idle(self) -> bool:
        """Whether there is nothing to ask for or to tell."""
        ...

    def claim(self, *, tick: bool) -> msgspec.Struct | None:
        """Return what to ask for, None if there is nothing."""
        ...

    def take_over(self, grant: Grant, second: int) -> None:
        """Take the answer."""
        ...

    def void(self) -> None:
        """Nothing that was granted or is still to be told counts any more."""
        ...


class Pressable(Protocol):
    """What can be told that others wait for it."""

    def press(self) -> None:
        """Somebody waits."""
        ...


class Share:
    """What this gateway may use of one limit before it has to ask."""

    __slots__ = (
        "_advance", "_changes", "_granted_at", "_need", "_sharing", "_spent", "_want",
        "left", "limit", "name", "others", "wait_s",
    )  # fmt: skip

    def __init__(self, sharing: "Sharing", name: str, limit: int) -> None:
        self._sharing = sharing
        self.name = name  # the same at all gateways
        self.limit = limit
        self.left = 0
        self.others = 0
        self.wait_s = 0.0
        self._granted_at = 0  # second
        self._spent = 0  # since the last tick
        self._advance = 0
        self._want = self._need = 0
        self._changes: dict[int, int] = {}

    @property
    def live(self) -> bool:
        """Whether it counts; else only what this gateway used does."""
        return self._sharing.live

    def take(self, amount: int) -> None:
        """Use up; more than is left only by a request that is larger than the whole limit."""
        self.left -= amount
        self._spent += amount
        self._sharing.active[self] = None

    def correct(self, at_s: float, more: int) -> None:
        """Use more or less of what was taken at `at_s`."""
        second = int(at_s + self._sharing.offset_s)
        self._changes[second] = self._changes.get(second, 0) + more
        self._sharing.active[self] = None

    def want(self, amount: int) -> None:
        """Somebody waits for so much."""
        self._want += amount
        self._need = max(self._need, amount)
        self._sharing.active[self] = None

    def claim(self, *, tick: bool) -> Claim:
        """Return what to ask for; at a tick, what was not used goes back."""
        if tick:
            self._advance = min(self._spent, int(self.limit * IN_ADVANCE))
            if not self._spent:
                self._give_back()
            self._spent = 0
        if self.left < 0:
            self._give_back()
        more = max(self._advance - self.left, 0)
        claim = Claim(self.limit, self._want + more, self._need, list(self._changes.items()))
        self._changes = {}
        self._want = self._need = 0
        return claim

    def _give_back(self) -> None:
        if self.left:
            at = self._granted_at
            self._changes[at] = self._changes.get(at, 0) - self.left
            self.left = 0

    def take_over(self, grant: Grant, second: int) -> None:
        """Take what was granted."""
        self.left += grant.granted
        self._granted_at = second
        self.others = grant.others
        self.wait_s = grant.more

    def afresh(self, used: Iterable[tuple[int, int]]) -> Claim:
        """Return the claim that writes down anew what this gateway used, by its own seconds."""
        self.void()
        offset_s = self._sharing.offset_s
        changes = [(int(second + offset_s), amount) for second, amount in used]
        return Claim(self.limit, 0, 0, changes, afresh=True)

    def void(self) -> None:
        """Nothing that was granted or is still to be told counts any more."""
        self.left = self.others = self._spent = self._advance = 0
        self._want = self._need = 0
        self._changes = {}

    @property
    def idle(self) -> bool:
        """Whether there is nothing to ask for or to tell."""
        return not (self.left or self._spent or self._want or self._changes)


class Sharing:
    """All shares of this gateway."""

    __slots__ = ("active", "hurry", "live", "offset_s", "permits", "shares")

    def __init__(self) -> None:
        self.live = False
        self.offset_s = 0.0  # from this process's clock to that of the common place
        self.shares: dict[str, Share] = {}
        self.permits: dict[str, Pressable] = {}
        self.active: dict[Claimant, None] = {}  # with something to ask for or to tell
        self.hurry: Callable[[], None] = lambda: None  # has the active ones asked for now

    def hasten(self, claimant: Claimant) -> None:
        """Ask for this one as soon as possible."""
        self.active[claimant] = None
        if self.live:
            self.hurry()

    def share(self, name: str, limit: int) -> Share:
        """Return the share of a limit; a limit that was changed keeps it."""
        share = self.shares.get(name)
        if share is None:
            share = self.shares[name] = Share(self, name, limit)
        share.limit = limit
        return share

    def forget(self, name: str) -> None:
        """Nobody uses the limit any more; what is left of it goes back all the same."""
        self.shares.pop(name, None)
        self.permits.pop(name, None)

    def rest(self) -> None:
        """Look no more after what is idle."""
        for share in [share for share in self.active if share.idle]:
            del self.active[share]

    def lose(self) -> None:
        """The common place is away."""
        self.live = False
        lost: list[Claimant] = [*self.shares.values(), *self.active]
        self.active.clear()
        for claimant in lost:
            claimant.void()
