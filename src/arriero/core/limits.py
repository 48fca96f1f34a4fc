"""How much may be used: per minute, at once, per day and month; of a key, a model, or both.

Theory. Whatever has limits is a *subject*, and has a `Meter`: what it used lately. A request
belongs to up to three subjects (its key, its model, the pair), and is let in by all or by none.

- *Per minute* is a sliding window (`core.window`).
- *Tokens* are known afterwards. An estimate is reserved on admission and corrected when the request
  is settled, in the bucket of its admission. An answer longer than estimated may so overdraw the
  window, which then lets nobody in until it is paid for.
- *Days and months* are calendar ones, in UTC: a budget is a sum for a period that people can name.
- *At once* is never refused: who is over it waits (`server.holds`).
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import ClassVar, Final

import msgspec

from arriero.base.errors import BudgetExceeded, RateLimited
from arriero.config.settings import Limits
from arriero.core.budgets import Budget
from arriero.core.keys import Key
from arriero.core.permits import Permits
from arriero.core.shares import Claimant, Share, Sharing
from arriero.core.window import WINDOW_S, Window

DAY_S = 86_400
PLENTY: Final = 1 << 62
THIS_KEY: Final = "this key"
_MONTH_CHARS = len("YYYY-MM")


class Meter:
    """What one subject used, and how many of its requests are under way."""

    __slots__ = (
        "_alone", "_most", "_open_limits", "_open_s", "_requests_left", "_second", "_tokens_left",
        "day", "limits", "of_day", "of_month", "permits", "requests", "running", "tokens",
    )  # fmt: skip
    plain: ClassVar[bool] = True  # it counts in windows and budgets of its own

    def __init__(self) -> None:
        self._alone: tuple[Subject, ...] = ()
        self._open_s = -1  # the second for which the following is true
        self._open_limits: Limits | None = None
        self._requests_left = self._tokens_left = self._most = 0
        self.requests = Window()
        self.tokens = Window()
        self.running = 0
        self.limits: Limits | None = None  # that are shared with other gateways
        self.permits: Permits | None = None  # the same
        self._second = -1  # until which time has passed
        self.day = ""  # YYYY-MM-DD
        self.of_day = Budget()
        self.of_month = Budget()

    def take(self, limits: Limits, tokens: int, second: int) -> bool:
        """Let a request in, in one step as nearly all are; False: it takes the general way.

        That is so when it is not the first of its second, and limits have the room that `open` saw.
        Of the general way's many small calls each costs more than what it does, because between
        two requests the processor has forgotten them.
        """
        if (
            second != self._open_s
            or self._tokens_left < tokens
            or self._requests_left < 1
            or self.running >= self._most
            or limits is not self._open_limits
        ):
            return False
        self._requests_left -= 1
        self._tokens_left -= tokens
        self.running += 1
        window = self.requests
        window.newest[1] += 1
        window.total += 1
        window = self.tokens
        window.newest[1] += tokens
        window.total += tokens
        self.of_day.used += tokens
        self.of_month.used += tokens
        return True

    def open(self, subject: "Subject", second: int) -> None:
        """Note how much may be taken in the rest of this second, in which a request was counted."""
        if not self.plain or self.limits is not None:
            return  # others count, too
        limits = subject.limits
        self._open_s, self._open_limits = second, limits
        self._alone = (subject,)
        self._most = PLENTY if limits.concurrent is None else limits.concurrent
        most = limits.requests_per_minute
        self._requests_left = PLENTY if most is None else most - self.requests.total
        left = PLENTY
        for most, used in (
            (limits.tokens_per_minute, self.tokens.total),
            (limits.tokens_per_day, self.of_day.known),
            (limits.tokens_per_month, self.of_month.known),
        ):
            if most is not None:
                left = min(left, most - used)
        self._tokens_left = left

    @property
    def alone(self) -> "tuple[Subject, ...]":
        """The subject that `open` was told of, as the only one of a request."""
        return self._alone

    def shut(self) -> None:
        """The next request takes the general way: what `open` saw is not true any more."""
        self._open_s = -1

    def settle(self, at_s: float, day: str, more: int) -> None:
        """Count more or less for what was reserved then, in one step if it was in this second."""
        if not self.plain:
            self.correct_tokens(at_s, day, more)
            return
        self._tokens_left -= more
        second, window = int(at_s), self.tokens
        if second == self._open_s == window.newest[0] and day == self.day and self.limits is None:
            window.newest[1] += more
            window.total += more
            self.of_day.used += more
            self.of_month.used += more
        else:
            self.correct_tokens(at_s, day, more)

    def enter(self) -> None:
        """Count one more that is under way."""
        self.running += 1

    def leave(self) -> None:
        """Count one less."""
        self.running -= 1

    def is_idle(self, now_s: float) -> bool:
        """Say whether nothing is left to remember."""
        self.requests.expire(now_s)
        self.tokens.expire(now_s)
        used = self.requests.total or self.tokens.total or self.of_month.known
        return not (self.running or used)

    def turn(self, now_s: float, day: str) -> None:
        """Let time pass."""
        second = int(now_s)
        if second != self._second:
            self._second = second
            self.shut()
            self.requests.expire(now_s)
            self.tokens.expire(now_s)
        if day != self.day:
            self.day = day
            self.of_day.turn(day)
            self.of_month.turn(day[:_MONTH_CHARS])

    def add_tokens(self, now_s: float, tokens: int) -> None:
        """Reserve tokens."""
        self.tokens.add(now_s, tokens)
        self.of_day.add(tokens)
        self.of_month.add(tokens)

    def correct_tokens(self, at_s: float, day: str, more: int) -> None:
        """Count more or less for what was reserved then, as far as its periods are not over."""
        self.tokens.correct(at_s, more)
        self.of_day.correct(day, more)
        self.of_month.correct(day[:_MONTH_CHARS], more)

    def has_room(self, most: int) -> bool:
        """Say whether one more may be under way, of `most` at all gateways."""
        if self.permits is not None:
            most = self.permits.most(most)
        return self.running < most

    @property
    def claimants(self) -> "list[Claimant]":
        """What is shared with other gateways."""
        found: list[Claimant] = [
            window.share for window in (self.requests, self.tokens) if window.share is not None
        ]
        if self.permits is not None:
            found.append(self.permits)
        return found + [one for one in (self.of_day, self.of_month) if one.sharing is not None]


class Subject(msgspec.Struct, frozen=True, eq=False):
    """Something that has limits, as a request meets it; `name` is for people."""

    name: str
    limits: Limits
    meter: Meter


class Reservation(msgspec.Struct, eq=False):
    """What one request was let in for. It is settled once, however the request ends."""

    subjects: tuple[Subject, ...]
    at_s: float
    day: str
    tokens: int
    inside: bool = False  # it counts among those under way
    settled: bool = False

    def crowded(self) -> Subject | None:
        """Return a subject that has no room for one more at once, if there is one."""
        for subject in self.subjects:
            most = subject.limits.concurrent
            if most is not None and not subject.meter.has_room(most):
                return subject
        return None

    def may_enter(self) -> bool:
        """Say whether all subjects have room for one more at once."""
        return self.crowded() is None

    def enter(self) -> None:
        """Count among those under way."""
        assert not self.inside, "a request enters once"
        self.inside = True
        for subject in self.subjects:
            subject.meter.enter()
            if subject.meter.permits is not None:
                subject.meter.permits.used()

    def settle(self, tokens: int) -> None:
        """Replace the estimate by what was used, and count no longer among those under way."""
        assert not self.settled, "a reservation is settled once"
        self.settled = True
        for subject in self.subjects:
            subject.meter.settle(self.at_s, self.day, tokens - self.tokens)
            if self.inside:
                subject.meter.leave()
                if subject.meter.permits is not None:
                    subject.meter.permits.released()


class Limiter:
    """The meters of all subjects that were met and have limits."""

    __slots__ = ("_meters", "sharing")

    def __init__(self) -> None:
        self._meters: dict[tuple[str, str], Meter] = {}
        self.sharing: Sharing | None = None  # where there are several gateways

    def subjects(self, key: Key, alias: str, of_model: Limits | None) -> tuple[Subject, ...]:
        """Return who must let a request in; nobody in most cases."""
        found = []
        if key.limits is not None:
            found.append(self._subject(THIS_KEY, key.limits, (key.id, "")))
        own = key.per_model.get(alias) if key.per_model else None
        if own is not None:
            found.append(self._subject(f"this key with `{alias}`", own, (key.id, alias)))
        if of_model is not None:
            found.append(self._subject(f"the model `{alias}`", of_model, ("", alias)))
        return tuple(found)

    def _subject(self, name: str, limits: Limits, place: tuple[str, str]) -> Subject:
        meter = self._meters.get(place)
        if meter is None:
            meter = self._meters[place] = self.make_meter(place)
        if self.sharing is not None and meter.limits is not limits:
            _share(self.sharing, meter, place, limits)
        return Subject(name, limits, meter)

    def make_meter(self, place: tuple[str, str]) -> Meter:
        """Return the meter of who was not met before, by key and alias ("": any)."""
        del place  # meters of one process are told apart by who holds them
        return Meter()

    def at_once(
        self, key: Key, of_model: Limits | None, tokens: int, now_s: float
    ) -> Reservation | None:
        """Let a request in that only its key limits, if that takes one step; it is under way then.

        Nobody may be waiting.
        """
        if of_model is not None or key.per_model or key.limits is None:
            return None
        meter = self._meters.get((key.id, ""))
        if meter is None or not meter.plain or not meter.take(key.limits, tokens, int(now_s)):
            return None
        return Reservation(meter.alone, now_s, meter.day, tokens, inside=True)

    def admit(
        self, subjects: tuple[Subject, ...], tokens: int, now_s: float, unix_s: float
    ) -> Reservation:
        """Let a request of about so many tokens in. Raises RateLimited, BudgetExceeded."""
        return admit(subjects, tokens, now_s, unix_s)

    def restore(self, place: tuple[str, str], day: str, day_tokens: int, month_tokens: int) -> None:
        """Take over the sums of before this process, by key and alias ("": any)."""
        meter = self._meters.setdefault(place, Meter())
        meter.day = day
        meter.of_day.restore(day, day_tokens)
        meter.of_month.restore(day[:_MONTH_CHARS], month_tokens)
        meter.shut()

    def prune(self, now_s: float) -> None:
        """Forget meters in which nothing is left to remember."""
        for place, meter in list(self._meters.items()):
            if meter.is_idle(now_s) and (
                self.sharing is None or _forget_shares(self.sharing, meter)
            ):
                del self._meters[place]

    def claims_afresh(self, now_s: float) -> list[tuple[Claimant, msgspec.Struct]]:
        """Return what tells everything that was used here in the last minute, and is running."""
        found: list[tuple[Claimant, msgspec.Struct]] = []
        for meter in self._meters.values():
            for window in (meter.requests, meter.tokens):
                if window.share is not None:
                    window.expire(now_s)
                    found.append((window.share, window.share.afresh(window.buckets())))
            for other in meter.claimants:
                claim = None if isinstance(other, Share) else other.claim(tick=False)
                if claim is not None:
                    found.append((other, claim))
        return found


def _forget_shares(sharing: Sharing, meter: Meter) -> bool:
    """Forget a meter's shares, unless a request may be waiting for one; it would count nowhere."""
    claimants = meter.claimants
    if any(one in sharing.active for one in claimants):
        return False
    for one in claimants:
        sharing.forget(one.name)
    return True


