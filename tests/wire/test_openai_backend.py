"""OpenAI-kind backends: golden bodies, streams and answers as chunks, refusals."""

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.config.settings import Model
from arriero.wire.canonical import (
    CanonicalRequest,
    Chat,
    Chunk,
    Completion,
    Embedding,
    Message,
    Part,
    Sampling,
    Tool,
    ToolCall,
    Usage,
)
from arriero.wire.dialect import FailureKind
from arriero.wire.openai_backend import OPENAI

PLAIN = Model(name="alias", routes=())
HELLO = [Message("user", "Hello")]
CHAT = Chat(model="a", messages=HELLO, sampling=Sampling(), stream=True)
COMPLETION = Completion(model="a", prompt="Hello", sampling=Sampling(), stream=True)

Cut = Callable[[bytes, list[int]], list[bytes]]


def body(request: CanonicalRequest, model: Model = PLAIN) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(OPENAI.encode(request, "qwen", model)[1])
    return decoded


def chat(messages: list[Message] = HELLO, **fields: Any) -> Chat:
    fields.setdefault("sampling", Sampling())
    return Chat(model="alias", messages=messages, **fields)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


# Requests.


def test_what_the_client_did_not_say_is_left_out() -> None:
    assert body(chat()) == {"model": "qwen", "messages": [{"role": "user", "content": "Hello"}]}


def test_paths() -> None:
    assert OPENAI.encode(CHAT, "m", PLAIN)[0] == b"/v1/chat/completions"
    assert OPENAI.encode(COMPLETION, "m", PLAIN)[0] == b"/v1/completions"
    assert OPENAI.encode(Embedding(model="a", inputs=["x"]), "m", PLAIN)[0] == b"/v1/embeddings"


@pytest.mark.parametrize("request_", [CHAT, COMPLETION], ids=["chat", "completion"])
def test_usage_is_always_asked_for_in_a_stream(request_: CanonicalRequest) -> None:
    said = body(request_)
    assert said["stream"] is True
    assert said["stream_options"] == {"include_usage": True}


def test_sampling_over_the_aliass_options_and_under_its_limit() -> None:
    model = Model(
        name="a",
        routes=(),
        context=8192,
        keep_alive="5m",
        max_output_tokens=100,
        options={"temperature": 0.2, "top_k": 5, "num_predict": 50, "num_ctx": 1, "num_gpu": 1},
    )
    said = body(chat(sampling=Sampling(temperature=0.9, min_p=0.1, stop=["x"])), model)
    assert {k: v for k, v in said.items() if k != "messages"} == {
        "model": "qwen",
        "temperature": 0.9,
        "top_k": 5,
        "min_p": 0.1,
        "stop": ["x"],
        "max_tokens": 50,
    }
    assert body(chat(sampling=Sampling(max_tokens=500)), model)["max_tokens"] == 100


def test_the_cache_key_is_passed_on() -> None:
    assert body(chat(cache_key="chat-1"))["prompt_cache_key"] == "chat-1"


def test_repeat_penalty_has_two_names() -> None:
    said = body(chat(sampling=Sampling(repeat_penalty=1.1)))
    assert said["repeat_penalty"] == said["repetition_penalty"] == 1.1


def test_of_a_clients_own_options_only_sampling_and_only_where_allowed() -> None:
    options = {"typical_p": raw(0.5), "num_ctx": raw(9), "n": raw(8), "model": raw("evil")}
    request = chat(model_options=options)
    assert "typical_p" not in body(request)
    said = body(request, Model(name="a", routes=(), client_options="allow"))
    assert set(said) == {"model", "messages", "typical_p"}
    assert said["model"] == "qwen"


def test_parts_are_parts_again() -> None:
    image = base64.b64encode(b"png").decode()
    content = [
        Part(text="What?"),
        Part(image_base64=image, image_type="image/png"),
        Part(image_base64=image),
    ]
    [turn] = body(chat([Message("user", content)]))["messages"]
    assert turn["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{image}"}},
    ]


