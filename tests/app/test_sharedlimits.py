"""Limits of several workers decide as those of one, and forget only what the dead had under way."""

import os
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.app import meters
from arriero.app.meters import CELLS, PROBES_MAX, REQUESTS, MetersFull, SharedMeters, name_of
from arriero.app.sharedlimits import AMOUNT_MAX, SharedHolds, SharedLimiter, SharedMeter
from arriero.base.errors import BudgetExceeded, RateLimited
from arriero.config.settings import Limits
from arriero.core.keys import Key
from arriero.core.limits import Limiter, admit, headers
from arriero.core.meter import Reservation, Subject
from arriero.server.holds import Held

NOON = 1_800_000_000.0 + 4 * 3600  # 2027-01-15, 12:00 UTC
DAY_S = 86_400.0
KEY = Key(id="key-1", digest=b"")


class Shared:
    """Workers of one process, each with limits of its own view."""

    def __init__(self, count: int = 2) -> None:
        self.ms = 1_000_000
        self.memory = meters.make_memory()
        self.bells = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(count)]
        self.meters = [self.view(at) for at in range(count)]
        self.limiters = [SharedLimiter(each) for each in self.meters]

    def view(self, index: int) -> SharedMeters:
        return SharedMeters(self.memory, index, self.bells, lambda: self.ms)

    def close(self) -> None:
        for fd in (self.memory, *self.bells):
            os.close(fd)

    def rung(self, worker: int) -> bool:
        try:
            return os.eventfd_read(self.bells[worker]) > 0
        except BlockingIOError:
            return False


@pytest.fixture
def shared() -> Iterator[Shared]:
    found = Shared()
    yield found
    found.close()


def subjects(limiter: Limiter, /, key: str = "key-1", **limits: int) -> tuple[Subject, ...]:
    of_key = msgspec.structs.replace(KEY, id=key, limits=Limits(**limits))
    return limiter.subjects(of_key, "m", Limits(requests_per_minute=1000))


def ask(limiter: Limiter, tokens: int, now_s: float, **limits: int) -> Reservation | str:
    """Return what lets the request in, or the words with which it is refused."""
    try:
        return limiter.admit(subjects(limiter, KEY.id, **limits), tokens, now_s, NOON + now_s)
    except (RateLimited, BudgetExceeded) as refused:
        return f"{refused} {getattr(refused, 'retry_after_s', '')}"


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 1),
            st.sampled_from([0.0, 0.4, 1.0, 7.5, 59.0, 61.0, 3600.0, DAY_S]),
            st.integers(0, 40),
            st.integers(-1, 60),
        ),
        max_size=40,
    ),
    limits=st.fixed_dictionaries(
        {},
        optional={
            "requests_per_minute": st.integers(1, 8),
            "tokens_per_minute": st.integers(1, 120),
            "tokens_per_day": st.integers(1, 300),
            "tokens_per_month": st.integers(1, 400),
        },
    ),
)
def test_workers_decide_as_one_would(
    steps: list[tuple[int, float, int, int]], limits: dict[str, int]
) -> None:
    """Whichever worker a request comes to, however long ends take, and whatever they used."""
    shared, alone, now_s = Shared(), Limiter(), 1000.0
    pending: list[tuple[Reservation, Reservation]] = []
    try:
        for worker, pause_s, tokens, used in steps:
            now_s += pause_s
            one = ask(alone, tokens, now_s, **limits)
            many = ask(shared.limiters[worker], tokens, now_s, **limits)
            if isinstance(one, str) or isinstance(many, str):
                assert one == many
            else:
                assert headers(one) == headers(many)
                pending.append((one, many))
            if used >= 0 and pending:
                for reservation in pending.pop(0):
                    reservation.settle(used)
    finally:
        shared.close()


def test_a_key_with_limits_for_another_model_only_is_let_in_and_settled(shared: Shared) -> None:
    limiter = shared.limiters[0]
    key = Key(id="key-1", digest=b"", per_model={"other": Limits(requests_per_minute=1)})
    nobody = limiter.subjects(key, "m", None)
    assert nobody == ()
    for _ in range(2):
        limiter.admit(nobody, 5, 1.0, NOON).settle(7)


def test_a_restart_is_told_of_what_was_used(shared: Shared) -> None:
    first, second = shared.limiters
    first.restore(("key-1", ""), "2027-01-15", 60, 90)
    assert isinstance(ask(second, 5, 1.0, tokens_per_day=61), Reservation)
    assert "this day" in str(ask(first, 5, 2.0, tokens_per_day=61))
    assert "this month" in str(ask(second, 5, 2.0, tokens_per_month=95))
    assert isinstance(ask(second, 5, 2.0, tokens_per_month=96), Reservation)


def test_more_tokens_than_fit_are_counted_as_many(shared: Shared) -> None:
    first, second = shared.limiters
    for _ in range(2):
        assert isinstance(ask(first, 2**62, 1.0), Reservation)
    (of_key, _) = subjects(second)
    of_key.meter.turn(1.0, "2027-01-15")
    assert of_key.meter.tokens.total == 2 * AMOUNT_MAX


