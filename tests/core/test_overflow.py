"""What is refused before it is sent, and that nothing is that would have fitted."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.base.errors import ContextLengthExceeded
from arriero.core.overflow import (
    SAMPLE_BYTES_MIN,
    SURELY,
    Limit,
    TokenRatios,
    check,
    exceeded,
    is_suspect,
    text_bytes,
)
from arriero.wire.canonical import (
    CanonicalRequest,
    Chat,
    Completion,
    Embedding,
    Message,
    Part,
    Sampling,
    Tool,
    ToolCall,
)

MODEL = "llama3:8b"


def chat(text: str) -> Chat:
    return Chat(model="llama", messages=[Message("user", text)], sampling=Sampling())


def learnt(ratio: float, samples: int = 1) -> TokenRatios:
    ratios = TokenRatios()
    for _ in range(samples):
        ratios.learn(MODEL, 100_000, int(100_000 * ratio))
    return ratios


def test_a_clearly_too_long_prompt_is_refused_with_both_figures() -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        check(chat("x" * 100_000), MODEL, Limit(context=8192), learnt(0.25))
    error = caught.value
    assert error.code == "context_length_exceeded"
    assert error.status == 400
    assert "25000" in error.message
    assert "8192" in error.message
    assert "maximum context length" in error.message, "what clients look for"
    assert error.param == "messages"
    assert error.hint


@pytest.mark.parametrize(("words", "refused"), [(-1, False), (0, False), (1, True)])
def test_the_edge(*, words: int, refused: bool) -> None:
    text = "x" * (40_000 + 10 * words)  # at a tenth of a token a byte: 4,000 tokens
    ratios = learnt(0.1)
    limit = Limit(context=int(4_000 / SURELY))
    if refused:
        with pytest.raises(ContextLengthExceeded):
            check(chat(text), MODEL, limit, ratios)
    else:
        check(chat(text), MODEL, limit, ratios)


def test_between_one_and_two_contexts_the_host_decides() -> None:
    check(chat("x" * 60_000), MODEL, Limit(context=8192), learnt(0.25))


def test_an_unknown_context_refuses_nothing() -> None:
    check(chat("x" * 10_000_000), MODEL, Limit(), learnt(1.0))


def test_the_operators_own_limit_is_kept_by_nobody_else() -> None:
    ratios = learnt(0.25)
    check(chat("x" * 8_000), MODEL, Limit(input_tokens_max=2_000), ratios)
    with pytest.raises(ContextLengthExceeded):
        check(chat("x" * 8_004), MODEL, Limit(input_tokens_max=2_000), ratios)


def test_it_counts_before_anything_was_learnt() -> None:
    with pytest.raises(ContextLengthExceeded):
        check(chat("x" * 20_000), MODEL, Limit(input_tokens_max=2_000), TokenRatios())


@given(
    ratio=st.floats(0.02, 1.0),
    spread=st.lists(st.floats(1 / SURELY, SURELY), min_size=1, max_size=60),
    size=st.integers(1, 200_000),
)
def test_nothing_that_fits_is_refused_if_texts_differ_by_no_more_than_the_margin(
    ratio: float, spread: list[float], size: int
) -> None:
    """The prompt has `ratio` tokens a byte; those learnt from have up to SURELY times as many."""
    ratios = TokenRatios()
    for factor in spread:
        ratios.learn(MODEL, 1_000_000, int(1_000_000 * ratio * factor))
    tokens = int(size * ratio)
    check(chat("x" * size), MODEL, Limit(context=tokens + 1), ratios)


def test_the_average_follows_what_is_sent() -> None:
    ratios = learnt(0.25, 50)
    for _ in range(60):
        ratios.learn(MODEL, 10_000, 8_000)
    assert 0.75 < ratios.tokens(MODEL, 100_000) / 100_000 < 0.8


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        (SAMPLE_BYTES_MIN - 1, 1_000),  # mostly template
        (10_000, 0),  # all of it was cached, or it was not counted
        (10_000, 50),  # most of it was cached
        (10_000, 30_000),  # something else was counted
    ],
)
def test_what_teaches_nothing(size: int, tokens: int) -> None:
    ratios = TokenRatios()
    before = ratios.tokens(MODEL, 100_000)
    ratios.learn(MODEL, size, tokens)
    assert ratios.tokens(MODEL, 100_000) == before


def test_models_are_learnt_apart_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arriero.core.overflow.MODELS_MAX", 2)
    ratios = TokenRatios()
    for at in range(4):
        ratios.learn(f"m{at}", 10_000, 5_000)
    assert [ratios.tokens(f"m{at}", 1_000) for at in range(4)] == [500, 500, 200, 200]


CALL = ToolCall("call_1", "f", '{"a": 1}')


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (chat("x" * 10), 10),
        (chat("ü" * 10), 20),
        (
            Chat(
                model="m",
                messages=[Message("user", [Part("abc"), Part("de")])],
                sampling=Sampling(),
            ),
            5,
        ),
        (
            Chat(
                model="m",
                messages=[Message("user", [Part("abc"), Part(image_base64="x" * 99)])],
                sampling=Sampling(),
            ),
            0,
        ),
        (
            Chat(
                model="m",
                messages=[Message("assistant", "ab", tool_calls=[CALL])],
                tools=[Tool("f", "four", msgspec.Raw(b'{"type":1}'))],
                sampling=Sampling(),
            ),
            2 + 8 + 4 + 10,
        ),
        (Completion(model="m", prompt="abc", suffix="de", sampling=Sampling()), 5),
        (Embedding(model="m", inputs=["abc", "de"]), 5),
    ],
)
def test_what_counts_as_text(request_: CanonicalRequest, expected: int) -> None:
    assert text_bytes(request_) == expected


def test_inputs_of_an_embedding_fit_one_by_one() -> None:
    ratios, limit = learnt(0.25), Limit(context=2_000)
    check(Embedding(model="m", inputs=["x" * 10_000] * 100), MODEL, limit, ratios)
    with pytest.raises(ContextLengthExceeded) as caught:
        check(Embedding(model="m", inputs=["x", "x" * 20_000]), MODEL, limit, ratios)
    assert caught.value.param == "input"


@given(st.text(max_size=4_000), st.floats(0.01, 2.0), st.integers(1, 2_000))
def test_what_is_refused_was_suspect(text: str, ratio: float, context: int) -> None:
    ratios = learnt(ratio)
    body = len(msgspec.json.encode({"messages": [{"role": "user", "content": text}]}))
    for limit in (Limit(context=context), Limit(input_tokens_max=context)):
        try:
            check(chat(text), MODEL, limit, ratios)
        except ContextLengthExceeded:
            assert is_suspect(MODEL, body, limit, ratios)


def test_most_bodies_are_not_suspect() -> None:
    assert not is_suspect(MODEL, 20_000, Limit(context=8192), TokenRatios())
    assert is_suspect(MODEL, 100_000, Limit(context=8192), TokenRatios())
    assert is_suspect(MODEL, 20_000, Limit(context=8192, input_tokens_max=2_000), TokenRatios())
    assert is_suspect(MODEL, 100_000, Limit(context=8192, input_tokens_max=90_000), TokenRatios())
    assert not is_suspect(MODEL, 10**9, Limit(), TokenRatios())


def test_a_hosts_own_count_is_not_called_an_estimate() -> None:
    assert "has 5000." in exceeded(5000, 4096).message
    assert "has about 5000." in exceeded(5000, 4096, estimated=True).message
