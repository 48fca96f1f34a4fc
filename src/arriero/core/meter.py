"""What a subject used, and what requests were let in for.

Theory. Whatever has limits is a *subject* and has a `Meter`: its windows, its budgets and how many
of its requests are under way. A request that was let in has a *reservation*, which is settled once.

Nearly every request with limits has those of its key alone, and is neither the first of its second
nor near any of them. For such a request the windows and sums need not be touched: when the first
request of a second has been counted in full, a `Tab` is opened with what may be taken in the rest
of it, and taking is a subtraction. Whoever looks at the meter's windows or sums has the tab booked
and closed before. Between two requests the processor forgets code and data, so what counts is how
little of both a request needs.
"""

from functools import lru_cache
from typing import ClassVar, Final

import msgspec

from arriero.config.settings import Limits
from arriero.core.budgets import Budget
from arriero.core.permits import Permits
from arriero.core.shares import Claimant
from arriero.core.window import WINDOW_S, Window

PLENTY: Final = 1 << 62
_MONTH_CHARS = len("YYYY-MM")


class Meter:
    """What one subject used, and how many of its requests are under way."""

    __slots__ = (
        "_of_day", "_of_month", "_requests", "_second", "_tokens",
        "day", "limits", "permits", "running", "tab",
    )  # fmt: skip
    plain: ClassVar[bool] = True  # it counts in windows and budgets of its own

    def __init__(self) -> None:
        self._requests = Window()
        self._tokens = Window()
        self._of_day = Budget()
        self._of_month = Budget()
        self._second = -1  # until which time has passed
        self.tab = Tab(self)
        self.running = 0
        self.limits: Limits | None = None  # that are shared with other gateways
        self.permits: Permits | None = None  # the same
        self.day = ""  # YYYY-MM-DD

    @property
    def requests(self) -> Window:
        """The requests of the last minute."""
        self.tab.book()
        return self._requests

    @property
    def tokens(self) -> Window:
        """The tokens of the last minute."""
        self.tab.book()
        return self._tokens

    @property
    def of_day(self) -> Budget:
        """The tokens of the day."""
        self.tab.book()
        return self._of_day

    @property
    def of_month(self) -> Budget:
        """The tokens of the month."""
        self.tab.book()
        return self._of_month

    def settle(self, at_s: float, day: str, more: int) -> None:
        """Count more or less for what was reserved then."""
        moment = self.tab.moment
        if moment is not None and moment.second == int(at_s) and moment.day == day:
            self.tab.tokens_left -= more
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
        self.tab.book()
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._requests.expire(now_s)
            self._tokens.expire(now_s)
        if day != self.day:
            self.day = day
            self._of_day.turn(day)
            self._of_month.turn(day[:_MONTH_CHARS])

    def add_tokens(self, now_s: float, tokens: int) -> None:
        """Reserve tokens."""
        self.tokens.add(now_s, tokens)
        self.of_day.add(tokens)
        self.of_month.add(tokens)

    def correct_tokens(self, at_s: float, day: str, more: int) -> None:
        """Count more or less for what was reserved then, as far as its periods are not over."""
        moment = self.tab.moment
        self.tokens.correct(at_s, more)
        self.of_day.correct(day, more)
        self.of_month.correct(day[:_MONTH_CHARS], more)
        if moment is not None:
            self.tab.open(self.tab.subjects, moment.second)

    def has_room(self, most: int) -> bool:
        """Say whether one more may be under way, of `most` at all gateways."""
        if self.permits is not None:
            most = self.permits.most(most)
        return self.running < most

    @property
    def claimants(self) -> list[Claimant]:
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


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A second, in which a tab is open, and its day (YYYY-MM-DD)."""

    second: int
    day: str


class Tab:
    """What may still be taken of a meter in one second; what was taken is not yet written down.

    `moment` is None when nothing may be taken; it is the same object for as long as what was taken
    goes into the same bucket and the same day.
    """

    __slots__ = (
        "_headroom", "_last", "_most", "_requests", "_template", "_tokens", "_until_s",
        "limits", "meter", "moment", "requests_left", "subjects", "tokens_left",
    )  # fmt: skip

    def __init__(self, meter: Meter) -> None:
        self._requests = self._tokens = self._headroom = self._most = 0
        self._template: bytes | None = None  # of headers, where both limits are told
        self.meter = meter
        self.moment: Moment | None = None
        self._last = Moment(-1, "")  # in which it was open
        self._until_s = 0.0
        self.limits: Limits | None = None
        self.subjects: tuple[Subject, ...] = ()
        self.requests_left = self.tokens_left = 0

    def open(self, subjects: tuple[Subject, ...], second: int) -> None:
        """Let requests take what the only subject has left in this second, of which one counted."""
        meter, limits = self.meter, subjects[0].limits
        if not meter.plain or meter.limits is not None:
            return  # others count, too
        requests, tokens = meter.requests.total, meter.tokens.total
        of_minute = _rest(limits.tokens_per_minute, tokens)
        left = min(
            of_minute,
            _rest(limits.tokens_per_day, meter.of_day.known),
            _rest(limits.tokens_per_month, meter.of_month.known),
        )
        self.requests_left = self._requests = _rest(limits.requests_per_minute, requests)
        self.tokens_left = self._tokens = left
        self._headroom = of_minute - left
        self._most = PLENTY if limits.concurrent is None else limits.concurrent
        both = limits.requests_per_minute is not None and limits.tokens_per_minute is not None
        self._template = template(limits) if both else None
        if self._last.second != second or self._last.day != meter.day:
            self._last = Moment(second, meter.day)
        self.limits, self.subjects, self.moment = limits, subjects, self._last
        self._until_s = second + 1.0

    def take(self, tokens: int, now_s: float) -> "Taken | None":
        """Let a request in, which is under way then; None: it takes the general way."""
        meter = self.meter
        if (
            now_s >= self._until_s
            or (left := self.tokens_left - tokens) < 0
            or (requests_left := self.requests_left - 1) < 0
            or meter.running >= self._most
        ):
            return None
        self.requests_left = requests_left
        self.tokens_left = left
        meter.running += 1
        both = self._template
        told = self.headers() if both is None else both % (requests_left, left + self._headroom)
        return Taken(self, self._last, tokens, told)

    def headers(self) -> bytes:
        """Return OpenAI's `x-ratelimit-*` lines, of what was taken last."""
        left, of_minute = self.requests_left, self.tokens_left + self._headroom
        if self._template is not None:
            return self._template % (left, of_minute)
        limits = self.limits
        assert limits is not None, "something was taken"
        if limits.requests_per_minute is not None:
            return template(limits) % left
        return template(limits) % of_minute if limits.tokens_per_minute is not None else b""

    def book(self) -> None:
        """Write down what was taken, and let nothing be taken any more."""
        moment = self.moment
        if moment is None:
            return
        self.moment, self._until_s = None, 0.0
        self.meter.requests.add(moment.second, self._requests - self.requests_left)
        self.meter.add_tokens(moment.second, self._tokens - self.tokens_left)


