import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.core.speed import DECODE_TPS, LOAD_S, OFFLOAD_FACTOR, PREFILL_TPS, Pace, Paces

A, B, C = 1, 2, 4
ALL = A | B | C
NEAR = 0.15  # a class is 19 % wide, and a host may be a little beside it
COARSE = 0.3


def told(paces: Paces) -> list[int]:
    return sorted(pace.hosts for pace in paces.all(ALL))


def prefill_tps(paces: Paces, bit: int) -> float:
    return 1 / paces.of(bit).prompt_s


def test_nobody_is_known_at_first() -> None:
    paces = Paces()
    assert paces.all(ALL) == [Pace(ALL, 1 / PREFILL_TPS, 1 / DECODE_TPS)]
    assert paces.of(A) is paces.usual
    assert paces.load_s == LOAD_S


def test_a_host_is_as_fast_as_it_was_measured() -> None:
    paces = Paces()
    paces.measured(A, 4000, 1.0, 300, 3.0)
    assert prefill_tps(paces, A) == pytest.approx(4000, rel=NEAR)
    assert 1 / paces.of(A).answer_s == pytest.approx(100, rel=COARSE)


def test_others_are_taken_for_usual() -> None:
    paces = Paces()
    paces.measured(A, 4000, 1.0, 300, 3.0)
    assert paces.of(B).prompt_s == paces.of(A).prompt_s  # equal, so that they take turns
    assert told(paces) == [A, B | C]


def test_the_last_answers_count_most() -> None:
    paces = Paces()
    paces.measured(A, 4000, 1.0, 300, 3.0)
    for _ in range(20):
        paces.measured(A, 1000, 1.0, 300, 6.0)
    assert prefill_tps(paces, A) == pytest.approx(1000, rel=NEAR)
    assert 1 / paces.of(A).answer_s == pytest.approx(50, rel=COARSE)


def test_short_prompts_and_answers_without_durations_tell_nothing() -> None:
    paces = Paces()
    paces.measured(A, 4000, 1.0, 300, 3.0)
    paces.measured(A, 10, 5.0, 1, 9.0)
    paces.measured(A, 4000, 0.0, 300, 0.0)
    assert prefill_tps(paces, A) == pytest.approx(4000, rel=NEAR)
    assert 1 / paces.of(A).answer_s == pytest.approx(100, rel=COARSE)


def test_hosts_of_about_the_same_speed_share_a_class() -> None:
    paces = Paces()
    paces.measured(A, 4000, 1.0, 300, 3.0)
    paces.measured(B, 4050, 1.0, 301, 3.0)
    paces.measured(C, 400, 1.0, 300, 3.0)
    assert told(paces) == [A | B, C]
    assert [pace.hosts & A for pace in paces.all(A)] == [A]


def test_a_host_does_not_change_its_class_for_a_little() -> None:
    paces = Paces()
    paces.measured(A, 4000, 1.0, 300, 3.0)
    paces.measured(B, 4000, 1.0, 300, 3.0)
    for prompt_s in (0.94, 1.06) * 20:
        paces.measured(A, 4000, prompt_s, 300, 3.0 * prompt_s)
        assert A | B in told(paces)
    for _ in range(10):
        paces.measured(A, 4000, 1.4, 300, 3.0)
    assert told(paces) == [A, B, C]


def test_a_model_that_leaves_video_memory_is_slow_until_it_is_measured() -> None:
    paces = Paces()
    paces.measured(A, 4000, 1.0, 300, 3.0)
    paces.enrol(B, 0.0)
    paces.enrol(C, 0.5)
    assert prefill_tps(paces, B) == pytest.approx(4000, rel=NEAR)
    assert prefill_tps(paces, C) == pytest.approx(4000 / (1 + (OFFLOAD_FACTOR - 1) / 2), rel=NEAR)
    paces.measured(C, 4000, 2.0, 300, 3.0)
    assert prefill_tps(paces, C) == pytest.approx(2000, rel=NEAR)
    paces.forget(C)
    assert paces.of(C) is paces.usual
    paces.forget(C)
    paces.enrol(B, 0.0)
    assert told(paces) == [A, B | C]


def test_loads_are_averaged() -> None:
    paces = Paces()
    for _ in range(30):
        paces.loaded(4.0)
    assert paces.load_s == pytest.approx(4.0, rel=0.01)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([A, B, C]),
            st.integers(0, 40_000),
            st.floats(0, 100),
            st.integers(0, 4000),
            st.floats(0, 100),
        ),
        max_size=30,
    ),
    st.integers(1, 7),
)
def test_every_host_is_in_exactly_one_class(
    answers: list[tuple[int, int, float, int, float]], hosts: int
) -> None:
    paces = Paces()
    for bit, prompt_tokens, prompt_s, answer_tokens, answer_s in answers:
        paces.measured(bit, prompt_tokens, prompt_s, answer_tokens, answer_s)
    found = paces.all(hosts)
    masks = [pace.hosts & hosts for pace in found]
    assert sum(masks) == hosts
    assert sum(mask.bit_count() for mask in masks) == hosts.bit_count()
    assert all(pace.prompt_s > 0 and pace.answer_s > 0 for pace in found)
