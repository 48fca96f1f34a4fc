"""How much may be used: per minute, at once, per day and month; of a key, a model, or both.

Theory. Whatever has limits is a *subject*, and has a `Meter` (`core.meter`). A request belongs to
up to three subjects (its key, its model, the pair), and is let in by all or by none.

- *Per minute* is a sliding window (`core.window`).
- *Tokens* are known afterwards. An estimate is reserved on admission and corrected when the request
  is settled, in the bucket of its admission. An answer longer than estimated may so overdraw the
  window, which then lets nobody in until it is paid for.
- *Days and months* are calendar ones, in UTC: a budget is a sum for a period that people can name.
- *At once* is never refused: who is over it waits (`server.holds`).
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from arriero.base.errors import BudgetExceeded, RateLimited
from arriero.config.settings import Limits
from arriero.core.keys import Key
from arriero.core.meter import Meter, Reservation, Subject, lines
from arriero.core.permits import Permits
from arriero.core.shares import Claimant, Share, Sharing
from arriero.core.window import Window

DAY_S = 86_400
THIS_KEY: Final = "this key"
_MONTH_CHARS = len("YYYY-MM")


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

    def own_meter(self, key: Key) -> Meter | None:
        """Return the meter whose tab will do for a key's requests to models without limits.

        None: the key has no limits, or some for single models, or was not met yet.
        """
        if key.limits is None or key.per_model:
            return None
        meter = self._meters.get((key.id, ""))
        if meter is not None and meter.tab.limits is not key.limits:
            meter.tab.book()  # they changed
        return meter

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
                self.forget(place)

    def forget(self, place: tuple[str, str]) -> None:
        """Have no meter for a key and alias any more."""
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
    if len(subjects) == 1:
        subjects[0].meter.tab.open(subjects, int(now_s))
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
    """Return OpenAI's `x-ratelimit-*` lines: of each kind, of who is closest to its limit."""
    subjects = reservation.subjects
    if len(subjects) == 1:
        tab = subjects[0].meter.tab
        if tab.moment is not None and tab.tokens_left >= 0:
            return tab.headers()  # looking at the windows would close it
    left, limit = _closest((one.limits.requests_per_minute, one.meter.requests) for one in subjects)
    tokens_left, tokens_limit = _closest(
        (one.limits.tokens_per_minute, one.meter.tokens) for one in subjects
    )
    told = [rest for rest, most in ((left, limit), (tokens_left, tokens_limit)) if most]
    return lines(limit, tokens_limit) % tuple(told)


def _closest(limited: Iterable[tuple[int | None, Window]]) -> tuple[int, int]:
    """Return what is left of the limit that has least left, and that limit; 0: there is none."""
    found = [(max(most - window.used, 0), most) for most, window in limited if most is not None]
    return min(found, default=(0, 0))


def day_of(unix_s: float) -> str:
    """Return the day of a moment as YYYY-MM-DD, in UTC."""
    return _day(int(unix_s // DAY_S))


@lru_cache(maxsize=64)  # asked for with every request that has limits
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_S, UTC).strftime("%Y-%m-%d")