class Taken(msgspec.Struct, eq=False, gc=False):
    """What one request was let in for by a tab; settled once, as a `Reservation`."""

    tab: Tab
    moment: Moment
    tokens: int
    headers: bytes  # OpenAI's `x-ratelimit-*` lines
    settled: bool = False

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """Whose limits it counts against."""
        return self.tab.subjects

    def settle(self, tokens: int) -> None:
        """Replace the estimate by what was used, and count no longer among those under way."""
        assert not self.settled, "a reservation is settled once"
        self.settled = True
        tab, more = self.tab, tokens - self.tokens
        meter = tab.meter
        meter.running -= 1
        moment = self.moment
        if tab.moment is moment:
            tab.tokens_left -= more
        else:
            meter.correct_tokens(moment.second, moment.day, more)


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


def template(limits: Limits) -> bytes:
    """Return the lines of `x-ratelimit-*` for these limits; what remains is to be filled in."""
    return lines(limits.requests_per_minute or 0, limits.tokens_per_minute or 0)


@lru_cache(maxsize=1024)
def lines(requests: int, tokens: int) -> bytes:
    """Return the same for two numbers, 0 for none.

    All is over a minute after the second of the newest request, which is the one that is answered.
    """
    return b"".join(
        b"x-ratelimit-limit-%b: %d\r\n"
        b"x-ratelimit-remaining-%b: %%d\r\n"
        b"x-ratelimit-reset-%b: %ds\r\n" % (kind, limit, kind, kind, WINDOW_S + 1)
        for kind, limit in ((b"requests", requests), (b"tokens", tokens))
        if limit
    )


def _rest(most: int | None, used: int) -> int:
    return PLENTY if most is None else most - used