def test_tool_calls_thinking_and_empty_turns() -> None:
    messages = [
        Message("user", ""),
        Message("assistant", thinking="hm", tool_calls=[ToolCall("call_1", "f", '{"a":1}')]),
        Message("tool", "rain", tool_call_id="call_1", tool_name="f"),
        Message("assistant", "It rains."),
    ]
    assert body(chat(messages))["messages"] == [
        {"role": "user", "content": ""},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "hm",
            "tool_calls": [
                {
                    "type": "function",
                    "id": "call_1",
                    "function": {"name": "f", "arguments": '{"a":1}'},
                }
            ],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "It rains."},
    ]


def test_tools_and_the_choice_among_them() -> None:
    schema = {"type": "object"}
    request = chat(
        tools=[Tool("f", "does f", raw(schema), strict=True)],
        tool_choice=raw("required"),
        parallel_tool_calls=False,
    )
    said = body(request)
    assert said["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "does f",
                "parameters": schema,
                "strict": True,
            },
        }
    ]
    assert (said["tool_choice"], said["parallel_tool_calls"]) == ("required", False)
    assert "tool_choice" not in body(chat(tool_choice=raw("none")))


def test_formats() -> None:
    assert body(chat(format=raw("json")))["response_format"] == {"type": "json_object"}
    named = body(chat(format=raw({"type": "object"}), format_name="person"))["response_format"]
    assert named == {
        "type": "json_schema",
        "json_schema": {"name": "person", "schema": {"type": "object"}, "strict": True},
    }
    assert body(chat(format=raw({})))["response_format"]["json_schema"]["name"]


@pytest.mark.parametrize(
    ("think", "fields"),
    [
        (True, {"chat_template_kwargs": {"enable_thinking": True}}),
        (False, {"chat_template_kwargs": {"enable_thinking": False}}),
        ("low", {"reasoning_effort": "low"}),
        ("max", {"reasoning_effort": "high"}),
    ],
)
def test_think(think: bool | str, fields: dict[str, Any]) -> None:  # noqa: FBT001  # the field's type
    said = body(chat(think=think))
    assert {k: v for k, v in said.items() if k not in {"model", "messages"}} == fields


def test_logprobs_and_continuation() -> None:
    said = body(chat(logprobs=True, top_logprobs=2, continue_final_message=True))
    assert (said["logprobs"], said["top_logprobs"]) == (True, 2)
    assert (said["continue_final_message"], said["add_generation_prompt"]) == (True, False)


def test_a_completion_without_echo() -> None:
    request = Completion(
        model="a",
        prompt="def f(",
        suffix="return",
        echo=True,
        logprobs=0,
        sampling=Sampling(max_tokens=5),
    )
    assert body(request) == {
        "model": "qwen",
        "prompt": "def f(",
        "suffix": "return",
        "logprobs": 0,
        "max_tokens": 5,
    }


def test_an_embedding_asks_for_floats() -> None:
    request = Embedding(model="a", inputs=["x", "y"], dimensions=8, encoding="base64")
    assert body(request) == {"model": "qwen", "input": ["x", "y"], "dimensions": 8}


# Streams.


def event(choice: object = None, **fields: Any) -> bytes:
    said = {"id": "c", "model": "qwen", "choices": [] if choice is None else [choice], **fields}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def delta(finish_reason: str | None = None, **fields: Any) -> bytes:
    return event({"index": 0, "delta": fields, "finish_reason": finish_reason})


def read(stream: bytes, request: CanonicalRequest = CHAT, id_seed: str = "") -> list[Chunk]:
    return OPENAI.stream_decoder(request, id_seed).feed(stream)


USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
DONE = b"data: [DONE]\n\n"
END = delta("stop") + event(usage=USAGE) + DONE
LAST = Chunk(finish_reason="stop", usage=Usage(9, 2, 4, cached_told=True))


def test_text_and_the_end() -> None:
    decoder = OPENAI.stream_decoder(CHAT)
    assert decoder.feed(delta(role="assistant", content=None) + delta(content="Hi")) == [
        Chunk("Hi")
    ]
    assert decoder.feed(delta("stop") + event(usage=USAGE)) == []
    assert not decoder.finished
    assert decoder.feed(DONE) == [LAST]
    assert (decoder.finished, decoder.feed(b"data: x\n\n")) == (True, [])


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thinking_has_two_names(name: str) -> None:
    assert read(delta(**{name: "hm"}) + delta(content="a", **{name: "b"})) == [
        Chunk(thinking="hm"),
        Chunk("a", thinking="b"),
    ]


