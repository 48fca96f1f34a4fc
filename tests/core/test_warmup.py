"""What is loaded without being asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.core.residency import Residency
from arriero.core.warmup import Place, to_load

COLD = Place(
    named=False,
    open=True,
    state=Residency.INSTALLED,
    loads=0,
    residents=0,
    in_flight=0,
    evicted_s=0.0,
    evictions=0,
)
LOADED = COLD._replace(state=Residency.LOADED, residents=1)
LOADING = COLD._replace(state=Residency.LOADING, loads=1)
NAMED = COLD._replace(named=True)
AWAY = COLD._replace(open=False)
ABSENT = COLD._replace(state=Residency.ABSENT)


@pytest.mark.parametrize(
    ("places", "count", "expected"),
    [
        ([COLD, COLD], 0, []),
        ([COLD, COLD], 1, [0]),
        ([COLD, COLD], 2, [0, 1]),
        ([COLD, COLD], 99, [0, 1]),
        ([COLD, LOADED], 1, []),
        ([COLD, LOADING], 1, []),
        ([COLD, LOADED], 2, [0]),
        ([AWAY, COLD], 1, [1]),
        ([ABSENT, COLD], 1, [1]),
        ([ABSENT], 1, []),
        ([COLD, NAMED], 0, [1]),
        ([COLD, NAMED], 1, [1]),
        ([COLD, NAMED], 2, [1, 0]),
        ([COLD, NAMED._replace(open=False)], 1, []),  # its turn will come
        ([LOADED, NAMED], 1, [1]),  # named means here
        ([COLD._replace(state=Residency.UNKNOWN)], 1, [0]),  # loading what is loaded costs nothing
    ],
)
def test_who_loads(places: list[Place], count: int, expected: list[int]) -> None:
    assert to_load(places, count, 1000.0) == expected


def test_the_emptiest_host_is_chosen() -> None:
    busy = COLD._replace(in_flight=1)
    full = COLD._replace(residents=2)
    assert to_load([full, busy, COLD], 1, 0.0) == [2]
    assert to_load([full, busy], 1, 0.0) == [1]


def test_one_load_at_a_time_on_a_host() -> None:
    assert to_load([COLD._replace(loads=1)], 1, 0.0) == []
    assert to_load([NAMED._replace(loads=1)], 0, 0.0) == []


@pytest.mark.parametrize(("evictions", "wait_s"), [(1, 60), (2, 120), (4, 480), (99, 7680)])
def test_no_quarrel_over_the_memory(evictions: int, wait_s: float) -> None:
    evicted = NAMED._replace(evicted_s=1000.0, evictions=evictions)
    assert to_load([evicted], 0, 1000.0 + wait_s - 0.1) == []
    assert to_load([evicted._replace(in_flight=1)], 0, 1000.0 + wait_s) == []
    assert to_load([evicted], 0, 1000.0 + wait_s) == [0]


def test_a_busy_host_is_no_reason_to_wait_at_the_start() -> None:
    assert to_load([NAMED._replace(in_flight=1)], 0, 0.0) == [0]


PLACES = st.builds(
    Place,
    named=st.booleans(),
    open=st.booleans(),
    state=st.sampled_from(Residency),
    loads=st.integers(0, 1),
    residents=st.integers(0, 3),
    in_flight=st.integers(0, 2),
    evicted_s=st.just(0.0),
    evictions=st.integers(0, 3),
)


@given(st.lists(PLACES, max_size=6), st.integers(0, 8))
def test_it_settles_and_never_loads_twice(places: list[Place], count: int) -> None:
    now_s = 1e6
    chosen = to_load(places, count, now_s)
    assert len(set(chosen)) == len(chosen)
    for at in chosen:
        assert places[at].open
        assert places[at].state in (Residency.INSTALLED, Residency.UNKNOWN)
        places[at] = places[at]._replace(state=Residency.LOADED, residents=9)
    assert to_load(places, count, now_s) == [], "what was chosen is enough"
