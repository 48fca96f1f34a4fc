"""Ollama's streams and bodies as chunks, however the bytes come."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.wire.canonical import Chat, Chunk, Completion, Message, Sampling, ToolCall, Usage
from arriero.wire.ollama import OLLAMA

CHAT = Chat(model="a", messages=[Message("user", "Hello")], sampling=Sampling())
COMPLETION = Completion(model="a", prompt="Hello", sampling=Sampling())

Cut = Callable[[bytes, list[int]], list[bytes]]


def line(**fields: Any) -> bytes:
    said = {"model": "llama3:8b", "created_at": "2026-08-21T18:48:22Z", "done": False, **fields}
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def said(content: str = "", **fields: Any) -> bytes:
    return line(message={"role": "assistant", "content": content, **fields})


def read(*parts: bytes) -> list[Chunk]:
    decoder = OLLAMA.stream_decoder(CHAT)
    return [chunk for part in parts for chunk in decoder.feed(part)]


END = line(
    message={"role": "assistant", "content": ""},
    done=True,
    done_reason="stop",
    total_duration=5,
    prompt_eval_count=26,
    eval_count=3,
)
LAST = Chunk(finish_reason="stop", usage=Usage(26, 3))


def test_text_and_the_end() -> None:
    decoder = OLLAMA.stream_decoder(CHAT)
    assert decoder.feed(said("Hel") + said("lo")) == [Chunk("Hel"), Chunk("lo")]
    assert not decoder.finished
    assert decoder.feed(END) == [LAST]
    assert decoder.finished


def test_the_last_line_may_carry_text() -> None:
    end = line(message={"content": "."}, done=True, done_reason="length", eval_count=1)
    assert read(end) == [Chunk(".", finish_reason="length", usage=Usage(0, 1))]


def test_thinking_comes_before_text_and_beside_it() -> None:
    assert read(said(thinking="hm"), said("a", thinking="b")) == [
        Chunk(thinking="hm"),
        Chunk("a", thinking="b"),
    ]


def test_lines_that_say_nothing_make_no_chunks() -> None:
    assert read(b"\n", b" \r\n", said(), line(message={"role": "assistant"}), said("x")) == [
        Chunk("x")
    ]


def test_generate_streams_response_and_thinking() -> None:
    decoder = OLLAMA.stream_decoder(COMPLETION)
    stream = line(response="", thinking="hm") + line(response="Hi") + line(response="", done=True)
    assert decoder.feed(stream) == [
        Chunk(thinking="hm"),
        Chunk("Hi"),
        Chunk(finish_reason="stop", usage=Usage()),
    ]
    assert decoder.finished


def call(name: str, arguments: object, **fields: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **fields}


def test_tool_calls_get_ids_of_openais_kind_and_the_finish_reason() -> None:
    calls = [call("f", {"a": 1}), call("g", {}, id="call_x7"), call("h", {"b": [2]}, id="9")]
    decoder = OLLAMA.stream_decoder(CHAT, "r1")
    assert decoder.feed(said(tool_calls=calls) + END) == [
        Chunk(
            tool_calls=[
                ToolCall("call_r1_1", "f", '{"a":1}'),
                ToolCall("call_x7", "g", "{}"),
                ToolCall("call_r1_3", "h", '{"b":[2]}'),
            ]
        ),
        Chunk(finish_reason="tool_calls", usage=Usage(26, 3)),
    ]


def test_ids_differ_between_the_turns_of_a_conversation() -> None:
    later = Chat(model="a", messages=[Message("user", "x")] * 3, sampling=Sampling())
    ids = {
        chunk.tool_calls[0].id
        for request in (CHAT, later)
        for chunk in OLLAMA.stream_decoder(request).feed(said(tool_calls=[call("f", {})]))
    }
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("arguments", "text"), [('{"a":1}', '{"a":1}'), ("", "{}"), (None, "{}"), ({}, "{}")]
)
def test_arguments_of_look_alikes(arguments: object, text: str) -> None:
    [chunk] = read(said(tool_calls=[call("f", arguments)]))
    assert chunk.tool_calls[0].arguments == text


def test_logprobs_become_openais() -> None:
    tokens = [
        {
            "token": "Hi",
            "logprob": -0.5,
            "bytes": [72, 105],
            "top_logprobs": [{"token": "Yo", "logprob": -1.5}],
        },
        {"token": "!", "logprob": -0.25},
    ]
    line_ = line(message={"content": "Hi!"}, logprobs=tokens)
    [chunk] = read(line_)
    assert chunk.logprobs is not None
    assert json.loads(bytes(chunk.logprobs)) == [
        {
            "token": "Hi",
            "logprob": -0.5,
            "bytes": [72, 105],
            "top_logprobs": [{"token": "Yo", "logprob": -1.5, "bytes": None}],
        },
        {"token": "!", "logprob": -0.25, "bytes": None, "top_logprobs": []},
    ]


@pytest.mark.parametrize("reason", ["load", "unload", "", None, "new"])
def test_other_done_reasons_are_a_stop(reason: str | None) -> None:
    [chunk] = read(line(message={"content": ""}, done=True, done_reason=reason))
    assert chunk.finish_reason == "stop"


def test_an_error_line_ends_the_stream_unfinished() -> None:
    decoder = OLLAMA.stream_decoder(CHAT)
    chunks = decoder.feed(said("Hel") + b'{"error":"an error was encountered"}\n' + END)
    assert chunks == [Chunk("Hel"), Chunk(error="an error was encountered")]
    assert decoder.feed(END) == []
    assert not decoder.finished


def test_an_error_may_be_an_object_and_null_is_none() -> None:
    assert read(b'{"error":{"code":500,"message":"boom"}}\n') == [Chunk(error="boom")]
    assert read(line(message={"content": "x"}, error=None)) == [Chunk("x")]
    assert read(b'{"error":""}\n')[0].error


def test_what_follows_the_end_is_not_looked_at() -> None:
    decoder = OLLAMA.stream_decoder(CHAT)
    assert decoder.feed(END + b"garbage\n") == [LAST]
    assert decoder.feed(b"more\n") == []
    assert decoder.finished


@pytest.mark.parametrize(
    "garbage",
    [
        b"{}",
        b"[]",
        b"null",
        b"<html>",
        b'{"done":true}',
        b'{"message":{"content":1}}',
        b'{"message":"x"}',
        b'{"message":{"content":"\xff"}}',
        b'{"message":{"content":"\\ud800"}}',
        b'{"message":{"tool_calls":[{}]}}',
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_a_value_error(garbage: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(garbage + b"\n")


@given(st.lists(st.integers(0, 10_000)))
def test_splitting_anywhere_changes_nothing(cut: Cut, places: list[int]) -> None:
    stream = (
        said(thinking="höm")
        + said("Grüß dich 🦙\n")
        + b"\r\n"
        + said("", tool_calls=[call("f", {"a": "ü"})])
        + END
        + b"tail"
    )
    assert read(*cut(stream, places)) == read(stream)


FRAGMENTS = st.sampled_from(
    [b"{", b"}", b"[", b"]", b":", b",", b"\n", b'"', b"1", b"null", b"true", b"\\", b"\xff", b" ",
     b'"message"', b'"content"', b'"done"', b'"error"', b'"response"', b'"tool_calls"',
     b'{"message":{"content":"x"},"done":', b'{"response":"', b'"function"', b'"arguments"',
     b'"logprobs"', b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":']
)  # fmt: skip


@given(st.lists(FRAGMENTS).map(b"".join) | st.binary())
def test_arbitrary_bytes_give_chunks_or_a_value_error(stream: bytes) -> None:
    for decode in (
        OLLAMA.stream_decoder(CHAT).feed,
        lambda body: OLLAMA.decode_answer(CHAT, body),
        OLLAMA.decode_vectors,
    ):
        try:
            decode(stream + b"\n")
        except ValueError:
            continue


def test_a_whole_answer() -> None:
    body = line(
        message={
            "role": "assistant",
            "content": "Hi",
            "thinking": "hm",
            "tool_calls": [call("f", {})],
        },
        done=True,
        done_reason="stop",
        prompt_eval_count=4,
        eval_count=2,
    )
    assert OLLAMA.decode_answer(CHAT, body, "s") == Chunk(
        "Hi",
        thinking="hm",
        tool_calls=[ToolCall("call_s_1", "f", "{}")],
        finish_reason="tool_calls",
        usage=Usage(4, 2),
    )
    generated = line(response="Hi", done=True, done_reason="length")
    assert OLLAMA.decode_answer(COMPLETION, generated) == Chunk(
        "Hi", finish_reason="length", usage=Usage()
    )


@pytest.mark.parametrize("body", [b"", b"{}", said("cut off"), b'{"error":"x"}', said()])
def test_a_whole_answer_is_complete_or_a_value_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        OLLAMA.decode_answer(CHAT, body)


def test_vectors() -> None:
    answer = OLLAMA.decode_vectors(
        b'{"model":"m","embeddings":[[0.5,1],[-2,3.25]],"prompt_eval_count":7,"load_duration":1}'
    )
    assert answer.vectors == [[0.5, 1.0], [-2.0, 3.25]]
    assert answer.usage == Usage(7)
    for body in (b"{}", b'{"embeddings":[["x"]]}', b"[" * 100_000):
        with pytest.raises(ValueError, match=r"."):
            OLLAMA.decode_vectors(body)


def test_durations_become_seconds() -> None:
    told = {"prompt_eval_duration": 1_500_000_000, "eval_duration": 4_250_000_000}
    last = line(message={"content": ""}, done=True, prompt_eval_count=26, eval_count=290, **told)
    usage = Usage(26, 290, prompt_s=1.5, completion_s=4.25)
    assert read(last)[-1].usage == usage
    assert OLLAMA.decode_answer(CHAT, last).usage == usage
