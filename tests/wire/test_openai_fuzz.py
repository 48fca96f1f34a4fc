"""Whatever the bytes: a canonical struct or a BadRequest, and nothing else."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arriero.base.errors import BadRequest
from arriero.wire.canonical import CanonicalRequest, Chat, Completion, Embedding
from arriero.wire.openai_errors import error_body
from arriero.wire.openai_params import RULES, Operation
from arriero.wire.openai_request import decode_chat, decode_completion, decode_embedding

DECODERS: dict[Operation, tuple[Callable[[bytes], CanonicalRequest], type[CanonicalRequest]]] = {
    "chat": (decode_chat, Chat),
    "completion": (decode_completion, Completion),
    "embedding": (decode_embedding, Embedding),
}
BASES: dict[Operation, dict[str, Any]] = {
    "chat": {
        "model": "m",
        "messages": [
            {"role": "developer", "content": [{"type": "text", "text": "x"}]},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "reasoning_content": "hm",
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "f", "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "2"},
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "2"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
        "stream": True,
        "stream_options": {"include_usage": True},
        "options": {"num_ctx": 1, "stop": ["a"]},
        "reasoning": {"effort": "low"},
        "thinking": {"type": "enabled"},
        "chat_template_kwargs": {"enable_thinking": True},
        "logprobs": True,
        "top_logprobs": 1,
    },
    "completion": {"model": "m", "prompt": ["x"], "stop": ["a"], "options": {"seed": 1}},
    "embedding": {"model": "m", "input": ["x"], "dimensions": 3, "options": {"num_ctx": 1}},
}

# Text without half surrogates, which no UTF-8 body can hold other than escaped.
TEXTS = st.text(max_size=8) | st.sampled_from(
    ["function", "none", "text", "image_url", "json_schema", "data:;base64,", '{"a":', "\x00", "é"]
)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just(10**400)
LEAVES = st.none() | st.booleans() | NUMBERS | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OPERATIONS = st.sampled_from(list(DECODERS))


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of everything within a JSON value."""
    inner: Any = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    return [at, *(place for key, one in inner for place in places(one, (*at, key)))]


def put(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copied = value.copy()
    copied[at[0]] = put(value[at[0]], at[1:], new)
    return copied


def decode(operation: Operation, body: bytes) -> BadRequest | None:
    decoder, canonical = DECODERS[operation]
    try:
        assert isinstance(decoder(body), canonical)
    except BadRequest as error:
        json.loads(error_body(error, "1"))  # whatever is quoted in it can be told
        return error
    return None


@given(operation=OPERATIONS, value=VALUES, data=st.data())
def test_any_value_in_any_place(operation: Operation, value: Any, data: st.DataObject) -> None:
    base = BASES[operation]
    at = data.draw(st.sampled_from(places(base)))
    decode(operation, json.dumps(put(base, at, value)).encode())


@given(
    operation=OPERATIONS,
    fields=st.dictionaries(st.sampled_from([rule.name for rule in RULES]) | TEXTS, VALUES),
)
def test_any_value_for_any_parameter(operation: Operation, fields: dict[str, Any]) -> None:
    decode(operation, json.dumps({**BASES[operation], **fields}, ensure_ascii=False).encode())


@given(operation=OPERATIONS, body=st.binary(max_size=64))
@example("chat", b"\xef\xbb\xbf{}")
@example("chat", b"\xff\xfe")
@example("chat", b"")
@example("chat", b"[]")
@example("chat", b'"x"')
@example("chat", b"{} {}")
def test_any_bytes(operation: Operation, body: bytes) -> None:
    assert decode(operation, body) is not None


@given(operation=OPERATIONS, data=st.data())
def test_damaged_bodies(operation: Operation, data: st.DataObject) -> None:
    body = bytearray(json.dumps(BASES[operation]).encode())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    decode(operation, bytes(body))


@given(operation=OPERATIONS, data=st.data())
def test_cut_bodies_are_refused(operation: Operation, data: st.DataObject) -> None:
    body = json.dumps(BASES[operation]).encode()
    assert decode(operation, body[: data.draw(st.integers(0, len(body) - 1))]) is not None


@pytest.mark.parametrize(
    "value",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e999",
        b"1" * 5000,
        b"01",
        b"-",
        b"[" * 100_000,
        b" [" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'"\\ud800"',
        b'"\\udc00 x"',
        b'"\xff"',
        b'"\x01"',
        b'"\\q"',
    ],
    ids=lambda value: value[:12].decode("latin-1"),
)
@pytest.mark.parametrize("name", ["temperature", "seed", "tool_choice", "num_ctx", "audio", "new"])
def test_what_is_no_json_or_no_text(name: str, value: bytes) -> None:
    base = b'{"model":"m","messages":[{"role":"user","content":"x"}],"%b":%b}'
    error = decode("chat", base % (name.encode(), value))
    number = value.endswith((b"9", b"11"))
    unread = name in {"num_ctx", "new"}  # a valid number that nobody here has to read
    assert (error is None) == (number and unread)


def test_half_a_surrogate_pair_is_explained() -> None:
    error = decode("chat", b'{"model":"m","messages":[{"role":"user","content":"\\uD83D"}]}')
    assert error is not None
    assert "pairs" in error.text


def test_of_two_equal_keys_the_last_counts() -> None:
    body = b'{"model":"a","model":"b","messages":[{"role":"user"}],"n":2,"n":1}'
    assert decode_chat(body).model == "b"


def test_quoted_values_are_cut() -> None:
    long = "x" * 1_000_000
    body = {"model": "m", "input": "x", "encoding_format": long}
    error = decode("embedding", json.dumps(body).encode())
    assert error is not None
    assert len(error_body(error, "1")) < 5000
