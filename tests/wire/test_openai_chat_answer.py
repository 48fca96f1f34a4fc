"""Chat answers, read back by the types of OpenAI's own SDK."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from arriero.base.errors import BackendFailed
from arriero.wire.canonical import Chunk, FinishReason, ToolCall, Usage
from arriero.wire.dialect import AnswerEncoder
from arriero.wire.openai_answer import ChatAnswer, whole_chat

LOGPROBS = msgspec.Raw(
    b'[{"token":"a","logprob":-0.5,"bytes":[97],\n'
    b'"top_logprobs":[{"token":"a","logprob":-0.5,"bytes":[97]}]}]'
)
CALLS = [ToolCall("call_1", "add", '{"a":1}'), ToolCall("call_2", "sub", "{}")]
# Every character that JSON, SSE or a line splitter may stumble over, and half a surrogate pair.
HARD = st.text(
    st.sampled_from('\x00\r\n\t"\\\x0b\x0c\x1c\x1d\x1e\x7f\x85\u2028\u2029\ud800\udfff%{}é🙂 a')
)


def answer(*, include_usage: bool = False, model: str = "llama") -> ChatAnswer:
    return ChatAnswer("0123", 1_700_000_000, model, include_usage=include_usage)


def events(data: bytes) -> list[str]:
    """Return the data of the events, having checked that every splitter finds the same lines."""
    text = data.decode()
    assert text == "" or text.endswith("\n\n")
    lines = text.splitlines()
    assert lines[1::2] == [""] * (len(lines) // 2)
    assert all(line.startswith("data: ") for line in lines[::2])
    return [line.removeprefix("data: ") for line in lines[::2]]


def chunks(data: bytes) -> list[ChatCompletionChunk]:
    return [ChatCompletionChunk.model_validate_json(one, strict=True) for one in events(data)]


def streamed(encoder: AnswerEncoder, *given: Chunk) -> list[ChatCompletionChunk]:
    return [one for chunk in given for one in chunks(encoder.chunk(chunk))]


def said(got: list[ChatCompletionChunk], field: str) -> str:
    deltas = [choice.delta for one in got for choice in one.choices]
    return "".join(getattr(delta, field, None) or "" for delta in deltas)


def whole(chunk: Chunk) -> ChatCompletion:
    return ChatCompletion.model_validate_json(written(chunk), strict=True)


def written(chunk: Chunk, model: str = "llama") -> bytes:
    """Return the whole answer, having checked that the short way and the general one agree."""
    body = whole_chat("0123", 1_700_000_000.9, model, chunk)
    assert json.loads(body) == json.loads(answer(model=model).whole(chunk))
    return body


def test_text_stream() -> None:
    got = streamed(answer(), Chunk("Hell"), Chunk("o"), Chunk(finish_reason="stop"))
    assert said(got, "content") == "Hello"
    assert [one.choices[0].delta.role for one in got] == ["assistant", None, None]
    assert [one.choices[0].finish_reason for one in got] == [None, None, "stop"]
    assert got[-1].choices[0].delta.model_dump(exclude_unset=True) == {}
    assert {(one.id, one.created, one.model, one.object) for one in got} == {
        ("chatcmpl-0123", 1_700_000_000, "llama", "chat.completion.chunk")
    }


def test_a_stream_of_one_chunk() -> None:
    got = streamed(
        answer(include_usage=True), Chunk("Hi", finish_reason="length", usage=Usage(3, 2, 1))
    )
    assert [len(one.choices) for one in got] == [1, 1, 0]
    assert said(got, "content") == "Hi"
    assert got[1].choices[0].finish_reason == "length"


def test_an_empty_answer_still_has_a_role() -> None:
    got = streamed(answer(), Chunk(), Chunk(finish_reason="stop"))
    assert [one.choices[0].delta.role for one in got] == ["assistant", None]
    assert said(got, "content") == ""


def test_nothing_to_say_is_no_event() -> None:
    encoder = answer()
    assert encoder.chunk(Chunk()) == b""
    encoder.chunk(Chunk("x"))
    assert encoder.chunk(Chunk()) == b""
    assert encoder.chunk(Chunk(usage=Usage(1, 1))) == b""


def test_usage_only_when_asked_for() -> None:
    last = Chunk(finish_reason="stop", usage=Usage(5, 7, 3))
    assert all(one.usage is None for one in streamed(answer(), Chunk("x"), last))
    encoder = answer(include_usage=True)
    first = json.loads(events(encoder.chunk(Chunk("x")))[0])
    assert first["usage"] is None
    usage = streamed(encoder, last)[-1]
    assert usage.choices == []
    assert usage.usage is not None
    assert usage.usage.prompt_tokens == 5
    assert usage.usage.completion_tokens == 7
    assert usage.usage.total_tokens == 12
    assert usage.usage.prompt_tokens_details is not None
    assert usage.usage.prompt_tokens_details.cached_tokens == 3


def test_thinking_goes_out_under_both_names() -> None:
    got = streamed(answer(), Chunk(thinking="a"), Chunk("x", thinking="b"), Chunk("y"))
    assert said(got, "reasoning_content") == said(got, "reasoning") == "ab"
    assert said(got, "content") == "xy"
    assert len(got) == 3


def test_tool_calls_are_numbered_over_the_stream() -> None:
    got = streamed(
        answer(),
        Chunk(tool_calls=CALLS),
        Chunk("x", tool_calls=[ToolCall("call_3", "add", "{}")]),
        Chunk(finish_reason="stop"),
    )
    calls = [call for one in got for call in one.choices[0].delta.tool_calls or []]
    assert [(call.index, call.id, call.type) for call in calls] == [
        (0, "call_1", "function"),
        (1, "call_2", "function"),
        (2, "call_3", "function"),
    ]
    function = calls[0].function
    assert function is not None
    assert (function.name, function.arguments) == ("add", '{"a":1}')
    assert got[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter"])
def test_finish_reasons(reason: FinishReason) -> None:
    assert streamed(answer(), Chunk(finish_reason=reason))[-1].choices[0].finish_reason == reason
    assert whole(Chunk("x", finish_reason=reason)).choices[0].finish_reason == reason
    expected = "tool_calls" if reason == "stop" else reason
    calling = Chunk(tool_calls=CALLS, finish_reason=reason)
    assert streamed(answer(), calling)[-1].choices[0].finish_reason == expected
    assert whole(calling).choices[0].finish_reason == expected


def test_logprobs() -> None:
    got = streamed(answer(), Chunk("x"), Chunk("a", logprobs=LOGPROBS), Chunk(logprobs=LOGPROBS))
    assert got[0].choices[0].logprobs is None
    for one in got[1:]:
        logprobs = one.choices[0].logprobs
        assert logprobs is not None
        assert logprobs.content is not None
        assert (logprobs.content[0].token, logprobs.refusal) == ("a", None)
    of_whole = whole(Chunk("a", logprobs=LOGPROBS)).choices[0].logprobs
    assert of_whole is not None
    assert of_whole.content is not None
    assert of_whole.content[0].top_logprobs[0].logprob == -0.5


def test_whole_text() -> None:
    got = whole(Chunk("Hello", thinking="hm", finish_reason="stop", usage=Usage(5, 7, 3)))
    assert (got.id, got.created, got.model) == ("chatcmpl-0123", 1_700_000_000, "llama")
    assert got.object == "chat.completion"
    message = got.choices[0].message
    assert (message.role, message.content, message.refusal) == ("assistant", "Hello", None)
    assert message.model_extra == {"reasoning_content": "hm", "reasoning": "hm"}
    assert message.tool_calls is None
    assert got.usage is not None
    assert (got.usage.total_tokens, got.system_fingerprint) == (12, None)


def test_whole_tool_calls() -> None:
    message = whole(Chunk(tool_calls=CALLS, finish_reason="stop")).choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    assert [call.id for call in message.tool_calls] == ["call_1", "call_2"]
    assert whole(Chunk("x", tool_calls=CALLS)).choices[0].message.content == "x"
    assert whole(Chunk()).choices[0].message.content == ""


def test_usage_stands_in_every_whole_answer() -> None:
    usage = whole(Chunk("x")).usage
    assert usage is not None
    assert usage.total_tokens == 0


def test_errors_end_a_stream_without_looking_like_an_end() -> None:
    encoder = answer()
    encoder.chunk(Chunk("x"))
    (data,) = events(encoder.error(BackendFailed("The backend broke off"), "req7"))
    got = json.loads(data)
    assert list(got) == ["error"]
    assert "req7" in got["error"]["message"]
    assert got["error"]["code"] == "backend_failed"


def test_end() -> None:
    assert events(answer().end()) == ["[DONE]"]


TEXTY = st.builds(
    Chunk,
    content=HARD,
    thinking=HARD,
    tool_calls=st.lists(st.builds(ToolCall, HARD, HARD, HARD), max_size=2),
    logprobs=st.none() | st.just(LOGPROBS),
    finish_reason=st.sampled_from([None, "stop", "length"]),
    usage=st.none() | st.builds(Usage, st.integers(0, 9), st.integers(0, 9)),
)


def clean(text: str) -> str:
    return "".join("?" if "\ud800" <= one <= "\udfff" else one for one in text)


@given(given_chunks=st.lists(TEXTY, max_size=4), model=HARD, include_usage=st.booleans())
def test_any_text_arrives(given_chunks: list[Chunk], model: str, *, include_usage: bool) -> None:
    encoder = answer(include_usage=include_usage, model=model)
    got = streamed(encoder, *given_chunks)
    assert said(got, "content") == clean("".join(one.content for one in given_chunks))
    assert said(got, "reasoning") == clean("".join(one.thinking for one in given_chunks))
    calls: list[Any] = [
        call for one in got for choice in one.choices for call in choice.delta.tool_calls or []
    ]
    assert [call.function.arguments for call in calls] == [
        clean(call.arguments) for one in given_chunks for call in one.tool_calls
    ]
    assert [call.index for call in calls] == list(range(len(calls)))
    assert {one.model for one in got} <= {clean(model)}


@given(chunk=TEXTY, model=HARD)
def test_any_whole_answer_is_valid(chunk: Chunk, model: str) -> None:
    got = ChatCompletion.model_validate_json(written(chunk, model), strict=True)
    assert (got.choices[0].message.content or "") == clean(chunk.content)
    assert got.model == clean(model)
