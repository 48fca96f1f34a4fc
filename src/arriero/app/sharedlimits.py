"""Limits of a gateway of several workers: the same as those of one, counted in common memory.

`core.limits` decides; only what it counts with is replaced here: windows, budgets and what is under
way are cells of a row (`app.meters`).
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import ClassVar, Final

from arriero.app.locked import Lock
from arriero.app.meters import (
    BUCKETS,
    CELLS,
    DAY,
    LAST,
    MONTH,
    NAME,
    NOTHING,
    REQUESTS,
    TOKENS,
    MetersFull,
    SharedMeters,
    name_of,
)
from arriero.base.errors import RateLimited
from arriero.config.settings import Limits
from arriero.core.budgets import Budget
from arriero.core.limits import Limiter, day_of
from arriero.core.meter import Meter, Reservation, Subject, Tab
from arriero.core.window import WINDOW_S, Window
from arriero.server.holds import Held, Holds

AMOUNT_MAX: Final = 2**40  # of tokens; more would not fit a cell some day
PRUNED_MAX: Final = 500  # looked at, at once
URGENCY: Final = 0  # who waits for others of its key is as urgent as any other


class SharedWindow(Window):
    """A window whose buckets are cells."""

    __slots__ = ("_meter", "_window")

    def __init__(self, meter: "SharedMeter", window: int) -> None:
        self.share = None
        self._meter = meter
        self._window = window  # the first of its cells in the row

    @property
    def total(self) -> int:  # type: ignore[override]  # a variable of the one that counts alone
        """What was used in the last minute."""
        return self._meter.memory.cells[self._meter.begin + self._window]

    def expire(self, now_s: float) -> None:
        """Forget what is more than a minute ago."""
        self._meter.memory.advance(self._meter.begin, int(now_s))

    def add(self, now_s: float, amount: int) -> None:
        """Count."""
        self.correct(now_s, amount)

    def correct(self, at_s: float, more: int) -> None:
        """Count more or less for what was counted at `at_s`, if that is not over yet."""
        cells, begin, second = self._meter.memory.cells, self._meter.begin, int(at_s)
        if more and cells[begin + LAST] - second < BUCKETS:
            window = begin + self._window
            cells[window + 1 + second % BUCKETS] += more
            cells[window] += more

    def empty_s(self, now_s: float, amount: int, limit: int) -> float:
        """Return how long until `amount` more fits."""
        total = self.total
        over = total + amount - limit
        if over <= 0:
            return 0.0
        if over > total:
            return WINDOW_S + 1.0
        left = total - over
        for second, used in self._newest_first():
            left -= used
            if left < 0:
                return second + 1 + WINDOW_S - now_s
        return WINDOW_S + 1.0

    def buckets(self) -> list[tuple[int, int]]:
        """Return what was used, by seconds."""
        return list(self._newest_first())[::-1]

    def _newest_first(self) -> Iterator[tuple[int, int]]:
        """Lazily: asked for most often is when all will be over, which the newest tells."""
        cells, begin = self._meter.memory.cells, self._meter.begin
        last, first = cells[begin + LAST], begin + self._window + 1
        for second in range(last, last - BUCKETS, -1):
            used = cells[first + second % BUCKETS]
            if used:
                yield second, used


class SharedBudget(Budget):
    """A sum whose period and amount are cells."""

    __slots__ = ("_at", "_meter", "_number")

    def __init__(self, meter: "SharedMeter", at: int) -> None:
        super().__init__()
        self._meter = meter
        self._at = at
        self._number = 0  # of the period that this worker knows

    @property
    def known(self) -> int:
        """What all workers used."""
        return self._meter.memory.cells[self._meter.begin + self._at + 1]

    def turn(self, period: str) -> None:
        """Let time pass; a worker whose day ends late changes nothing for one that is ahead."""
        if period != self.period:
            self.period, self._number = period, number_of(period)
        cells, at = self._meter.memory.cells, self._meter.begin + self._at
        if cells[at] < self._number:
            cells[at + 1] = 0
            cells[at] = self._number

    def has_room(self, limit: int) -> bool:
        """Say whether one more request may be let in."""
        return self.known < limit

    def add(self, tokens: int) -> None:
        """Use up."""
        self._meter.memory.cells[self._meter.begin + self._at + 1] += tokens

    def correct(self, period: str, more: int) -> None:
        """Use more or less of what was used in that period, unless it is over."""
        number = self._number if period == self.period else number_of(period)
        if self._meter.memory.cells[self._meter.begin + self._at] == number:
            self.add(more)


class SharedMeter(Meter):
    """A meter whose counts are cells of a row; used within the memory's lock."""

    __slots__ = ("_name", "_row", "begin", "memory")
    plain: ClassVar[bool] = False

    def __init__(self, memory: SharedMeters, place: tuple[str, str]) -> None:
        self.memory = memory
        self._name = name_of(place)
        self._row = NOTHING  # until it is used
        self.begin = NOTHING
        self.permits = None
        self.limits = None
        self._requests = SharedWindow(self, REQUESTS)
        self._tokens = SharedWindow(self, TOKENS)
        self._of_day = SharedBudget(self, DAY)
        self._of_month = SharedBudget(self, MONTH)
        self.day = ""
        self.tab = Tab(self)  # never open

    @property
    def is_ours(self) -> bool:
        """Whether the row is still the subject's."""
        return self.memory.cells[self.begin + NAME] == self._name

    @property
    def running(self) -> int:  # type: ignore[override]  # a variable of the one that counts alone
        """How many requests all workers have under way."""
        return self.memory.turns.running(self._row)

    def has_room(self, most: int) -> bool:
        """Say whether one more may be under way, and it is our turn."""
        return self.memory.turns.may_take(self._row, most)

    def enter(self) -> None:
        """Count one more that is under way."""
        self.memory.turns.take(self._row)

    def leave(self) -> None:
        """Count one less, and wake the worker whose turn it is."""
        turns, row = self.memory.turns, self._row
        turns.own[row] -= 1
        for column in turns.wanted:
            if column[row]:
                break
        else:
            return
        turn = turns.promise(row, row)
        if turn is not None:
            self.memory.ring(turn)

    def take_at_once(self, limits: Limits, tokens: int, second: int, day: str) -> bool:
        """Count a request in one piece, as nearly all are; False: it takes the general way.

        That is so when it is not the first of its second and there is room. Each call costs more
        than what it does, because the processor has forgotten the code since the last request.
        """
        cells, begin = self.memory.cells, self.begin
        if cells[begin] != self._name or cells[begin + LAST] != second or day != self.day:
            return False
        requests, used = cells[begin + REQUESTS] + 1, cells[begin + TOKENS] + tokens
        of_day, of_month = cells[begin + DAY + 1] + tokens, cells[begin + MONTH + 1] + tokens
        for most, amount in (
            (limits.requests_per_minute, requests),
            (limits.tokens_per_minute, used),
            (limits.tokens_per_day, of_day),
            (limits.tokens_per_month, of_month),
        ):
            if most is not None and amount > most:
                return False
        bucket = 1 + second % BUCKETS
        cells[begin + REQUESTS + bucket] += 1
        cells[begin + REQUESTS] = requests
        cells[begin + TOKENS + bucket] += tokens
        cells[begin + TOKENS] = used
        cells[begin + DAY + 1], cells[begin + MONTH + 1] = of_day, of_month
        return True

    def want(self, *, waiting: bool) -> None:
        """Tell the other workers whether requests wait here."""
        self.memory.turns.want(self._row, URGENCY if waiting else None)

    def turn(self, now_s: float, day: str) -> None:
        """Find the row, and let time pass in it. Raises MetersFull."""
        if not self.is_ours:
            month = number_of(day[: len("YYYY-MM")])
            self._row = self.memory.row(self._name, int(now_s), month)
            self.begin = self._row * CELLS
        self.memory.advance(self.begin, int(now_s))
        self.day = day
        self.of_day.turn(day)
        self.of_month.turn(day[: len("YYYY-MM")])

    def settle(self, at_s: float, day: str, more: int) -> None:
        """Count more or less for what was reserved then, in one piece if its day is not over."""
        cells, begin, second = self.memory.cells, self.begin, int(at_s)
        recent = cells[begin + LAST] - second < BUCKETS
        if recent and cells[begin] == self._name and cells[begin + DAY] == number_of(day):
            cells[begin + TOKENS + 1 + second % BUCKETS] += more
            cells[begin + TOKENS] += more
            cells[begin + DAY + 1] += more
            cells[begin + MONTH + 1] += more
        else:
            self.correct_tokens(at_s, day, more)

    def correct_tokens(self, at_s: float, day: str, more: int) -> None:
        """Count more or less for what was reserved then, as far as its periods are not over."""
        if more and self.is_ours:
            super().correct_tokens(at_s, day, more)

    def is_idle(self, now_s: float) -> bool:
        """Say whether this worker may forget where the row is; the memory does not forget it."""
        return not self.is_ours or self.memory.rests(self._row, int(now_s))


