import numpy as np
import pytest

from arriero.embedded.engine import Engine, Outcome, normalise
from arriero.embedded.sampling import Options

GREEDY = Options(temperature=0, repeat_penalty=1.0)


def never() -> bool:
    return False


def answer(engine: Engine, prompt: list[int], options: Options) -> tuple[str, Outcome]:
    outcome = Outcome()
    return "".join(engine.generate(prompt, options, outcome, never)), outcome


def with_(**changes: object) -> Options:
    return Options(temperature=0, repeat_penalty=1.0, **changes)  # type: ignore[arg-type]  # names are Options' own


def test_greedy_answers_repeat_themselves_with_and_without_the_cache(engine: Engine) -> None:
    prompt = engine.tokenizer.encode("the cat")
    cold, first = answer(engine, prompt, with_(num_predict=12))
    warm, second = answer(engine, prompt, with_(num_predict=12))
    assert cold == warm
    assert (first.cached_tokens, second.cached_tokens) == (0, len(prompt) - 1)
    assert first.prompt_tokens == second.prompt_tokens == len(prompt)


def test_forgetting_makes_it_cold_again(engine: Engine) -> None:
    prompt = engine.tokenizer.encode("the cat")
    answer(engine, prompt, with_(num_predict=1))
    engine.forget()
    _, outcome = answer(engine, prompt, with_(num_predict=1))
    assert outcome.cached_tokens == 0


def read_tokens(engine: Engine) -> list[int]:
    """What the last answer's sequence holds: the prompt and the answer without its last token."""
    return list(engine._pool.sequences[-1].tokens)


def test_an_answer_cut_at_any_token_goes_on_to_the_same_end(engine: Engine) -> None:
    prompt = engine.tokenizer.encode("the cat in")
    answer(engine, prompt, with_(num_predict=16))
    whole = read_tokens(engine)
    assert len(whole) == len(prompt) + 15
    for cut in range(len(prompt), len(whole)):
        engine.forget()
        answer(engine, whole[:cut], with_(num_predict=16 + len(prompt) - cut))
        assert read_tokens(engine) == whole


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_num_predict_is_kept_exactly(engine: Engine, limit: int) -> None:
    _, outcome = answer(engine, [5, 6], with_(num_predict=limit))
    assert (outcome.completion_tokens, outcome.reason) == (limit, "length")


def test_the_context_ends_an_answer(engine: Engine) -> None:
    prompt = engine.tokenizer.encode("in the")
    _, outcome = answer(engine, prompt, with_(num_ctx=20, num_predict=-1))
    assert outcome.reason == "length"
    assert outcome.prompt_tokens + outcome.completion_tokens == 20


@pytest.mark.parametrize(
    ("wanted", "granted"), [(None, 256), (0, 256), (1, 2), (20, 20), (999, 256)]
)
def test_the_context_is_at_most_what_was_trained(
    engine: Engine, wanted: int | None, granted: int
) -> None:
    assert engine.context(Options(num_ctx=wanted)) == granted


def test_a_stop_string_ends_an_answer_before_it(engine: Engine) -> None:
    prompt = engine.tokenizer.encode("the cat")
    whole, _ = answer(engine, prompt, with_(num_predict=20))
    stop = whole[3:5]
    cut, outcome = answer(engine, prompt, with_(num_predict=20, stop=[stop]))
    assert cut == whole[: whole.index(stop)]
    assert outcome.reason == "stop"


def test_text_held_back_for_a_stop_string_comes_at_the_end(engine: Engine) -> None:
    prompt = engine.tokenizer.encode("the cat")
    whole, _ = answer(engine, prompt, with_(num_predict=6))
    held, outcome = answer(engine, prompt, with_(num_predict=6, stop=[whole[-1] + "never"]))
    assert held == whole
    assert outcome.reason == "length"


def test_nobody_waiting_ends_an_answer_between_two_tokens(engine: Engine) -> None:
    outcome = Outcome()
    asked = 0

    def after_three() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    for _ in engine.generate([5, 6], with_(num_predict=40), outcome, after_three):
        pass
    assert outcome.completion_tokens == 3


def test_nobody_waiting_ends_a_prompt_before_it_is_read(engine: Engine) -> None:
    outcome = Outcome()
    assert list(engine.generate([5, 6], GREEDY, outcome, lambda: True)) == []
    assert outcome.completion_tokens == 0
    assert engine.embed([5, 6], lambda: True) is None


def test_an_embedding_has_length_one_and_is_the_mean_of_the_states(engine: Engine) -> None:
    vector = engine.embed([5, 6, 7], never)
    assert vector is not None
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)
    assert vector.shape == (engine.header.hyper.embedding_length,)
    again = engine.embed([5, 6, 7], never)
    assert again is not None
    np.testing.assert_array_equal(vector, again)


def test_nothing_has_no_direction(engine: Engine) -> None:
    zero = engine.embed([], never)
    assert zero is not None
    assert not zero.any()
    assert normalise(np.array([3.0, 4.0], dtype=np.float32)) == pytest.approx([0.6, 0.8])