def _share(sharing: Sharing, meter: Meter, place: tuple[str, str], limits: Limits) -> None:
    """Hold a meter to limits that other gateways count on, too."""
    name = "\0".join(place)
    meter.limits = limits
    for window, limit, kind in (
        (meter.requests, limits.requests_per_minute, "requests"),
        (meter.tokens, limits.tokens_per_minute, "tokens"),
    ):
        if limit is None:
            window.share = None
        elif window.share is None or window.share.limit != limit:
            window.share = sharing.share(f"{kind}\0{name}", limit)
    for budget, limit in (
        (meter.of_day, limits.tokens_per_day),
        (meter.of_month, limits.tokens_per_month),
    ):
        budget.sharing = None if limit is None else sharing
        budget.limit, budget.place = limit or 0, name
    _permit(sharing, meter, f"concurrent\0{name}", limits.concurrent)


def _permit(sharing: Sharing, meter: Meter, name: str, limit: int | None) -> None:
    permits = meter.permits
    if limit is not None:
        if permits is None:
            permits = meter.permits = sharing.permits[name] = Permits(sharing, name, limit, meter)
        permits.limit = limit
    elif permits is not None:
        permits.end()
        sharing.forget(name)
        meter.permits = None


def lacking(subjects: tuple[Subject, ...], tokens: int, now_s: float, unix_s: float) -> bool:
    """Note what a request lacks of shares; False: it lacks nothing."""
    found, day = False, day_of(unix_s)
    for subject in subjects:
        subject.meter.turn(now_s, day)
        for budget in (subject.meter.of_day, subject.meter.of_month):
            found = budget.lacks(tokens) or found
        for window, used in ((subject.meter.requests, 1), (subject.meter.tokens, tokens)):
            share = window.share
            if share is None or not share.live:
                continue
            amount = min(used, share.limit)
            if share.left < amount:
                share.want(amount)
                found = True
    return found