def test_the_windows_of_the_dead_count_and_their_requests_do_not(shared: Shared) -> None:
    first, second = shared.limiters
    limits = {"requests_per_minute": 2, "concurrent": 1}
    held = ask(first, 1, 1.0, **limits)
    assert isinstance(held, Reservation)
    assert SharedHolds(shared.meters[0]).enter(held)
    other = ask(second, 1, 1.0, **limits)
    assert isinstance(other, Reservation)
    assert not SharedHolds(shared.meters[1]).enter(other)
    shared.view(-1).forget(0)
    assert shared.rung(1)
    assert SharedHolds(shared.meters[1]).enter(other)
    assert "2 requests per minute" in str(ask(second, 1, 2.0, **limits))


def test_a_total_that_was_left_wrong_is_put_right(shared: Shared) -> None:
    """Who dies between two writes leaves a bucket without its total."""
    limiter, memory = shared.limiters[0], shared.meters[0]
    reserved = ask(limiter, 1, 5.0, requests_per_minute=2)
    assert isinstance(reserved, Reservation)
    meter = reserved.subjects[0].meter
    assert isinstance(meter, SharedMeter)
    memory.cells[meter.begin + REQUESTS] += 7
    assert "2 requests" in str(ask(limiter, 1, 5.5, requests_per_minute=2))
    assert isinstance(ask(limiter, 1, 6.0, requests_per_minute=2), Reservation)


class Client:
    """Who waits for a place."""

    def __init__(self) -> None:
        self.came = False

    def resume(self, _: object) -> None:
        self.came = True

    def throw(self, error: Exception) -> None:
        raise error


def wait(holds: SharedHolds, limiter: Limiter, now_s: float) -> Client:
    """Ask for a place of one, and wait."""
    reserved = ask(limiter, 1, now_s, concurrent=1)
    assert isinstance(reserved, Reservation)
    assert not holds.enter(reserved)
    client = Client()
    holds.join(Held(holds, client, reserved, now_s + 60))
    return client


async def test_a_free_place_goes_to_who_has_waited_longest(shared: Shared) -> None:
    first, second = shared.limiters
    ours, theirs = (SharedHolds(each) for each in shared.meters)
    running = ask(first, 1, 1.0, concurrent=1)
    assert isinstance(running, Reservation)
    assert ours.enter(running)
    early = wait(theirs, second, 1.0)
    shared.ms += 5
    late = wait(ours, first, 1.1)
    running.settle(1)
    ours.ended(running.subjects)
    assert shared.rung(1)
    ours._advance_all()
    came = [early.came, late.came]
    theirs.sweep()
    theirs._advance_all()
    assert [*came, early.came, late.came] == [False, False, True, False]


async def test_a_place_that_is_not_fetched_goes_to_the_next(shared: Shared) -> None:
    first, second = shared.limiters
    ours, theirs = (SharedHolds(each) for each in shared.meters)
    running = ask(first, 1, 1.0, concurrent=1)
    assert isinstance(running, Reservation)
    assert ours.enter(running)
    hangs = wait(theirs, second, 1.0)
    shared.ms += 5
    waits = wait(ours, first, 1.1)
    running.settle(1)
    ours.ended(running.subjects)
    ours._advance_all()
    came = [waits.came]
    shared.ms += 20
    ours.sweep()
    ours._advance_all()
    assert [*came, waits.came, hangs.came] == [False, True, False]


# -- rows


def test_rows_at_rest_are_taken_over_when_there_are_no_more(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meters, "ROWS_MAX", 4)
    monkeypatch.setattr(meters, "PLACES", 8)
    memory = shared.meters[0]
    for at in range(3):
        memory.advance(CELLS * memory.row(name_of(("key", str(at))), 10, 202701), 10)
    with pytest.raises(MetersFull):
        memory.row(name_of(("key", "late")), 60, 202701)
    row = memory.row(name_of(("key", "late")), 71, 202701)
    assert row in {1, 2, 3}
    assert row not in {memory.row(name_of(("key", "later")), 71, 202701) for _ in range(2)}
    assert shared.meters[1].row(name_of(("key", "late")), 71, 202701) == row
    assert PROBES_MAX >= 8, "all places were looked at"


def test_who_lost_its_row_finds_another(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "ROWS_MAX", 3)
    monkeypatch.setattr(meters, "PLACES", 8)
    limiter = shared.limiters[0]
    old = subjects(limiter, "old", requests_per_minute=1)[:1]
    late = old[0]
    reserved = admit(old, 0, 1.0, NOON)
    admit(subjects(limiter, "second")[:1], 1, 1.0, NOON)
    reserved.settle(0)
    with pytest.raises(RateLimited, match="too many"):
        limiter.admit(subjects(limiter, "third")[:1], 1, 2.0, NOON)
    limiter.admit(subjects(limiter, "third")[:1], 1, 62.0, NOON)
    meter = late.meter
    assert isinstance(meter, SharedMeter)
    assert not meter.is_ours
    reserved.settled = False
    reserved.settle(50)  # what was another's row is left alone
    (third,) = subjects(limiter, "third")[:1]
    assert third.meter.tokens.total == 1


def test_who_was_not_met_lately_is_forgotten_by_the_worker_alone(shared: Shared) -> None:
    first, second = shared.limiters
    assert isinstance(ask(first, 5, 1.0, tokens_per_day=5), Reservation)
    first.prune(30.0)
    first.prune(30.0)
    assert first._meters
    first.prune(100.0)
    first.prune(100.0)
    assert not first._meters
    for limiter in (first, second):
        assert "this day" in str(ask(limiter, 1, 101.0, tokens_per_day=5))
