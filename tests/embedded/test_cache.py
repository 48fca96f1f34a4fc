import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.embedded.cache import CAPACITY_MIN, Pool, Sequence, common_prefix
from arriero.embedded.weights import Hyper

SHORT = st.lists(st.integers(0, 3), max_size=12)


def filled(pool: Pool, tokens: list[int]) -> Sequence:
    """What the engine does: take a sequence and read the rest of the prompt into it."""
    sequence = pool.take(tokens)
    sequence.tokens.extend(tokens[len(sequence.tokens) :])
    return sequence


@given(left=SHORT, right=SHORT)
def test_common_prefix_is_the_longest(left: list[int], right: list[int]) -> None:
    count = common_prefix(left, right)
    assert left[:count] == right[:count]
    assert left[: count + 1] != right[: count + 1] or count == len(left) == len(right)


def test_a_follow_up_turn_reuses_the_conversation(hyper: Hyper) -> None:
    pool = Pool(hyper, 4096)
    first = filled(pool, [1, 2, 3, 4])
    again = pool.take([1, 2, 3, 4, 5, 6])
    assert again is first
    assert again.tokens == [1, 2, 3, 4]


def test_the_same_prompt_again_leaves_its_last_token_to_compute(hyper: Hyper) -> None:
    pool = Pool(hyper, 4096)
    filled(pool, [1, 2, 3, 4])
    assert pool.take([1, 2, 3, 4]).tokens == [1, 2, 3]


def test_a_regenerated_answer_cuts_the_sequence_back(hyper: Hyper) -> None:
    pool = Pool(hyper, 4096)
    first = filled(pool, [1, 2, 3, 4, 9, 9])
    assert pool.take([1, 2, 3, 4, 5]) is first
    assert len(pool.sequences) == 1


def test_a_shared_head_is_copied_so_that_both_conversations_stay(hyper: Hyper) -> None:
    pool = Pool(hyper, 4096)
    first = filled(pool, [1, 2, 7, 7, 7, 7])
    first.keys[:, :, :6] = 3.0
    first.values[:, :, :6] = 4.0
    other = filled(pool, [1, 2, 8, 8])
    assert other is not first
    assert first.tokens == [1, 2, 7, 7, 7, 7]
    assert other.tokens == [1, 2, 8, 8]
    assert (other.keys[:, :, :2] == 3.0).all()
    assert (other.values[:, :, :2] == 4.0).all()
    assert pool.take([1, 2, 7, 7, 7, 7, 5]) is first


def test_nothing_in_common_starts_afresh(hyper: Hyper) -> None:
    pool = Pool(hyper, 4096)
    filled(pool, [1, 2, 3])
    assert pool.take([9, 2, 3]).tokens == []


@pytest.mark.parametrize(("count", "kept"), [(3, 3), (4, 4), (5, 4)])
def test_the_number_of_sequences_is_bounded(hyper: Hyper, count: int, kept: int) -> None:
    pool = Pool(hyper, 1_000_000, sequences_max=4)
    made = [filled(pool, [100 + index, 1]) for index in range(count)]
    assert pool.sequences == made[-kept:]


def test_the_tokens_are_bounded_but_what_is_in_use_stays(hyper: Hyper) -> None:
    pool = Pool(hyper, 2 * CAPACITY_MIN)
    filled(pool, [1, 1])
    second = filled(pool, [2, 2])
    assert len(pool.sequences) == 2
    second.reserve(CAPACITY_MIN + 1)
    pool.shrink()
    assert pool.sequences == [second]
    second.reserve(10 * CAPACITY_MIN)
    pool.shrink()
    assert pool.sequences == [second]


def test_clear_forgets_all(hyper: Hyper) -> None:
    pool = Pool(hyper, 4096)
    filled(pool, [1, 2, 3])
    pool.clear()
    assert pool.take([1, 2, 3]).tokens == []


def test_growing_keeps_what_was_computed(hyper: Hyper) -> None:
    sequence = Sequence(hyper)
    sequence.tokens = [1, 2, 3]
    sequence.keys[:, :, :3] = 5.0
    sequence.reserve(CAPACITY_MIN)
    assert sequence.capacity == CAPACITY_MIN
    sequence.reserve(CAPACITY_MIN + 1)
    assert sequence.capacity == sequence.values.shape[2] == 2 * CAPACITY_MIN
    assert (sequence.keys[:, :, :3] == 5.0).all()
    assert np.count_nonzero(sequence.keys[:, :, 3:]) == 0


@given(prompts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), max_size=12))
def test_whatever_is_taken_is_a_proper_prefix_of_the_prompt(
    hyper: Hyper, prompts: list[list[int]]
) -> None:
    pool = Pool(hyper, 2048)
    for prompt in prompts:
        sequence = pool.take(prompt)
        assert sequence.tokens == prompt[: len(sequence.tokens)]
        assert len(sequence.tokens) < len(prompt)
        assert pool.sequences[-1] is sequence
        assert len(pool.sequences) <= 4
        sequence.tokens.extend(prompt[len(sequence.tokens) :])