def test_usage_may_stand_beside_the_finish_reason_or_be_absent() -> None:
    choice = {"delta": {}, "finish_reason": "length"}
    assert read(event(choice, usage={"prompt_tokens": 1}) + DONE) == [
        Chunk(finish_reason="length", usage=Usage(1))
    ]
    assert read(delta("stop") + DONE) == [Chunk(finish_reason="stop", usage=Usage())]


@pytest.mark.parametrize(
    ("details", "cached", "told"),
    [
        ({"cached_tokens": 7}, 7, True),
        ({"cached_tokens": 0}, 0, True),
        ({}, 0, False),
        (None, 0, False),
    ],
)
def test_whether_cached_tokens_were_told_is_known(
    details: object, cached: int, *, told: bool
) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": details}
    got = read(delta("stop") + event(usage=usage) + DONE)[-1].usage
    assert got == Usage(9, 2, cached, cached_told=told)


def test_llama_cpps_times_stand_beside_the_usage() -> None:
    timings = {"cache_n": 4, "prompt_n": 5, "prompt_ms": 250.0, "predicted_ms": 40.5}
    got = read(delta("stop") + event(usage=USAGE, timings=timings) + DONE)[-1].usage
    assert got == Usage(9, 2, 4, 0.25, 0.0405, cached_told=True)


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("tool_calls", "tool_calls"),
        ("function_call", "tool_calls"),
        ("content_filter", "content_filter"),
        ("eos", "stop"),
    ],
)
def test_finish_reasons(reason: str, ours: str) -> None:
    assert read(delta(reason) + DONE)[-1].finish_reason == ours


def fragment(index: int | None = 0, arguments: object = "", **fields: Any) -> dict[str, Any]:
    name = fields.pop("name", None)
    return {"index": index, "function": {"name": name, "arguments": arguments}, **fields}


def test_tool_calls_are_gathered_from_their_fragments() -> None:
    stream = (
        delta(tool_calls=[fragment(0, name="f", id="call_a")])
        + delta(tool_calls=[fragment(1, name="g", id="chatcmpl-tool-7")])
        + delta(tool_calls=[fragment(0, '{"a"'), fragment(1, "{")])
        + delta(tool_calls=[fragment(0, ":1}")])
        + delta(tool_calls=[fragment(1, "}")])
        + delta("stop")
        + DONE
    )
    assert read(stream, id_seed="r") == [
        Chunk(
            tool_calls=[ToolCall("call_a", "f", '{"a":1}'), ToolCall("call_r_2", "g", "{}")],
            finish_reason="tool_calls",
            usage=Usage(),
        )
    ]


def test_whole_tool_calls_without_index_or_with_an_object() -> None:
    stream = (
        delta(tool_calls=[fragment(None, {"a": 1}, name="f")])
        + delta(tool_calls=[fragment(None, None, name="g")])
        + delta("tool_calls")
        + DONE
    )
    assert [(call.name, call.arguments) for call in read(stream)[0].tool_calls] == [
        ("f", '{"a":1}'),
        ("g", "{}"),
    ]


def test_tool_calls_have_a_limit() -> None:
    many = [fragment(i, name="f") for i in range(1025)]
    assert read(delta(tool_calls=many[:1024])) == []
    with pytest.raises(ValueError, match="too many"):
        read(delta(tool_calls=many))


@pytest.mark.parametrize(
    "error", ["boom", {"code": 500, "message": "boom", "type": "server_error"}]
)
def test_an_error_event_ends_the_stream_unfinished(error: object) -> None:
    decoder = OPENAI.stream_decoder(CHAT)
    stream = delta(content="Hi") + event(error=error) + END
    assert decoder.feed(stream) == [Chunk("Hi"), Chunk(error="boom")]
    assert decoder.feed(END) == []
    assert not decoder.finished


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_request_that_the_backend_dropped_is_an_error(reason: str) -> None:
    assert read(delta(reason))[0].error