class SharedReservation(Reservation, kw_only=True):
    """What one request of one of several workers was let in for."""

    lock: Lock

    def settle(self, tokens: int) -> None:
        """Replace the estimate by what was used, and count no longer among those under way."""
        with self.lock:
            Reservation.settle(self, min(tokens, AMOUNT_MAX))


class SharedLimiter(Limiter):
    """The meters of all subjects, for one of several workers."""

    __slots__ = ("_memory", "_round")

    def __init__(self, memory: SharedMeters) -> None:
        super().__init__()
        self._memory = memory
        self._round: Iterator[tuple[tuple[str, str], Meter]] = iter(())

    def make_meter(self, place: tuple[str, str]) -> Meter:
        """Return the meter of who was not met before."""
        return SharedMeter(self._memory, place)

    def admit(
        self, subjects: tuple[Subject, ...], tokens: int, now_s: float, unix_s: float
    ) -> Reservation:
        """Let a request in, if that does not exceed what all workers may. Raises as in `admit`."""
        tokens, day = min(tokens, AMOUNT_MAX), day_of(unix_s)
        try:
            with self._memory.lock:
                if not _is_let_in_at_once(subjects, tokens, int(now_s), day):
                    super().admit(subjects, tokens, now_s, unix_s)
        except MetersFull:
            raise RateLimited(
                "too many keys and models have limits that are in use", retry_after_s=WINDOW_S
            ) from None
        return SharedReservation(subjects, now_s, day, tokens, lock=self._memory.lock)

    def restore(self, place: tuple[str, str], day: str, day_tokens: int, month_tokens: int) -> None:
        """Take over the sums of before the workers began; only one of them does that."""
        meter = self._meters.setdefault(place, self.make_meter(place))
        with self._memory.lock:
            meter.turn(0.0, day)
            meter.of_day.add(day_tokens)
            meter.of_month.add(month_tokens)

    def prune(self, now_s: float) -> None:
        """Forget, a few at a time, who was not met lately; the memory keeps what they used."""
        meters = list(islice(self._round, PRUNED_MAX))
        for place, meter in meters:
            if meter.is_idle(now_s):
                self.forget(place)
        if len(meters) < PRUNED_MAX:
            self._round = iter(list(self._meters.items()))


