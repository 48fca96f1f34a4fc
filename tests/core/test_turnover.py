"""When to come back: by how fast the queue has been going, from 1 to 60 seconds."""

from hypothesis import given
from hypothesis import strategies as st

from arriero.core.turnover import Turnover


def at_pace(interval_s: float, times: int = 50) -> tuple[Turnover, float]:
    turnover, now_s = Turnover(), 100.0
    turnover.begin(now_s)
    for _ in range(times):
        now_s += interval_s
        turnover.served(now_s)
    return turnover, now_s


def test_it_is_the_wait_of_the_present_queue() -> None:
    turnover, now_s = at_pace(0.5)
    assert turnover.wait_s(10, now_s) == 6
    assert turnover.wait_s(40, now_s) == 21


def test_it_is_at_least_a_second_and_at_most_a_minute() -> None:
    turnover, now_s = at_pace(0.001)
    assert turnover.wait_s(0, now_s) == 1
    assert turnover.wait_s(5, now_s) == 1
    turnover, now_s = at_pace(30.0)
    assert turnover.wait_s(100, now_s) == 60


def test_a_queue_that_has_stopped_promises_nothing() -> None:
    turnover, now_s = at_pace(0.1)
    assert turnover.wait_s(5, now_s) == 1
    assert turnover.wait_s(5, now_s + 10) == 51


def test_idle_time_between_two_queues_does_not_count() -> None:
    turnover, now_s = at_pace(0.5)
    turnover.begin(now_s + 1000)
    assert turnover.wait_s(10, now_s + 1000) == 6


def test_before_anybody_was_served_the_wait_so_far_counts() -> None:
    turnover = Turnover()
    turnover.begin(100.0)
    assert turnover.wait_s(3, 100.0) == 1
    assert turnover.wait_s(3, 105.0) == 16


def test_it_follows_a_changed_pace() -> None:
    turnover, now_s = at_pace(10.0)
    for _ in range(40):
        now_s += 0.1
        turnover.served(now_s)
    assert turnover.wait_s(10, now_s) <= 3


@given(st.lists(st.floats(0, 1e6)), st.integers(0, 10_000), st.floats(-10, 1e6))
def test_it_is_always_told(steps: list[float], waiting: int, later_s: float) -> None:
    turnover, now_s = Turnover(), 0.0
    turnover.begin(now_s)
    for step_s in steps:
        now_s += step_s
        turnover.served(now_s)
    assert 1 <= turnover.wait_s(waiting, now_s + later_s) <= 60
