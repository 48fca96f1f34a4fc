"""Golden bodies: what of each request reaches Ollama, and what never does."""

import base64
import json
from typing import Any

import msgspec
import pytest

from arriero.base.errors import BadRequest
from arriero.config.settings import Model
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
from arriero.wire.ollama import OLLAMA

PLAIN = Model(name="alias", routes=())
HELLO = [Message("user", "Hello")]


def body(request: CanonicalRequest, model: Model = PLAIN) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(OLLAMA.encode(request, "llama3:8b", model)[1])
    return decoded


def chat(messages: list[Message] = HELLO, **fields: Any) -> Chat:
    fields.setdefault("sampling", Sampling())
    return Chat(model="alias", messages=messages, **fields)


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def test_what_the_client_did_not_say_is_left_out() -> None:
    assert body(chat()) == {
        "model": "llama3:8b",
        "messages": [{"role": "user", "content": "Hello"}],
        "stream": False,
        "truncate": False,
    }


def test_the_cache_key_is_the_gateways_alone() -> None:
    assert body(chat(cache_key="chat-1")) == body(chat())


def test_nothing_is_cut_in_silence_unless_the_alias_allows_it() -> None:
    completion = Completion(model="a", prompt="x", sampling=Sampling())
    embedding = Embedding(model="a", inputs=["x"])
    cut = Model(name="alias", routes=(), overflow="truncate")
    for request in (chat(), completion, embedding):
        assert body(request)["truncate"] is False
        assert body(request, cut).get("truncate", True) is True
        assert "shift" not in body(request), "it would load the model anew"


def test_paths() -> None:
    completion = Completion(model="a", prompt="x", sampling=Sampling())
    assert OLLAMA.encode(chat(), "m", PLAIN)[0] == b"/api/chat"
    assert OLLAMA.encode(completion, "m", PLAIN)[0] == b"/api/generate"
    assert OLLAMA.encode(Embedding(model="a", inputs=["x"]), "m", PLAIN)[0] == b"/api/embed"


def test_sampling_keeps_its_names_and_penalties_are_never_repeat_penalty() -> None:
    sampling = Sampling(
        temperature=0.0,
        top_p=0.5,
        top_k=4,
        min_p=0.1,
        seed=7,
        stop=["x", "y"],
        presence_penalty=0.2,
        frequency_penalty=0.0,
        max_tokens=9,
    )
    assert body(chat(sampling=sampling))["options"] == {
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 4,
        "min_p": 0.1,
        "seed": 7,
        "stop": ["x", "y"],
        "presence_penalty": 0.2,
        "frequency_penalty": 0.0,
        "num_predict": 9,
    }
    assert body(chat(sampling=Sampling(repeat_penalty=1.1)))["options"] == {"repeat_penalty": 1.1}


def test_the_aliass_options_are_defaults_below_the_clients() -> None:
    model = Model(name="a", routes=(), context=8192, options={"temperature": 0.2, "top_k": 5})
    said = body(chat(sampling=Sampling(temperature=0.9)), model)
    assert said["options"] == {"temperature": 0.9, "top_k": 5, "num_ctx": 8192}


@pytest.mark.parametrize(
    ("asked", "limit", "sent"),
    [(None, None, None), (50, None, 50), (None, 100, 100), (50, 100, 50), (500, 100, 100)],
)
def test_the_output_limit(asked: int | None, limit: int | None, sent: int | None) -> None:
    model = Model(name="a", routes=(), max_output_tokens=limit)
    said = body(chat(sampling=Sampling(max_tokens=asked)), model).get("options", {})
    assert said.get("num_predict") == sent


@pytest.mark.parametrize(("default", "sent"), [(50, 50), (500, 100), (-1, 100), (-2, 100)])
def test_the_output_limit_holds_for_the_aliass_own_default(default: int, sent: int) -> None:
    model = Model(name="a", routes=(), max_output_tokens=100, options={"num_predict": default})
    assert body(chat(), model)["options"]["num_predict"] == sent


@pytest.mark.parametrize(("wish", "sent"), [(50, 50), (500, 100), (-1, 100), ("many", 100)])
def test_the_output_limit_holds_for_a_clients_option(wish: object, sent: int) -> None:
    model = Model(name="a", routes=(), max_output_tokens=100, client_options="allow")
    request = chat(model_options={"num_predict": raw(wish)})
    assert body(request, model)["options"]["num_predict"] == sent


def test_a_clients_own_options_count_only_where_the_alias_allows() -> None:
    request = chat(
        sampling=Sampling(temperature=0.5),
        model_options={
            "num_ctx": raw(32768),
            "typical_p": raw(0.7),
            "temperature": raw(1.5),
            "num_gpu": raw(0),
            "main_gpu": raw(1),
            "num_thread": raw(1),
            "use_mmap": raw(value=False),
            "num_batch": raw(1),
        },
        keep_alive="1h",
    )
    said = body(request)
    assert said["options"] == {"temperature": 0.5}
    assert "keep_alive" not in said
    allowed = body(request, Model(name="a", routes=(), client_options="allow"))
    assert allowed["options"] == {"num_ctx": 32768, "typical_p": 0.7, "temperature": 0.5}
    assert allowed["keep_alive"] == "1h"


