"""Budgets of a day or a month: a sum of tokens, of one gateway or of several together.

Theory. A gateway that is alone adds up. Several add up in one place, where each writes down what it
used itself in the period; nobody uses what was not granted there, as with limits per minute
(`core.shares`). What was used before any of them began is the *base*, which a store told. It is
written down once, the smallest that anybody tells: a gateway that begins later reads in the store
what the others used, and they tell that themselves. Gateways that are gone count on, and who has to
write everything down anew, because the place lost it, adds what they used to the base.

The last request of a budget may exceed it, because answers cannot be foreseen; of several gateways
the last one at each, because by how much is told up to a tenth of a second later.
"""

import msgspec

from arriero.core.shares import IN_ADVANCE, Grant, Sharing

_DAY_KEPT_S = 2 * 86_400  # in the common place; gateways may disagree about midnight
_MONTH_KEPT_S = 33 * 86_400
_DAY_CHARS = len("YYYY-MM-DD")


class BudgetClaim(msgspec.Struct, frozen=True, array_like=True, tag="budget"):
    """What a gateway has used or holds of a budget, what it wants, and the base it knows."""

    limit: int
    want: int
    own: int
    base: int
    kept_s: int


class Budget:
    """What was used in one period; `left` was granted by the other gateways and is not used."""

    __slots__ = (
        "_advance", "_asked", "_spent", "_told", "_want",
        "base", "left", "limit", "others", "period", "place", "sharing", "used",
    )  # fmt: skip

    def __init__(self) -> None:
        self.sharing: Sharing | None = None  # where there are several gateways
        self.place = ""  # of whom, the same at all gateways
        self.limit = 0
        self.period = ""  # YYYY-MM-DD or YYYY-MM
        self.base = 0
        self.others = 0  # what is known of all but this process, the base included
        self.used = 0
        self.left = 0
        self._advance = self._spent = self._want = 0
        self._told = 0  # of `used`
        self._asked = ""  # the period of the last claim

    @property
    def known(self) -> int:
        """What all used, as far as is known."""
        return self.others + self.used

    @property
    def name(self) -> str:
        """What the common place calls it."""
        return f"tokens\0{self.place}\0{self.period}"

    def turn(self, period: str) -> None:
        """Let time pass."""
        if period != self.period:
            self.period = period
            self.base = self.others = self.used = 0
            self.void()

    def restore(self, period: str, tokens: int) -> None:
        """Add what was used before this process."""
        self.turn(period)
        self.base += tokens
        self.others += tokens

    def has_room(self, limit: int) -> bool:
        """Say whether one more request may be let in."""
        sharing = self.sharing
        if sharing is not None and sharing.live:
            return self.left > 0
        return self.others + self.used < limit

    def add(self, tokens: int) -> None:
        """Use up."""
        self.used += tokens
        if self.sharing is not None and self.sharing.live:
            self.left -= tokens
            self._spent += tokens
            self.sharing.active[self] = None

    def correct(self, period: str, more: int) -> None:
        """Use more or less of what was used in that period, unless it is over."""
        if period == self.period:
            self.used += more
            if self.sharing is not None and self.sharing.live:
                self.sharing.active[self] = None

    def lacks(self, tokens: int) -> bool:
        """Note what a request lacks; False: it lacks nothing."""
        if self.sharing is None or not self.sharing.live or self.left >= tokens:
            return False
        self._want += tokens
        self.sharing.active[self] = None
        return True

    def claim(self, *, tick: bool) -> BudgetClaim:
        """Return what to ask for; at a tick, what was not used goes back."""
        if tick:
            self._advance = min(self._spent, int(self.limit * IN_ADVANCE))
            if not self._spent:
                self.left = 0
            self._spent = 0
        self.left = max(self.left, 0)
        want = self._want + max(self._advance - self.left, 0)
        self._want = 0
        self._told, self._asked = self.used, self.period
        kept_s = _DAY_KEPT_S if len(self.period) == _DAY_CHARS else _MONTH_KEPT_S
        return BudgetClaim(self.limit, want, self.used + self.left, self.base, kept_s)

    def take_over(self, grant: Grant, second: int) -> None:  # noqa: ARG002 - as all who claim
        """Take what was granted, unless the period is over meanwhile."""
        if self._asked == self.period:
            self.left += grant.granted
            self.others = grant.others
            self.base = int(grant.more)

    def void(self) -> None:
        """Nothing that was granted counts any more."""
        self.left = self._advance = self._spent = self._want = 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to ask for or to tell."""
        return not (self.left or self._spent or self._want) and self._told == self.used
