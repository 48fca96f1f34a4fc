"""A host that comes back: how much it may do, and when it is as good as the others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.core.slowstart import Ramp


def test_it_begins_with_one_and_doubles_in_each_round() -> None:
    ramp, rounds = Ramp(0.0, 30.0), []
    for _ in range(5):
        rounds.append(ramp.allowed())
        for _ in range(ramp.allowed()):
            ramp.on_success()
    assert rounds == [1, 2, 4, 8, 16]


@pytest.mark.parametrize(("now_s", "over"), [(109.9, False), (110.0, True), (500.0, True)])
def test_its_time_ends_it(now_s: float, *, over: bool) -> None:
    assert Ramp(100.0, 10.0).is_over(now_s, slots=8) is over


@pytest.mark.parametrize(("answers", "over"), [(0, False), (2, False), (3, True), (9, True)])
def test_enough_answers_end_it(answers: int, *, over: bool) -> None:
    ramp = Ramp(100.0, 10.0)
    for _ in range(answers):
        ramp.on_success()
    assert ramp.is_over(100.0, slots=4) is over


def test_one_slot_needs_no_ramp() -> None:
    assert Ramp(0.0, 10.0).is_over(0.0, slots=1)


@given(st.integers(1, 64), st.lists(st.booleans(), max_size=200))
def test_work_in_flight_never_outgrows_the_answers(slots: int, steps: list[bool]) -> None:
    """Send whenever allowed, answer whenever told to: in flight stays within answers + 1."""
    ramp, in_flight, answered = Ramp(0.0, 1e9), 0, 0
    for answer in steps:
        if answer and in_flight:
            in_flight -= 1
            answered += 1
            ramp.on_success()
        elif in_flight < min(ramp.allowed(), slots):
            in_flight += 1
        assert in_flight <= answered + 1
