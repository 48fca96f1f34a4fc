"""How much may be used: per minute, at once, per day and month; of a key, a model, or both.

Theory. Whatever has limits is a *subject*, and has a `Meter`: what it used lately. A request
belongs to up to three subjects (its key, its model, the pair), and is let in by all or by none.

- *Per minute* is a sliding window of a minute, counted in buckets of a second. A bucket counts
  until its last moment is a minute ago, so no span of a minute ever holds more than the limit,
  wherever it begins; the price is that what was used counts up to a second too long. A counter that
  starts anew each minute would let twice the limit through around its start.
- *Tokens* are known afterwards. An estimate is reserved on admission and corrected when the request
  is settled, in the bucket of its admission. An answer longer than estimated may so overdraw the
  window, which then lets nobody in until it is paid for.
- *Days and months* are calendar ones, in UTC: a budget is a sum for a period that people can name.
- *At once* is never refused: who is over it waits (`server.holds`).
"""

from collections import deque
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from arriero.base.errors import BudgetExceeded, RateLimited
from arriero.config.settings import Limits
from arriero.core.budgets import Budget
from arriero.core.keys import Key
from arriero.core.permits import Permits
from arriero.core.shares import Claimant, Share, Sharing

WINDOW_S = 60
SHARED_WAIT_S = 0.1  # what another gateway does not use of its share is back by then
DAY_S = 86_400
_MONTH_CHARS = len("YYYY-MM")


class Window:
    """What was used in the last minute; with a `share`, of a limit of several gateways."""

    __slots__ = ("_buckets", "share", "total")

    def __init__(self) -> None:
        self.share: Share | None = None
        self._buckets: deque[list[int]] = deque()  # [second, amount], the oldest first
        self.total = 0

    def expire(self, now_s: float) -> None:
        """Forget what is more than a minute ago."""
        oldest, buckets = int(now_s) - WINDOW_S, self._buckets
        while buckets and buckets[0][0] < oldest:
            self.total -= buckets.popleft()[1]

    def add(self, now_s: float, amount: int) -> None:
        """Count; `now_s` never goes back."""
        second, buckets = int(now_s), self._buckets
        if buckets and buckets[-1][0] == second:
            buckets[-1][1] += amount
        else:
            buckets.append([second, amount])
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


class Meter:
    """What one subject used, and how many of its requests are under way."""

    __slots__ = (
        "_second", "day", "limits", "of_day", "of_month", "permits", "requests", "running",
        "tokens",
    )  # fmt: skip

    def __init__(self) -> None:
        self.requests = Window()
        self.tokens = Window()
        self.running = 0
        self.limits: Limits | None = None  # that are shared with other gateways
        self.permits: Permits | None = None  # the same
        self._second = -1  # until which time has passed
        self.day = ""  # YYYY-MM-DD
        self.of_day = Budget()
        self.of_month = Budget()

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
            subject.meter.correct_tokens(self.at_s, self.day, tokens - self.tokens)
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
            found.append(self._subject("this key", key.limits, (key.id, "")))
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


_REQUESTS: Final = b"".join(
    b"x-ratelimit-%s-requests: %%d%s\r\n" % told
    for told in ((b"limit", b""), (b"remaining", b""), (b"reset", b"s"))
)
_TOKENS: Final = _REQUESTS.replace(b"requests", b"tokens")


def headers(reservation: Reservation, now_s: float) -> bytes:
    """Return OpenAI's `x-ratelimit-*` lines: of each kind, of who is closest to its limit."""
    requests: tuple[int, int, Window] | None = None
    tokens: tuple[int, int, Window] | None = None
    for subject in reservation.subjects:
        limits, meter = subject.limits, subject.meter
        limit = limits.requests_per_minute
        if limit is not None:
            left = limit - meter.requests.used
            if requests is None or left < requests[0]:
                requests = left, limit, meter.requests
        limit = limits.tokens_per_minute
        if limit is not None:
            left = limit - meter.tokens.used
            if tokens is None or left < tokens[0]:
                tokens = left, limit, meter.tokens
    return _told(_REQUESTS, requests, now_s) + _told(_TOKENS, tokens, now_s)


def _told(lines: bytes, closest: tuple[int, int, Window] | None, now_s: float) -> bytes:
    if closest is None:
        return b""
    left, limit, window = closest
    return lines % (limit, max(left, 0), round(window.empty_s(now_s, limit, limit)))


def day_of(unix_s: float) -> str:
    """Return the day of a moment as YYYY-MM-DD, in UTC."""
    return _day(int(unix_s // DAY_S))


@lru_cache(maxsize=64)  # asked for with every request that has limits
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_S, UTC).strftime("%Y-%m-%d")