def test_a_completion_streams_text() -> None:
    stream = event({"text": "Hi", "finish_reason": None}) + event(
        {"text": "", "finish_reason": "stop"}
    )
    assert read(stream + DONE, COMPLETION) == [
        Chunk("Hi"),
        Chunk(finish_reason="stop", usage=Usage()),
    ]


def test_logprobs_in_both_shapes_become_one() -> None:
    tokens = [{"token": "a", "logprob": -1.0, "bytes": None, "top_logprobs": []}]
    [new] = read(event({"delta": {"content": "a"}, "logprobs": {"content": tokens}}))
    assert new.logprobs is not None
    assert json.loads(bytes(new.logprobs)) == tokens
    older = {
        "tokens": ["a", "b"],
        "token_logprobs": [None, -2.0],
        "top_logprobs": [None, {"b": -2.0, "c": -3.0}],
        "text_offset": [0, 1],
    }
    [old] = read(event({"text": "ab", "logprobs": older}), COMPLETION)
    assert old.logprobs is not None
    assert json.loads(bytes(old.logprobs)) == [
        {"token": "a", "logprob": 0.0, "bytes": None, "top_logprobs": []},
        {
            "token": "b",
            "logprob": -2.0,
            "bytes": None,
            "top_logprobs": [
                {"token": "b", "logprob": -2.0, "bytes": None},
                {"token": "c", "logprob": -3.0, "bytes": None},
            ],
        },
    ]


@pytest.mark.parametrize("logprobs", [None, {}, {"content": None}, {"content": []}, {"tokens": []}])
def test_no_logprobs(logprobs: object) -> None:
    assert read(event({"delta": {"content": "a"}, "logprobs": logprobs})) == [Chunk("a")]