def _is_let_in_at_once(subjects: tuple[Subject, ...], tokens: int, second: int, day: str) -> bool:
    """Let a request in that has the limits of one subject, unless something has to be looked at."""
    if len(subjects) != 1:
        return False
    (one,) = subjects
    assert isinstance(one.meter, SharedMeter)
    return one.meter.take_at_once(one.limits, tokens, second, day)


class SharedHolds(Holds):
    """The lines of one of several workers: a free place goes to who has waited longest for one."""

    __slots__ = ("_lock",)

    def __init__(self, memory: SharedMeters) -> None:
        super().__init__()
        self._lock = memory.lock

    def enter(self, reservation: Reservation) -> bool:
        """Count the request among those under way, unless it has to wait."""
        for one in reservation.subjects:
            if one.limits.concurrent is not None:
                with self._lock:
                    return super().enter(reservation)
        reservation.enter()
        return True

    def join(self, held: Held) -> None:
        """Wait behind those who came before, and tell the other workers."""
        with self._lock:
            super().join(held)
            meter = self._places[held].meter
            _want(meter, waiting=True)
        self._vacate(meter)  # a place may have become free before the others knew of us

    def leave(self, held: Held) -> Subject:
        """Wait no longer."""
        with self._lock:
            subject = super().leave(held)
            if subject.meter not in self._lines:
                _want(subject.meter, waiting=False)
        return subject

    def sweep(self) -> None:
        """Look whether there is room: a place that was kept for another worker may be free."""
        if self._lines:
            self._vacate(*self._lines)

    def _admitted(self, meter: Meter) -> Held | None:
        with self._lock:
            return super()._admitted(meter)


@lru_cache(maxsize=64)
def number_of(period: str) -> int:
    """Return a day or a month as a number that grows with time."""
    return int(period.replace("-", ""))


def _want(meter: Meter, *, waiting: bool) -> None:
    assert isinstance(meter, SharedMeter)
    meter.want(waiting=waiting)
