"""Buckets: every value once, bounds included."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.telemetry import histogram
from arriero.telemetry.histogram import Histogram


@pytest.mark.parametrize(
    ("value", "bucket"), [(0.0, 0), (1.0, 0), (1.001, 1), (2.0, 1), (2.001, 2), (1e9, 2)]
)
def test_a_value_equal_to_a_bound_belongs_to_it(value: float, bucket: int) -> None:
    counted = Histogram((1.0, 2.0))
    counted.observe(value)
    assert counted.counts.index(1) == bucket
    assert counted.total == value


@given(st.lists(st.floats(0, 4000)))
def test_every_value_is_counted_once(values: list[float]) -> None:
    counted = Histogram(histogram.DURATION_BOUNDS_S)
    for value in values:
        counted.observe(value)
    assert sum(counted.counts) == len(values)
    at_most = [sum(value <= bound for value in values) for bound in counted.bounds]
    assert [sum(counted.counts[: i + 1]) for i in range(len(counted.bounds))] == at_most


@pytest.mark.parametrize(
    "bounds",
    [
        histogram.DURATION_BOUNDS_S,
        histogram.FIRST_TOKEN_BOUNDS_S,
        histogram.LOOP_LAG_BOUNDS_S,
    ],
)
def test_bounds_ascend(bounds: tuple[float, ...]) -> None:
    assert list(bounds) == sorted(set(bounds))