@pytest.mark.parametrize(
    "stream",
    [
        b"data: {}\n\n",
        b"data: []\n\n",
        b"data: x\n\n",
        b'data: {"choices":[{"delta":{"content":1}}]}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        delta(content="x") + DONE,  # an end without a finish reason looks clean and is not
    ],
)
def test_what_is_no_answer_is_a_value_error(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(stream)


@given(places=st.lists(st.integers(0, 10_000)), newline=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_splitting_anywhere_changes_nothing(cut: Cut, places: list[int], newline: bytes) -> None:
    stream = (
        b": ping\n\n"
        + delta(content="Grüß 🦙", reasoning="hö")
        + delta(tool_calls=[fragment(0, '{"a":', name="f")])
        + b"data:\n\n"
        + delta(tool_calls=[fragment(0, '"ü"}')])
        + END
        + b"tail"
    )
    decoder = OPENAI.stream_decoder(CHAT)
    parts = cut(stream.replace(b"\n", newline), places)
    assert [chunk for part in parts for chunk in decoder.feed(part)] == read(stream)
    assert decoder.finished


FRAGMENTS = st.sampled_from(
    [b"data: ", b"\n\n", b"\n", b"\r", b"{", b"}", b"[", b"]", b":", b",", b'"', b"null", b"[DONE]",
     b'"choices"', b'"delta"', b'"content"', b'"error"', b'"usage"', b'"tool_calls"', b'"x"', b"1",
     b'data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n', b"\xff",
     b'"function"', b'"arguments"', b'"index"', b'"logprobs"']
)  # fmt: skip


@given(st.lists(FRAGMENTS).map(b"".join) | st.binary())
def test_arbitrary_bytes_give_chunks_or_a_value_error(stream: bytes) -> None:
    for decode in (
        read,
        lambda body: OPENAI.decode_answer(CHAT, body),
        OPENAI.decode_vectors,
    ):
        try:
            decode(stream + b"\n\n")
        except ValueError:
            continue


# Whole answers.


def test_a_whole_answer() -> None:
    answer = {
        "choices": [
            {
                "message": {
                    "role": "assistant",
                    "content": "Hi",
                    "reasoning_content": "hm",
                    "tool_calls": [{"id": "call_1", **fragment(None, '{"a":1}', name="f")}],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": USAGE,
    }
    assert OPENAI.decode_answer(CHAT, json.dumps(answer).encode()) == Chunk(
        "Hi",
        thinking="hm",
        tool_calls=[ToolCall("call_1", "f", '{"a":1}')],
        finish_reason="tool_calls",
        usage=Usage(9, 2, 4, cached_told=True),
    )
    text = b'{"choices":[{"text":"Hi","finish_reason":"length"}],"usage":null}'
    assert OPENAI.decode_answer(COMPLETION, text) == Chunk(
        "Hi", finish_reason="length", usage=Usage()
    )


@pytest.mark.parametrize(
    "answer",
    [b"", b"{}", b'{"choices":[]}', b'{"error":"x"}', b'{"choices":[{"message":{"content":"x"}}]}'],
)
def test_a_whole_answer_is_complete_or_a_value_error(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        OPENAI.decode_answer(CHAT, answer)


def test_vectors_in_order_in_floats_or_base64() -> None:
    packed = base64.b64encode(struct.pack("<2f", 0.5, -2.0)).decode()
    answer = {
        "data": [{"index": 1, "embedding": [1, 2.5]}, {"index": 0, "embedding": packed}],
        "usage": {"prompt_tokens": 3},
    }
    vectors = OPENAI.decode_vectors(json.dumps(answer).encode())
    assert vectors.vectors == [[0.5, -2.0], [1.0, 2.5]]
    assert vectors.usage == Usage(3)


@pytest.mark.parametrize("embedding", ['"!"', '"AAA="', '"ü"', '["x"]', "null"])
def test_vectors_of_another_kind_are_a_value_error(embedding: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        OPENAI.decode_vectors(f'{{"data":[{{"embedding":{embedding}}}]}}'.encode())


# Refusals.


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (503, {"error": {"code": 503, "message": "Loading model"}}, FailureKind.BUSY),
        (429, {"detail": "slow down"}, FailureKind.BUSY),
        (404, {"object": "error", "message": "The model `x` does not exist."},
         FailureKind.MISSING_MODEL),
        (404, {"detail": "Not Found"}, FailureKind.BROKEN),
        (400, {"error": {"message": "bad top_p", "type": "BadRequestError"}}, FailureKind.CLIENT),
        (422, {"detail": [{"msg": "field required"}]}, FailureKind.CLIENT),
        (413, {}, FailureKind.CLIENT),
        (501, {"error": {"message": "This server does not support embeddings."}},
         FailureKind.CLIENT),
        (501, {"error": {"message": "This server cannot rerank.", "type": "not_supported_error"}},
         FailureKind.CLIENT),
        (500, {"error": {"message": "tools param requires --jinja flag"}}, FailureKind.CLIENT),
        (500, {"error": {"message": "CUDA error"}}, FailureKind.BROKEN),
        (401, {"error": {"message": "Invalid API Key"}}, FailureKind.BROKEN),
    ],
)  # fmt: skip
def test_refusals(status: int, answer: object, kind: FailureKind) -> None:
    found = OPENAI.decode_failure(status, json.dumps(answer).encode())
    assert found.kind is kind
    assert found.message


@pytest.mark.parametrize(
    "error",
    [
        {"code": 400, "type": "exceed_context_size_error", "message": "too long", "n_ctx": 4096},
        {"message": "This model's maximum context length is 4096 tokens. However, you requested"},
        {"message": "The decoder prompt (length 9) is longer than the maximum model length of 4"},
    ],
)
def test_context_errors_have_openais_code(error: object) -> None:
    found = OPENAI.decode_failure(400, json.dumps({"error": error}).encode())
    assert (found.kind, found.code) == (FailureKind.CLIENT, "context_length_exceeded")


@pytest.mark.parametrize(
    "words",
    [
        "However, you requested 5000 tokens (4000 in the messages, 1000 in the completion).",
        "However, your request has 5000 input tokens. Please reduce the length.",
    ],
)
def test_vllms_figures_are_taken(words: str) -> None:
    error = {"message": f"This model's maximum context length is 4096 tokens. {words}"}
    found = OPENAI.decode_failure(400, json.dumps({"error": error}).encode())
    assert (found.needed, found.available) == (5000, 4096)


def test_an_error_event_is_judged_by_its_words() -> None:
    assert OPENAI.decode_stream_error("boom").kind is FailureKind.BROKEN
    found = OPENAI.decode_stream_error("exceeds the available context size")
    assert found.code == "context_length_exceeded"