def admit(subjects: tuple[Subject, ...], tokens: int, now_s: float, unix_s: float) -> Reservation:
    """Let a request of about so many tokens in. Raises RateLimited, BudgetExceeded.

    Nothing is counted of a request that is refused.
    """
    day = day_of(unix_s)
    for subject in subjects:
        subject.meter.turn(now_s, day)
        _check(subject, tokens, now_s)
    for subject in subjects:
        subject.meter.requests.add(now_s, 1)
        subject.meter.add_tokens(now_s, tokens)
        subject.meter.open(subject, int(now_s))
    return Reservation(subjects, now_s, day, tokens)


def _check(subject: Subject, tokens: int, now_s: float) -> None:
    limits, meter = subject.limits, subject.meter
    limit = limits.tokens_per_day
    if limit is not None and not meter.of_day.has_room(limit):
        raise _spent(subject, limit, "day")
    limit = limits.tokens_per_month
    if limit is not None and not meter.of_month.has_room(limit):
        raise _spent(subject, limit, "month")
    limit = limits.requests_per_minute
    if limit is not None:
        wait_s = meter.requests.wait_s(now_s, 1, limit)
        if wait_s > 0:
            raise _exceeded(subject, limit, "requests", wait_s)
    limit = limits.tokens_per_minute
    if limit is not None:
        # A request of more tokens than the limit is let in when nothing else was.
        wait_s = meter.tokens.wait_s(now_s, min(tokens, limit), limit)
        if wait_s > 0:
            raise _exceeded(subject, limit, "tokens", wait_s)


