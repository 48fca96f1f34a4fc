"""Each field of OpenAI's requests, in its good and its bad forms."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from arriero.base.errors import BadRequest, UnsupportedParameter
from arriero.wire.canonical import Chat, Completion, Embedding, Sampling
from arriero.wire.openai_request import decode_chat, decode_completion, decode_embedding

USER = {"role": "user", "content": "Hello"}
TOOL = {
    "type": "function",
    "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}},
}


def chat(**fields: Any) -> Chat:
    return decode_chat(json.dumps({"model": "m", "messages": [USER], **fields}).encode())


def completion(**fields: Any) -> Completion:
    return decode_completion(json.dumps({"model": "m", "prompt": "Once", **fields}).encode())


def embedding(**fields: Any) -> Embedding:
    return decode_embedding(json.dumps({"model": "m", "input": "Once", **fields}).encode())


def refused(decode: Callable[..., object], **fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        decode(**fields)
    assert caught.value.status == 400
    return caught.value


def test_small_chat_says_nothing_the_client_did_not_say() -> None:
    got = chat()
    assert (got.model, got.messages[0].role, got.messages[0].content) == ("m", "user", "Hello")
    assert got.sampling == Sampling()
    assert got == Chat(model="m", messages=got.messages, text_only=True, sampling=Sampling())


def test_null_counts_as_not_sent() -> None:
    names = ("stream", "temperature", "top_p", "seed", "stop", "tools", "tool_choice", "user")
    more = ("response_format", "n", "logit_bias", "audio", "metadata", "num_ctx", "options")
    got = chat(**dict.fromkeys(names + more))
    assert got == chat()
    assert got.ignored == []


@pytest.mark.parametrize("decode", [chat, completion])
def test_sampling_is_carried_over(decode: Callable[..., Chat | Completion]) -> None:
    fields: dict[str, Any] = {
        "temperature": 1,
        "top_p": 0.5,
        "top_k": 40,
        "min_p": 0.05,
        "seed": -(2**63),
        "stop": ["a", "b"],
        "presence_penalty": -2,
        "frequency_penalty": 2,
        "repeat_penalty": 1.1,
        "max_tokens": 7,
    }
    assert decode(**fields).sampling == Sampling(**fields)


def test_frequency_penalty_is_never_repeat_penalty() -> None:
    assert chat(frequency_penalty=0).sampling.repeat_penalty is None


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"max_tokens": 5, "max_completion_tokens": 6}, 6),
        ({"max_completion_tokens": 6}, 6),
        ({"max_tokens": 10.0}, 10),
        ({"num_predict": 3}, 3),
        ({"num_predict": 3, "max_tokens": 5}, 5),
        ({"num_predict": -1}, None),
        ({"options": {"num_predict": 3}}, 3),
        ({"options": {"num_predict": 3}, "max_tokens": 5}, 5),
        ({}, None),
    ],
)
def test_token_limits(fields: dict[str, Any], tokens: int | None) -> None:
    limit = chat(**fields).sampling.max_tokens
    assert limit == tokens
    assert type(limit) is type(tokens)


@pytest.mark.parametrize(
    ("stop", "stops"),
    [("a", ["a"]), (["a", ""], ["a"]), ("", None), ([], None), (["a"] * 16, ["a"] * 16)],
)
def test_stop(stop: object, stops: list[str] | None) -> None:
    assert chat(stop=stop).sampling.stop == stops


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("temperature", -0.01),
        ("temperature", 2.01),
        ("temperature", "0.7"),
        ("temperature", True),
        ("top_p", 1.01),
        ("top_p", -0.01),
        ("min_p", 1.01),
        ("top_k", 1.5),
        ("top_k", 2**40),
        ("seed", 2**63),
        ("seed", 0.5),
        ("seed", 1e300),
        ("presence_penalty", 2.01),
        ("frequency_penalty", -2.01),
        ("max_tokens", 0),
        ("max_tokens", 1.5),
        ("max_tokens", 2**31),
        ("max_completion_tokens", 0),
        ("max_completion_tokens", -1),
        ("stop", ["a"] * 17),
        ("stop", 1),
        ("stream", 1),
        ("stream", "true"),
        ("user", 7),
        ("user", "x" * 513),
        ("keep_alive", 1.5),
        ("options", []),
    ],
)
@pytest.mark.parametrize("decode", [chat, completion])
def test_shared_parameters_out_of_range(
    decode: Callable[..., object], param: str, value: object
) -> None:
    error = refused(decode, **{param: value})
    assert error.param == param
    assert param in error.message


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("model", ""),
        ("model", "x" * 257),
        ("model", 1),
        ("messages", []),
        ("messages", {}),
        ("messages", "Hello"),
        ("top_logprobs", 5),
        ("parallel_tool_calls", "yes"),
        ("format", "xml"),
        ("format", 1),
        ("continue_final_message", True),
        ("think", "hard"),
        ("reasoning_effort", "hardest"),
        ("functions", "x"),
        ("function_call", "sometimes"),
    ],
)
def test_bad_chat_parameters(param: str, value: object) -> None:
    assert refused(chat, **{param: value}).param == param


def test_missing_fields_are_named() -> None:
    for body, param in ((b"{}", "model"), (b'{"model":"m"}', "messages")):
        with pytest.raises(BadRequest) as caught:
            decode_chat(body)
        assert caught.value.param == param
        assert caught.value.message == f"{param} is required"


def test_include_usage_needs_a_stream() -> None:
    wanted = {"stream_options": {"include_usage": True, "include_obfuscation": False}}
    assert chat(stream=True, **wanted).include_usage
    assert not chat(**wanted).include_usage
    assert not chat(stream=True).include_usage
    assert not chat(stream=True, stream_options=None).include_usage


def test_user_is_the_safety_identifier_if_there_is_one() -> None:
    assert chat(user="a").user == "a"
    assert chat(user="a", safety_identifier="b").user == "b"
    assert completion(user="a").user == embedding(user="a").user == "a"


@pytest.mark.parametrize(
    ("fields", "raw", "name"),
    [
        ({"response_format": {"type": "text"}}, None, ""),
        ({"response_format": {"type": "json_object"}}, b'"json"', ""),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"a": 1}, "strict": True},
                }
            },
            b'{"a": 1}',
            "n",
        ),
        ({"format": "json"}, b'"json"', ""),
        ({"format": {"a": 1}}, b'{"a": 1}', ""),
        ({"format": ""}, None, ""),
    ],
)
def test_formats(fields: dict[str, Any], raw: bytes | None, name: str) -> None:
    got = chat(**fields)
    assert (None if got.format is None else bytes(got.format)) == raw
    assert got.format_name == name


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema.schema"),
        ({"type": "json_schema", "json_schema": {}}, "response_format.json_schema.schema"),
        (
            {"type": "json_schema", "json_schema": {"schema": []}},
            "response_format.json_schema.schema",
        ),
        ("json", "response_format"),
    ],
)
def test_bad_formats(value: object, param: str) -> None:
    assert refused(chat, response_format=value).param == param


@pytest.mark.parametrize(
    ("fields", "think"),
    [
        ({}, None),
        ({"think": True}, True),
        ({"think": False}, False),
        ({"think": "high"}, "high"),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, "low"),
        ({"reasoning_effort": "medium"}, "medium"),
        ({"reasoning_effort": "xhigh"}, "max"),
        ({"reasoning": {"effort": "max"}}, "max"),
        ({"reasoning": {"enabled": False}}, False),
        ({"reasoning": {}}, None),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, True),
        ({"thinking": {"type": "disabled"}}, False),
        ({"enable_thinking": False}, False),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"thinking": True}}, True),
        ({"think": False, "reasoning_effort": "high"}, False),
        ({"reasoning_effort": "high", "enable_thinking": False}, "high"),
    ],
)
def test_thinking(fields: dict[str, Any], think: bool | str | None) -> None:  # noqa: FBT001 - the canonical type
    assert chat(**fields).think == think


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning": {"effort": "no"}}, "reasoning.effort"),
        ({"thinking": {"type": "no"}}, "thinking.type"),
        ({"thinking": {}}, "thinking.type"),
        (
            {"chat_template_kwargs": {"enable_thinking": 1}},
            "chat_template_kwargs.enable_thinking",
        ),
    ],
)
def test_bad_thinking(fields: dict[str, Any], param: str) -> None:
    assert refused(chat, **fields).param == param


def test_unknown_template_arguments_are_told() -> None:
    got = chat(chat_template_kwargs={"enable_thinking": True, "mood": "gay"})
    assert got.ignored == ["chat_template_kwargs.mood"]


def test_logprobs() -> None:
    got = chat(logprobs=True, top_logprobs=20)
    assert (got.logprobs, got.top_logprobs) == (True, 20)
    assert chat(logprobs=False, top_logprobs=0).top_logprobs == 0
    assert refused(chat, logprobs=True, top_logprobs=21).param == "top_logprobs"
    assert refused(chat, logprobs=True, top_logprobs=-1).param == "top_logprobs"


def test_continuing_the_last_message() -> None:
    open_end = [USER, {"role": "assistant", "content": "Hell"}]
    assert chat(
        messages=open_end, continue_final_message=True, add_generation_prompt=False
    ).continue_final_message
    assert chat(messages=open_end, add_generation_prompt=False).continue_final_message
    assert not chat(messages=open_end).continue_final_message
    assert not chat(add_generation_prompt=False).continue_final_message
    assert not chat(
        messages=open_end, continue_final_message=False, add_generation_prompt=False
    ).continue_final_message
    error = refused(
        chat, messages=open_end, continue_final_message=True, add_generation_prompt=True
    )
    assert error.param == "add_generation_prompt"


def test_ollama_options_are_sorted() -> None:
    got = chat(
        num_ctx=8192,
        temperature=0.1,
        options={"num_ctx": 4096, "num_gpu": 1, "temperature": 0.9, "top_k": 5.0, "mood": 1},
        keep_alive="5m",
    )
    assert {name: bytes(raw) for name, raw in got.model_options.items()} == {
        "num_ctx": b"8192",
        "num_gpu": b"1",
    }
    assert (got.sampling.temperature, got.sampling.top_k) == (0.1, 5)
    assert got.keep_alive == "5m"
    assert got.ignored == ["options.mood"]


def test_bad_ollama_options_are_named() -> None:
    assert refused(chat, options={"temperature": "hot"}).param == "options.temperature"
    assert refused(chat, options={"seed": 0.5}).param == "options.seed"
    assert refused(embedding, options={"seed": 0.5}).param == "options.seed"


@pytest.mark.parametrize(("sent", "kept"), [(-1, -1), (300.0, 300), ("5m", "5m"), (None, None)])
def test_keep_alive(sent: object, kept: int | str | None) -> None:
    for got in (chat(keep_alive=sent), completion(keep_alive=sent), embedding(keep_alive=sent)):
        assert got.keep_alive == kept
        assert not isinstance(got.keep_alive, float)


# Completions


def test_completion_fields() -> None:
    got = completion(suffix="end", echo=True, stream=True, stream_options={"include_usage": True})
    assert (got.prompt, got.suffix, got.echo, got.include_usage) == ("Once", "end", True, True)
    assert completion(prompt=["Once"]).prompt == "Once"
    assert completion(logprobs=5).logprobs == 5
    assert completion(logprobs=0).logprobs == 0
    assert completion().logprobs is None


@pytest.mark.parametrize(
    ("fields", "param", "hint"),
    [
        ({"prompt": ["a", "b"]}, "prompt", "one request"),
        ({"prompt": []}, "prompt", "one request"),
        ({"prompt": [1, 2]}, "prompt", "token ids"),
        ({"prompt": [[1, 2]]}, "prompt", "token ids"),
        ({"prompt": None}, "prompt", ""),
        ({"prompt": {}}, "prompt", ""),
        ({"logprobs": 6}, "logprobs", ""),
        ({"logprobs": True}, "logprobs", ""),
        ({"logprobs": 1, "echo": True}, "echo", "prompt"),
        ({"best_of": 2}, "best_of", ""),
        ({"n": 2}, "n", ""),
        ({"suffix": 1}, "suffix", ""),
    ],
)
def test_bad_completions(fields: dict[str, Any], param: str, hint: str) -> None:
    error = refused(completion, **fields)
    assert error.param == param
    assert hint in (error.hint or "")


# Embeddings


def test_embedding_fields() -> None:
    got = embedding(input=["a", "b"], dimensions=3, encoding_format="base64", truncate=True)
    assert (got.inputs, got.dimensions, got.encoding) == (["a", "b"], 3, "base64")
    assert got.ignored == ["truncate"]
    assert embedding().inputs == ["Once"]
    assert embedding().encoding == "float"
    assert len(embedding(input=["a"] * 2048).inputs) == 2048


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": []}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": None}, "input"),
        ({"input": 1}, "input"),
        ({"input": [{}]}, "input[0]"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_bad_embeddings(fields: dict[str, Any], param: str) -> None:
    assert refused(embedding, **fields).param == param


@pytest.mark.parametrize("tokens", [[1, 2], [[1, 2], [3]], ["a", 1]])
def test_token_arrays_are_refused_with_the_way_out(tokens: object) -> None:
    error = refused(embedding, input=tokens)
    assert "check_embedding_ctx_length=False" in error.text


def test_refusals_of_what_nobody_can_do_bear_their_code() -> None:
    assert isinstance(refused(completion, prompt=["a", "b"]), UnsupportedParameter)
    assert refused(chat, n=2).code == "unsupported_parameter"
    assert refused(chat, temperature=3).code == "invalid_request"


def test_raw_pieces_are_the_clients_own_bytes() -> None:
    schema = b'{"a" : 1.0e0}'
    tools = b'[{"type":"function","function":{"name":"f","parameters": %b }}]' % schema
    body = b'{"model":"m","messages":[{"role":"user"}],"tools":%b}' % tools
    assert decode_chat(body).tools[0].parameters == msgspec.Raw(schema)
