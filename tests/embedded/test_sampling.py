import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.embedded.sampling import (
    Options,
    keep_probable,
    keep_top_k,
    make_generator,
    penalise,
    pick,
)
from arriero.embedded.weights import Floats

NONE = Options(repeat_penalty=1.0, top_k=0, top_p=1.0)


def scores(*values: float) -> Floats:
    return np.array(values, dtype=np.float32)


def draws(given_scores: Floats, options: Options, count: int = 400) -> list[int]:
    chance = make_generator(options.seed)
    return [pick(given_scores, [], options, chance) for _ in range(count)]


def test_temperature_zero_takes_the_best() -> None:
    assert draws(scores(1, 3, 2), Options(temperature=0), 5) == [1] * 5


@pytest.mark.parametrize(("temperature", "chosen"), [(0.99e-4, {0}), (0.01, {0, 1})])
def test_hardly_any_temperature_counts_as_none(temperature: float, chosen: set[int]) -> None:
    assert set(draws(scores(1, 0.999), Options(temperature=temperature, seed=1))) == chosen


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    flat = scores(*[0.0] * 50)
    one = draws(flat, Options(seed=3, top_k=0))
    assert one == draws(flat, Options(seed=3, top_k=0))
    assert one != draws(flat, Options(seed=4, top_k=0))
    assert draws(flat, Options(top_k=0)) != draws(flat, Options(top_k=0))


def test_draws_follow_the_shares() -> None:
    drawn = draws(scores(np.log(3.0), 0.0), Options(temperature=1, seed=1, top_k=0, top_p=1), 2000)
    assert 0.70 < drawn.count(0) / 2000 < 0.80


@pytest.mark.parametrize(("temperature", "low", "high"), [(0.1, 0.99, 1.0), (100.0, 0.4, 0.6)])
def test_temperature_sharpens_and_flattens(temperature: float, low: float, high: float) -> None:
    drawn = draws(scores(1, 0), Options(temperature=temperature, seed=1, top_p=1.0), 1000)
    assert low <= drawn.count(0) / 1000 <= high


@pytest.mark.parametrize(
    ("top_k", "kept"), [(1, [2]), (2, [2, 0]), (3, [2, 0, 1]), (4, [2, 0, 1]), (0, [2, 0, 1])]
)
def test_top_k(top_k: int, kept: list[int]) -> None:
    assert list(keep_top_k(scores(2, 1, 3), top_k)) == kept


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.0, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.76, 3), (1.0, 3)]
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p: float, kept: int) -> None:
    shares = np.log(scores(0.5, 0.25, 0.25))
    ids = keep_probable(np.arange(3), shares, Options(top_p=top_p))
    assert list(ids) == list(range(kept))


@pytest.mark.parametrize(("min_p", "kept"), [(0.0, 3), (0.1, 3), (0.4, 2), (0.6, 1), (5.0, 1)])
def test_min_p_is_a_share_of_the_best(min_p: float, kept: int) -> None:
    shares = np.log(scores(0.6, 0.3, 0.1))
    ids = keep_probable(np.arange(3), shares, Options(top_p=1.0, min_p=min_p))
    assert len(ids) == kept


def test_repeat_penalty_lowers_scores_of_either_sign() -> None:
    out = penalise(scores(2, -2, 1), [0, 1], Options(repeat_penalty=2.0))
    assert list(out) == [1.0, -4.0, 1.0]


def test_presence_counts_once_and_frequency_each_time() -> None:
    options = Options(repeat_penalty=1.0, presence_penalty=0.5, frequency_penalty=0.25)
    assert list(penalise(scores(2, 2, 2), [0, 0, 1], options)) == [1.0, 1.25, 2.0]


@pytest.mark.parametrize(("last_n", "hit"), [(0, []), (1, [1]), (2, [1, 2]), (-1, [0, 1, 2])])
def test_penalties_look_back_as_far_as_they_should(last_n: int, hit: list[int]) -> None:
    options = Options(repeat_last_n=last_n, repeat_penalty=2.0)
    out = penalise(scores(1, 1, 1), [0, 2, 1], options)
    assert [index for index in range(3) if out[index] != 1] == hit


def test_penalties_leave_the_scores_they_are_given_alone() -> None:
    original = scores(1, 2)
    penalise(original, [0, 1], Options(repeat_penalty=2.0))
    assert list(original) == [1, 2]
    assert penalise(original, [0], NONE) is original


@given(
    values=st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=40),
    top_k=st.integers(-1, 50),
    top_p=st.floats(0, 1.5),
    min_p=st.floats(0, 1),
    temperature=st.floats(0, 3),
)
def test_a_token_always_comes_out(
    values: list[float], top_k: int, top_p: float, min_p: float, temperature: float
) -> None:
    options = Options(top_k=top_k, top_p=top_p, min_p=min_p, temperature=temperature)
    assert 0 <= pick(scores(*values), [], options, make_generator(0)) < len(values)


@pytest.mark.parametrize(
    ("given_stop", "stops"), [("x", ("x",)), (["a", "", "b"], ("a", "b")), ("", ()), ([], ())]
)
def test_stop_may_be_one_or_many(given_stop: list[str] | str, stops: tuple[str, ...]) -> None:
    assert Options(stop=given_stop).stops == stops