def _spent(subject: Subject, limit: int, period: str) -> BudgetExceeded:
    return BudgetExceeded(
        f"{subject.name} has used its {limit} tokens of this {period}",
        hint=f"the next {period} begins at midnight UTC",
    )


def _exceeded(subject: Subject, limit: int, what: str, wait_s: float) -> RateLimited:
    return RateLimited(
        f"{subject.name} is limited to {limit} {what} per minute",
        retry_after_s=max(int(wait_s) + 1, 1),
    )


def headers(reservation: Reservation) -> bytes:
    """Return OpenAI's `x-ratelimit-*` lines: of each kind, of who is closest to its limit.

    All is over a minute after the second of the newest request, which is this one.
    """
    left = tokens_left = PLENTY
    limit = tokens_limit = 0
    for subject in reservation.subjects:
        limits, meter = subject.limits, subject.meter
        most = limits.requests_per_minute
        if most is not None:
            window = meter.requests
            rest = most - (window.total if window.share is None else window.used)
            if rest < left:
                limit, left = most, rest
        most = limits.tokens_per_minute
        if most is not None:
            window = meter.tokens
            rest = most - (window.total if window.share is None else window.used)
            if rest < tokens_left:
                tokens_limit, tokens_left = most, rest
    left, tokens_left = max(left, 0), max(tokens_left, 0)
    if limit and tokens_limit:
        return _lines(limit, tokens_limit) % (left, tokens_left)
    if limit or tokens_limit:
        return _lines(limit, tokens_limit) % (left if limit else tokens_left)
    return b""


@lru_cache(maxsize=1024)
def _lines(requests: int, tokens: int) -> bytes:
    """Return the lines of these limits, 0 for none; what remains is still to be filled in."""
    return b"".join(
        b"x-ratelimit-limit-%b: %d\r\n"
        b"x-ratelimit-remaining-%b: %%d\r\n"
        b"x-ratelimit-reset-%b: %ds\r\n" % (kind, limit, kind, kind, WINDOW_S + 1)
        for kind, limit in ((b"requests", requests), (b"tokens", tokens))
        if limit
    )


def day_of(unix_s: float) -> str:
    """Return the day of a moment as YYYY-MM-DD, in UTC."""
    return _day(int(unix_s // DAY_S))


@lru_cache(maxsize=64)  # asked for with every request that has limits
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_S, UTC).strftime("%Y-%m-%d")
