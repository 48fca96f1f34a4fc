"""Limits hold in every span of their length, and whatever was reserved is given back."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from arriero.base.errors import BudgetExceeded, RateLimited
from arriero.config.settings import Limits
from arriero.core.keys import Key
from arriero.core.limits import Limiter, admit, day_of, headers
from arriero.core.meter import Reservation, Subject, Taken
from arriero.core.window import WINDOW_S, Window

NOON = 1_800_000_000.0 + 4 * 3600  # 2027-01-15, 12:00 UTC
KEY = Key(id="key-1", digest=b"")


def subjects(limiter: Limiter, **limits: int) -> tuple[Subject, ...]:
    return limiter.subjects(msgspec.structs.replace(KEY, limits=Limits(**limits)), "m", None)


# -- the window


@given(
    st.lists(st.tuples(st.floats(0, 20), st.integers(1, 9)), max_size=60),
    st.integers(9, 30),
)
def test_no_minute_holds_more_than_the_limit(asked: list[tuple[float, int]], limit: int) -> None:
    window, now_s = Window(), 1000.0
    used: list[tuple[float, int]] = []
    for pause_s, amount in asked:
        now_s += pause_s
        window.expire(now_s)
        wait_s = window.wait_s(now_s, amount, limit)
        if wait_s == 0:
            window.add(now_s, amount)
            used.append((now_s, amount))
        else:
            assert 0 < wait_s <= WINDOW_S + 1
            later = Window()
            for at_s, n in used:
                later.add(at_s, n)
            later.expire(now_s + wait_s)
            assert later.wait_s(now_s + wait_s, amount, limit) == 0, (
                "the wait that is told suffices"
            )
    for begin_s, _ in used:
        assert sum(n for at_s, n in used if begin_s <= at_s < begin_s + WINDOW_S) <= limit


@given(st.lists(st.floats(0, 3), min_size=1, max_size=400), st.integers(1, 20))
def test_the_limit_is_used_up_but_for_a_second(pauses: list[float], limit: int) -> None:
    window, now_s = Window(), 1000.0
    used: list[float] = []
    for pause_s in pauses:
        now_s += pause_s
        window.expire(now_s)
        if window.wait_s(now_s, 1, limit) == 0:
            window.add(now_s, 1)
            used.append(now_s)
        else:  # there is a good reason
            assert sum(now_s - at_s < WINDOW_S + 1 for at_s in used) >= limit


def test_a_burst_before_and_after_the_full_minute_is_one_burst() -> None:
    window = Window()
    window.add(59.0, 10)
    window.expire(61.0)
    assert window.wait_s(61.0, 1, 10) == 59.0


# -- admission


def test_whoever_has_no_limits_has_no_subjects() -> None:
    assert Limiter().subjects(KEY, "m", None) == ()


def test_the_three_kinds_of_subject() -> None:
    key = msgspec.structs.replace(
        KEY, limits=Limits(concurrent=1), per_model={"m": Limits(concurrent=2)}
    )
    limiter = Limiter()
    found = limiter.subjects(key, "m", Limits(concurrent=3))
    assert [one.limits.concurrent for one in found] == [1, 2, 3]
    other = msgspec.structs.replace(KEY, id="key-2", limits=Limits(concurrent=1))
    again = limiter.subjects(other, "m", Limits(concurrent=3))
    assert again[1].meter is found[2].meter, "a model's limit is everybody's"
    assert again[0].meter is not found[0].meter
    assert len(limiter.subjects(key, "other", None)) == 1


def test_requests_per_minute() -> None:
    who = subjects(Limiter(), requests_per_minute=2)
    admit(who, 1, 0.0, NOON)
    admit(who, 1, 30.0, NOON)
    with pytest.raises(RateLimited, match="2 requests per minute") as caught:
        admit(who, 1, 31.0, NOON)
    assert caught.value.retry_after_s == 31
    admit(who, 1, 61.0, NOON)


def test_what_is_refused_by_one_is_counted_by_none() -> None:
    limiter = Limiter()
    key = msgspec.structs.replace(KEY, limits=Limits(requests_per_minute=10))
    who = limiter.subjects(key, "m", Limits(requests_per_minute=1))
    admit(who, 5, 0.0, NOON)
    with pytest.raises(RateLimited, match="the model `m`"):
        admit(who, 5, 1.0, NOON)
    assert [one.meter.requests.total for one in who] == [1, 1]
    assert [one.meter.tokens.total for one in who] == [5, 5]


def test_tokens_are_reserved_and_corrected() -> None:
    who = subjects(Limiter(), tokens_per_minute=100)
    first = admit(who, 90, 0.0, NOON)
    with pytest.raises(RateLimited):
        admit(who, 90, 1.0, NOON)
    first.settle(10)
    second = admit(who, 90, 2.0, NOON)
    second.settle(500)
    with pytest.raises(RateLimited, match="100 tokens"):
        admit(who, 1, 60.0, NOON)
    admit(who, 1, 63.0, NOON)


def test_a_request_larger_than_the_limit_is_let_in_alone() -> None:
    who = subjects(Limiter(), tokens_per_minute=100)
    admit(who, 5000, 0.0, NOON)
    with pytest.raises(RateLimited):
        admit(who, 1, 1.0, NOON)
    admit(who, 5000, 61.0, NOON)


@pytest.mark.parametrize("period", ["day", "month"])
def test_budgets(period: str) -> None:
    who = subjects(Limiter(), **{f"tokens_per_{period}": 100})
    admit(who, 10, 0.0, NOON).settle(99)
    admit(who, 10, 1.0, NOON).settle(10)
    with pytest.raises(BudgetExceeded, match=f"100 tokens of this {period}") as caught:
        admit(who, 1, 2.0, NOON)
    assert caught.value.retryable is False
    if period == "month":
        with pytest.raises(BudgetExceeded):
            admit(who, 1, 3.0, NOON + 86_400)
    admit(who, 1, 3.0, NOON + (86_400 if period == "day" else 20 * 86_400))


def test_what_began_yesterday_is_yesterdays() -> None:
    who = subjects(Limiter(), tokens_per_day=100)
    late = admit(who, 50, 0.0, NOON)
    admit(who, 1, 10.0, NOON + 86_400)
    late.settle(0)
    assert who[0].meter.of_day.known == 1
    assert who[0].meter.of_month.known == 1


def test_sums_of_before_a_restart_count() -> None:
    limiter = Limiter()
    limiter.restore(("key-1", ""), day_of(NOON), 60, 60)
    limiter.restore(("key-1", ""), day_of(NOON), 40, 40)
    with pytest.raises(BudgetExceeded):
        admit(subjects(limiter, tokens_per_day=100), 1, 0.0, NOON)


def test_headers_tell_of_who_is_closest() -> None:
    limiter = Limiter()
    key = msgspec.structs.replace(KEY, limits=Limits(requests_per_minute=10))
    who = limiter.subjects(key, "m", Limits(requests_per_minute=3, tokens_per_minute=1000))
    told = headers(admit(who, 400, 0.0, NOON))
    assert told.decode().splitlines() == [
        "x-ratelimit-limit-requests: 3",
        "x-ratelimit-remaining-requests: 2",
        "x-ratelimit-reset-requests: 61s",
        "x-ratelimit-limit-tokens: 1000",
        "x-ratelimit-remaining-tokens: 600",
        "x-ratelimit-reset-tokens: 61s",
    ]
    assert told.endswith(b"\r\n")
    assert headers(admit(subjects(Limiter(), concurrent=1), 1, 0.0, NOON)) == b""


def test_a_reservation_is_settled_once() -> None:
    one = admit(subjects(Limiter(), concurrent=1), 1, 0.0, NOON)
    one.settle(1)
    with pytest.raises(AssertionError, match="settled once"):
        one.settle(1)


def test_idle_meters_are_forgotten() -> None:
    limiter = Limiter()
    who = subjects(limiter, requests_per_minute=5)
    admit(who, 0, 0.0, NOON).settle(0)
    limiter.prune(30.0)
    assert subjects(limiter, requests_per_minute=5)[0].meter is who[0].meter
    limiter.prune(62.0)
    assert subjects(limiter, requests_per_minute=5)[0].meter is not who[0].meter


class LimitMachine(RuleBasedStateMachine):
    """Reservations beside plain lists of what was let in."""

    inside: Bundle[Reservation | None] = Bundle("inside")

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0
        self.limiter = Limiter()
        key = msgspec.structs.replace(
            KEY, limits=Limits(requests_per_minute=6, concurrent=3, tokens_per_day=2000)
        )
        self.who = self.limiter.subjects(key, "m", Limits(tokens_per_minute=300, concurrent=2))
        self.let_in: list[list[float]] = []  # [at_s, tokens]
        self.open: list[tuple[Reservation, list[float]]] = []

    @rule(target=inside, tokens=st.integers(0, 200))
    def ask(self, tokens: int) -> Reservation | None:
        last_minute = [one for one in self.let_in if one[0] > self.now_s - WINDOW_S]
        try:
            got = admit(self.who, tokens, self.now_s, NOON)
        except (RateLimited, BudgetExceeded):
            return None
        assert len(last_minute) < 6
        assert sum(n for _, n in last_minute) + min(tokens, 300) <= 300 or tokens == 0
        assert sum(n for _, n in self.let_in) < 2000
        entry = [self.now_s, float(tokens)]
        self.let_in.append(entry)
        self.open.append((got, entry))
        if got.may_enter():
            got.enter()
        return got

    @rule(one=consumes(inside), tokens=st.integers(0, 300))
    def end(self, one: Reservation | None, tokens: int) -> None:
        for got, entry in self.open:
            if got is one:
                got.settle(tokens)
                entry[1] = tokens
        self.open = [pair for pair in self.open if pair[0] is not one]

    @rule(seconds=st.floats(0, 30))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def sums_are_what_was_used(self) -> None:
        used = sum(n for _, n in self.let_in)
        running = sum(got.inside for got, _ in self.open)
        assert running <= 2
        for subject in self.who:
            assert subject.meter.running == running
            assert subject.meter.of_day.known == used


TestLimits = LimitMachine.TestCase
TestLimits.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


PAUSES_S = st.floats(0, 0.3) | st.floats(0, 2) | st.floats(50, 70)


@given(
    st.lists(
        st.tuples(PAUSES_S, st.integers(1, 60), st.integers(-40, 40), st.booleans(), st.booleans()),
        max_size=60,
    ),
    st.builds(
        Limits,
        requests_per_minute=st.none() | st.integers(1, 30),
        tokens_per_minute=st.none() | st.integers(20, 600),
        concurrent=st.none() | st.integers(1, 30),
        tokens_per_day=st.none() | st.integers(20, 600),
        tokens_per_month=st.none() | st.integers(20, 900),
    ),
)
def test_by_a_tab_and_in_general_the_same_is_let_in(
    steps: list[tuple[float, int, int, bool, bool]], limits: Limits
) -> None:
    key = msgspec.structs.replace(KEY, limits=limits)
    quick, general = Limiter(), Limiter()
    now_s, unix_s = 1000.25, NOON + 12 * 3600 - 5.0  # five seconds before midnight
    before: list[tuple[Reservation | Taken, Reservation | Taken, int]] = []
    for pause_s, tokens, more, settle, look in steps:
        now_s, unix_s = now_s + pause_s, unix_s + pause_s
        one = let_in(quick, key, tokens, (now_s, unix_s), by_tab=True)
        other = let_in(general, key, tokens, (now_s, unix_s), by_tab=False)
        if isinstance(one, str) or isinstance(other, str):
            assert one == other
        else:
            assert told(one) == told(other)
            before.append((one, other, max(tokens + more, 0)))
        if settle and before:
            for reservation in before[0][:2]:
                reservation.settle(before[0][2])
            del before[0]
        if look:  # which closes a tab, so not always
            assert sums(quick) == sums(general)
    assert sums(quick) == sums(general)


def let_in(
    limiter: Limiter, key: Key, tokens: int, at: tuple[float, float], *, by_tab: bool
) -> Reservation | Taken | str:
    meter = limiter.own_meter(key) if by_tab else None
    taken = None if meter is None else meter.tab.take(tokens, at[0])
    if taken is not None:
        assert taken.headers == taken.tab.headers()
        return taken
    try:
        found = limiter.admit(limiter.subjects(key, "m", None), tokens, *at)
    except (RateLimited, BudgetExceeded) as refused:
        return f"{refused} {refused.retry_after_s}"
    if not found.may_enter():
        found.settle(0)
        return "would wait"
    found.enter()
    return found


def told(found: Reservation | Taken) -> bytes:
    return found.headers if isinstance(found, Taken) else headers(found)


def sums(limiter: Limiter) -> list[object]:
    return [
        (
            meter.requests.buckets(),
            meter.tokens.buckets(),
            meter.of_day.known,
            meter.of_month.known,
            meter.running,
        )
        for meter in limiter._meters.values()
    ]


def test_all_but_the_first_of_a_second_are_taken_by_the_tab() -> None:
    limiter, key = Limiter(), msgspec.structs.replace(KEY, limits=Limits(requests_per_minute=5))
    first = let_in(limiter, key, 1, (7.0, NOON), by_tab=True)
    assert isinstance(first, Reservation)
    assert told(first).startswith(b"x-ratelimit-limit-requests: 5\r\n")
    first.settle(9)  # neither of which must close it
    found = [let_in(limiter, key, 1, (7.5, NOON), by_tab=True) for _ in range(5)]
    assert [type(one) for one in found] == [Taken] * 4 + [str]
    for one in found[:-1]:
        assert isinstance(one, Taken)
        one.settle(1)
        with pytest.raises(AssertionError, match="settled once"):
            one.settle(1)
    assert sums(limiter) == [([(7, 5)], [(7, 13)], 13, 13, 0)]


def test_a_key_whose_limits_changed_is_held_to_the_new_ones_at_once() -> None:
    limiter, key = Limiter(), msgspec.structs.replace(KEY, limits=Limits(requests_per_minute=5))
    for _ in range(2):
        let_in(limiter, key, 1, (7.0, NOON), by_tab=True)
    key = msgspec.structs.replace(KEY, limits=Limits(requests_per_minute=3))
    found = [let_in(limiter, key, 1, (7.5, NOON), by_tab=True) for _ in range(2)]
    assert [type(one) for one in found] == [Reservation, str]


@pytest.mark.parametrize(
    "change", [{"limits": None}, {"per_model": {"m": Limits(requests_per_minute=1)}}]
)
def test_no_tab_will_do_for_a_key_without_limits_or_with_some_for_models(
    change: dict[str, Any],
) -> None:
    limiter, key = Limiter(), msgspec.structs.replace(KEY, limits=Limits(requests_per_minute=5))
    assert limiter.own_meter(key) is None, "not met yet"
    let_in(limiter, key, 1, (7.0, NOON), by_tab=True)
    assert limiter.own_meter(key) is not None
    assert limiter.own_meter(msgspec.structs.replace(key, **change)) is None


def test_of_a_meter_that_is_forgotten_nothing_can_be_taken() -> None:
    limiter, key = Limiter(), msgspec.structs.replace(KEY, limits=Limits(requests_per_minute=5))
    found = let_in(limiter, key, 1, (7.0, NOON), by_tab=True)
    assert isinstance(found, Reservation)
    found.settle(0)
    meter = limiter.own_meter(key)
    assert meter is not None
    limiter.prune(100.0)
    assert limiter.own_meter(key) is None
    assert meter.tab.take(1, 100.0) is None


def test_an_answer_of_before_leaves_the_tab_open() -> None:
    limiter, key = Limiter(), msgspec.structs.replace(KEY, limits=Limits(tokens_per_minute=100))
    long = let_in(limiter, key, 50, (7.0, NOON), by_tab=True)
    let_in(limiter, key, 20, (8.0, NOON), by_tab=True)
    assert isinstance(long, Reservation)
    long.settle(10)
    assert isinstance(let_in(limiter, key, 70, (8.5, NOON), by_tab=True), Taken)
    assert isinstance(let_in(limiter, key, 1, (8.5, NOON), by_tab=True), str)
    assert limiter._meters[KEY.id, ""].tokens.total == 100


@pytest.mark.parametrize("swept", [False, True])
def test_what_is_settled_after_its_minute_counts_no_more(swept: bool) -> None:  # noqa: FBT001 - a case
    limiter = Limiter()
    who = subjects(limiter, tokens_per_minute=10, tokens_per_day=5)
    one, other = (limiter.admit(who, 1, 1000.0, NOON) for _ in range(2))
    one.settle(5)
    if swept:
        limiter.prune(1061.0)
    else:
        with pytest.raises(BudgetExceeded):  # time passes, and nothing is counted
            limiter.admit(who, 1, 1061.0, NOON + 61)
    other.settle(7)
    assert who[0].meter.tokens.total == 0
    assert who[0].meter.of_day.known == 12
