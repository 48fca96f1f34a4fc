"""The comparison with real servers: how what happened becomes a trace."""

from random import Random

import pytest
from benchmarks.fleet.check import (
    Compared,
    Said,
    Talk,
    _take,
    simulated,
    talks_of,
    trace_of,
    words_of,
)
from benchmarks.fleet.workload import total_tokens


def talk(opening: str, start_s: float = 0.0) -> Talk:
    turns = [
        Said([], 0.0, 0.0, ttft_s=1.0, end_s=2.0, prompt_tokens=340, answer_tokens=16),
        Said([], 0.0, 1.0, ttft_s=0.5, end_s=1.5, prompt_tokens=400, answer_tokens=10),
    ]
    return Talk(start_s, opening, turns)


def test_a_trace_has_the_token_counts_that_were_seen() -> None:
    trace = trace_of([talk("a"), talk("a", 3.0), talk("b", 4.0)], 2, 100.0, 10.0)
    assert [session.start_s for session in trace.sessions] == [0.0, 3.0, 4.0]
    for session in trace.sessions:
        assert [turn.prompt_tokens for turn in session.turns] == [340, 400]
        assert [turn.answer.tokens for turn in session.turns] == [16, 10]
        assert session.turns[1].prompt[:2] == session.turns[0].prompt
    first, second, third = (session.turns[0].prompt[0] for session in trace.sessions)
    assert first is second
    assert first is not third
    assert total_tokens((first,)) == 300


@pytest.mark.parametrize("strategy", ["adaptive", "round-robin"])
def test_the_simulation_answers_every_turn(strategy: str) -> None:
    trace = trace_of([talk("a"), talk("b", 3.0)], 2, 100.0, 10.0)
    ttfts = simulated(trace, "adaptive" if strategy == "adaptive" else "round-robin")
    assert len(ttfts) == 4
    assert ttfts[0] == pytest.approx(3.4)  # idle and empty: all of the prompt


def test_events_of_a_stream_are_taken_apart() -> None:
    said = Said([], 0.0, 0.0)
    for event, passed_s in (
        ({"choices": [{"delta": {"role": "assistant"}}]}, 0.5),
        ({"choices": [{"delta": {"content": "Hel"}}]}, 1.0),
        ({"choices": [{"delta": {"content": "lo"}}]}, 2.0),
        ({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}, 2.1),
    ):
        _take(event, said, passed_s)
    assert (said.answer, said.ttft_s, said.prompt_tokens, said.answer_tokens) == (
        "Hello",
        1.0,
        9,
        2,
    )


def test_pauses_are_in_proportion_to_the_time_of_a_request() -> None:
    slow, fast = talks_of(7, 10.0), talks_of(7, 1.0)
    assert [one.opening for one in slow] == [one.opening for one in fast]
    assert [one.start_s for one in slow] == pytest.approx([one.start_s * 10 for one in fast])


def test_a_row_tells_how_far_off_the_simulation_is() -> None:
    assert "| adaptive | 2 | 2.00 s | 1.80 s | -10% |" in Compared([1.0, 3.0], [0.8, 2.8]).row(
        "adaptive"
    )


def test_words_are_as_many_as_were_asked_for() -> None:
    assert len(words_of(Random(1))(25).split()) == 25
