"""Completions, read back by the types of OpenAI's own SDK."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion

from arriero.base.errors import BackendTimeout
from arriero.wire.canonical import Chunk, FinishReason, Usage
from arriero.wire.openai_answer import CompletionAnswer


def logprobs(*tokens: str) -> msgspec.Raw:
    content = [
        {
            "token": one,
            "logprob": -1.5,
            "bytes": None,
            "top_logprobs": [{"token": one, "logprob": -1.5}, {"token": "z", "logprob": -2.5}],
        }
        for one in tokens
    ]
    return msgspec.Raw(msgspec.json.encode(content))


def answer(*, include_usage: bool = False, echo: str = "") -> CompletionAnswer:
    return CompletionAnswer("0123", 1_700_000_000, "llama", include_usage=include_usage, echo=echo)


def events(data: bytes) -> list[str]:
    lines = data.decode().splitlines()
    assert lines[1::2] == [""] * (len(lines) // 2)
    return [line.removeprefix("data: ") for line in lines[::2]]


def streamed(encoder: CompletionAnswer, *given: Chunk) -> list[dict[str, object]]:
    """Return the events; a streamed choice without a reason is no valid `Completion` of the SDK."""
    return [json.loads(one) for chunk in given for one in events(encoder.chunk(chunk))]


def choices(got: list[dict[str, object]]) -> list[dict[str, object]]:
    found = []
    for one in got:
        listed = one["choices"]
        assert isinstance(listed, list)
        found += listed
    return found


def text(got: list[dict[str, object]]) -> str:
    return "".join(str(choice["text"]) for choice in choices(got))


def whole(chunk: Chunk, echo: str = "") -> Completion:
    return Completion.model_validate_json(answer(echo=echo).whole(chunk), strict=True)


def test_stream() -> None:
    got = streamed(answer(), Chunk("Hell"), Chunk("o"), Chunk(finish_reason="stop"))
    assert text(got) == "Hello"
    assert [choice["finish_reason"] for choice in choices(got)] == [None, None, "stop"]
    assert {(one["id"], one["object"], one["model"]) for one in got} == {
        ("cmpl-0123", "text_completion", "llama")
    }
    assert "usage" not in got[0]
    Completion.model_validate_json(json.dumps(got[-1]), strict=True)


def test_nothing_to_say_is_no_event() -> None:
    assert answer().chunk(Chunk()) == b""
    assert answer(echo="x").chunk(Chunk()) == b""
    assert answer().chunk(Chunk(thinking="hm")) == b""
    assert answer().chunk(Chunk(usage=Usage(1, 1))) == b""


def test_usage_comes_last_when_asked_for() -> None:
    got = streamed(
        answer(include_usage=True), Chunk("x", finish_reason="stop", usage=Usage(5, 7, 3))
    )
    assert got[0]["usage"] is None
    last = Completion.model_validate_json(json.dumps(got[-1]), strict=True)
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 12


@pytest.mark.parametrize(
    "given",
    [
        [Chunk(" upon"), Chunk(" a time"), Chunk(finish_reason="stop")],
        [Chunk(" upon a time", finish_reason="stop")],
        [Chunk(), Chunk(thinking="hm"), Chunk(" upon a time"), Chunk(finish_reason="stop")],
    ],
    ids=["several", "one", "empty first"],
)
def test_echo_comes_once_and_first(given: list[Chunk]) -> None:
    assert text(streamed(answer(echo="Once"), *given)) == "Once upon a time"


def test_echo_of_an_empty_answer() -> None:
    assert text(streamed(answer(echo="Once"), Chunk(finish_reason="stop"))) == "Once"
    assert whole(Chunk(), "Once").choices[0].text == "Once"
    assert whole(Chunk(" upon"), "Once").choices[0].text == "Once upon"


def test_logprobs_have_their_older_form() -> None:
    got = whole(Chunk("ab c", logprobs=logprobs("ab", " c"), finish_reason="length"))
    assert got.choices[0].finish_reason == "length"
    old = got.choices[0].logprobs
    assert old is not None
    assert old.tokens == ["ab", " c"]
    assert old.token_logprobs == [-1.5, -1.5]
    assert old.top_logprobs == [{"ab": -1.5, "z": -2.5}, {" c": -1.5, "z": -2.5}]
    assert old.text_offset == [0, 2]


@pytest.mark.parametrize("odd", [b"[1]", b"{}", b'[{"token":"\xff","logprob":1}]', b"["])
def test_odd_logprobs_cost_no_answer(odd: bytes) -> None:
    choice = whole(Chunk("ab", logprobs=msgspec.Raw(odd))).choices[0]
    assert (choice.text, choice.logprobs) == ("ab", None)


def test_offsets_run_over_the_stream() -> None:
    got = streamed(
        answer(),
        Chunk("ab", logprobs=logprobs("ab")),
        Chunk(" c", logprobs=logprobs(" ", "c")),
        Chunk(finish_reason="stop"),
    )
    offsets = [one["logprobs"] and one["logprobs"]["text_offset"] for one in choices(got)]  # type: ignore[index]  # JSON
    assert offsets == [[0], [2, 3], None]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "stop"),
        ("content_filter", "content_filter"),
    ],
)
def test_finish_reasons(reason: FinishReason, told: str) -> None:
    assert whole(Chunk("x", finish_reason=reason)).choices[0].finish_reason == told
    assert choices(streamed(answer(), Chunk(finish_reason=reason)))[-1]["finish_reason"] == told


def test_whole() -> None:
    got = whole(Chunk("Hello", finish_reason="stop", usage=Usage(5, 7)))
    assert (got.id, got.object, got.created) == ("cmpl-0123", "text_completion", 1_700_000_000)
    assert (got.choices[0].text, got.choices[0].logprobs) == ("Hello", None)
    assert got.usage is not None
    assert got.usage.total_tokens == 12


def test_error_and_end() -> None:
    (data,) = events(answer().error(BackendTimeout("Too slow"), "req7"))
    assert "req7" in json.loads(data)["error"]["message"]
    assert events(answer().end()) == ["[DONE]"]


@given(st.lists(st.text(st.sampled_from('\x00\r\n"\\\x85\u2028\u2029\x1e\ud800é🙂a')), max_size=4))
def test_any_text_arrives(texts: list[str]) -> None:
    got = streamed(answer(), *[Chunk(one) for one in texts])
    assert text(got) == "".join(texts).replace("\ud800", "?")