def test_the_context_is_the_aliass_even_where_clients_may_choose() -> None:
    model = Model(name="a", routes=(), context=4096, client_options="allow")
    request = chat(model_options={"num_ctx": raw(32768)})
    assert body(request, model)["options"] == {"num_ctx": 4096}


@pytest.mark.parametrize("keep_alive", ["30m", -1, 0])
def test_keep_alive_is_the_aliass(keep_alive: int | str) -> None:
    model = Model(name="a", routes=(), keep_alive=keep_alive)
    assert body(chat(keep_alive="1s"), model)["keep_alive"] == keep_alive
    assert body(chat(), model)["keep_alive"] == keep_alive


@pytest.mark.parametrize("think", [True, False, "low", "max"])
def test_think_is_sent_as_asked(think: bool | str) -> None:  # noqa: FBT001  # the field's type
    assert body(chat(think=think))["think"] is think or body(chat(think=think))["think"] == think


@pytest.mark.parametrize("wanted", ["json", {"type": "object", "properties": {}}])
def test_format_is_passed_as_it_is(wanted: object) -> None:
    assert body(chat(format=raw(wanted)))["format"] == wanted


def test_logprobs() -> None:
    said = body(chat(logprobs=True, top_logprobs=3))
    assert (said["logprobs"], said["top_logprobs"]) == (True, 3)


def test_tools_in_openais_shape_without_what_was_not_said() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    tools = [Tool("f", "does f", raw(schema), strict=True), Tool("g")]
    assert body(chat(tools=tools))["tools"] == [
        {
            "type": "function",
            "function": {"name": "f", "description": "does f", "parameters": schema},
        },
        {"type": "function", "function": {"name": "g", "parameters": {}}},
    ]


def test_tool_choice_none_is_honoured_by_leaving_the_tools_out() -> None:
    assert "tools" not in body(chat(tools=[Tool("f")], tool_choice=raw("none")))
    assert "tools" in body(chat(tools=[Tool("f")], tool_choice=raw("auto")))


def test_parts_become_text_and_images() -> None:
    image = base64.b64encode(b"png").decode()
    content = [
        Part(text="What"),
        Part(image_base64=image, image_type="image/png"),
        Part(text="is this?"),
    ]
    assert body(chat([Message("user", content)]))["messages"] == [
        {"role": "user", "content": "What\nis this?", "images": [image]}
    ]


def test_tool_calls_carry_an_object_and_answers_name_their_function() -> None:
    messages = [
        Message("user", "Weather?"),
        Message("assistant", tool_calls=[ToolCall("call_1", "weather", '{"city":"Köln"}')]),
        Message("tool", "rain", tool_call_id="call_1"),
        Message("assistant", thinking="hm", tool_calls=[ToolCall("call_2", "time", "")]),
        Message("tool", "noon", tool_call_id="call_2", tool_name="clock"),
        Message("tool", "lost", tool_call_id="call_9"),
    ]
    assert body(chat(messages))["messages"] == [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "call_1", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
            ],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "call_1", "tool_name": "weather"},
        {
            "role": "assistant",
            "thinking": "hm",
            "tool_calls": [{"id": "call_2", "function": {"name": "time", "arguments": {}}}],
        },
        {"role": "tool", "content": "noon", "tool_call_id": "call_2", "tool_name": "clock"},
        {"role": "tool", "content": "lost", "tool_call_id": "call_9"},
    ]


@pytest.mark.parametrize(
    "arguments", ["{", '"text"', "[]", "{}}", '{} , "model": "evil"', "[" * 99_999]
)
def test_arguments_that_are_no_object_are_the_clients_error(arguments: str) -> None:
    messages = [Message("assistant", tool_calls=[ToolCall("call_1", "f", arguments)])]
    with pytest.raises(BadRequest) as caught:
        OLLAMA.encode(chat(messages), "m", PLAIN)
    assert caught.value.param == "messages"


def test_a_trailing_assistant_turn_stays_the_last() -> None:
    messages = [*HELLO, Message("assistant", "Once upon")]
    said = body(chat(messages, continue_final_message=True))
    assert said["messages"][-1] == {"role": "assistant", "content": "Once upon"}
    assert set(said) == {"model", "messages", "stream", "truncate"}


def test_a_completion_goes_through_the_template() -> None:
    request = Completion(
        model="a",
        prompt="def f(",
        suffix="return 1",
        stream=True,
        echo=True,
        logprobs=2,
        sampling=Sampling(max_tokens=5),
    )
    assert body(request, Model(name="a", routes=(), context=2048, keep_alive=-1)) == {
        "model": "llama3:8b",
        "prompt": "def f(",
        "suffix": "return 1",
        "stream": True,
        "options": {"num_predict": 5, "num_ctx": 2048},
        "logprobs": True,
        "top_logprobs": 2,
        "keep_alive": -1,
        "truncate": False,
    }


def test_an_embedding_is_never_cut_silently() -> None:
    request = Embedding(model="a", inputs=["x", "y"], dimensions=64)
    assert body(request, Model(name="a", routes=(), context=512, max_output_tokens=9)) == {
        "model": "llama3:8b",
        "input": ["x", "y"],
        "truncate": False,
        "dimensions": 64,
        "options": {"num_ctx": 512},
    }
