"""Ollama's `/v1` in the simulation: what it forces, drops, splits and rewrites."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
import pytest

from arriero.testing.ollama import OllamaSim, SimModel, Turn

ASK = {"model": "m", "messages": [{"role": "user", "content": "Tell me in 12 words"}]}
ALL = ("completion", "tools", "thinking", "vision", "insert")
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class Client:
    """Asks one host, whose model writes down what it was asked."""

    def __init__(self, http: httpx.AsyncClient, turns: list[Turn]) -> None:
        self.http = http
        self.turns = turns

    async def post(self, path: str, **body: object) -> Any:
        return (await self.http.post(path, json=body)).json()

    async def chat(self, **more: object) -> Any:
        answer = await self.post("/v1/chat/completions", **{**ASK, **more})
        return answer["choices"][0] if "choices" in answer else answer["error"]["message"]

    async def options(
        self, path: str = "/v1/chat/completions", **more: object
    ) -> Mapping[str, Any]:
        await self.post(path, **{**ASK, "prompt": "hello", **more})
        return self.turns[-1].options

    async def stream(self, **more: object) -> list[Any]:
        body = {**ASK, "stream": True, **more}
        text = (await self.http.post("/v1/chat/completions", json=body)).text
        parts = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
        return [part if part == "[DONE]" else json.loads(part) for part in parts]


@asynccontextmanager
async def host(*capabilities: str) -> AsyncIterator[Client]:
    turns: list[Turn] = []

    def reply(turn: Turn) -> str:
        turns.append(turn)
        return "One two three four five."

    model = SimModel(
        "m",
        capabilities=capabilities or ("completion",),
        parameters={"temperature": 0.2, "top_p": 0.3, "frequency_penalty": 0.4},
        replies=reply,
    )
    async with (
        asyncio.timeout(20),
        OllamaSim([model]) as sim,
        httpx.AsyncClient(base_url=sim.url) as http,
    ):
        yield Client(http, turns)


async def test_temperature_and_top_p_are_forced_over_the_modelfile() -> None:
    async with host() as v1:
        native = await v1.options("/api/chat", stream=False)
        chat = await v1.options()
        completion = await v1.options("/v1/completions")
        own = await v1.options(temperature=0, top_p=0.5, frequency_penalty=1, seed=7)
    assert (native["temperature"], native["top_p"]) == (0.2, 0.3)
    assert (chat["temperature"], chat["top_p"], chat["frequency_penalty"]) == (1, 1, 0.4)
    assert (completion["temperature"], completion["frequency_penalty"]) == (1, 0)
    assert (own["temperature"], own["top_p"], own["frequency_penalty"], own["seed"]) == (
        0,
        0.5,
        1,
        7,
    )


async def test_options_of_ollamas_own_are_dropped() -> None:
    async with host() as v1:
        options = await v1.options(top_k=3, num_ctx=99, options={"top_k": 3}, keep_alive=-1)
    assert options["top_k"] == 40


@pytest.mark.parametrize(("stop", "said"), [(" three", "One two"), ([" four"], "One two three")])
async def test_stop_strings(stop: object, said: str) -> None:
    async with host() as v1:
        chat = await v1.chat(stop=stop)
        completion = await v1.post("/v1/completions", model="m", prompt="x", stop=stop)
    assert chat["message"]["content"] == completion["choices"][0]["text"] == said


async def test_parts_become_messages_of_their_own() -> None:
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}},
        {"type": "image_url", "image_url": "data:;base64,aGk="},
        {"type": "text", "text": "this?"},
    ]
    async with host(*ALL) as v1:
        await v1.chat(messages=[{"role": "user", "content": parts}])
        (turn,) = v1.turns
        assert await v1.chat(messages=[{"role": "user", "content": [{"type": "no"}]}]) == (
            "invalid message format"
        )
    assert [message.get("content") for message in turn.messages] == ["What is", "", "", "this?"]
    assert [message.get("images") for message in turn.messages] == [None, ["aGk="], ["aGk="], None]


async def test_a_conversation_with_tools_and_reasoning_arrives_whole() -> None:
    call = {"id": "call_1", "function": {"name": "get_weather", "arguments": '{"city":"Lima"}'}}
    messages = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "reasoning": "hm", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
        {"role": "user", "content": "And in 12 words?"},
    ]
    async with host(*ALL) as v1:
        await v1.chat(messages=messages)
        (turn,) = v1.turns
    assert turn.messages[1] == {
        "role": "assistant",
        "content": "",
        "thinking": "hm",
        "tool_calls": [
            {"id": "call_1", "function": {"name": "get_weather", "arguments": {"city": "Lima"}}}
        ],
    }
    assert turn.messages[2] == {"role": "tool", "content": "rain", "tool_call_id": "call_1"}


async def test_a_tool_call() -> None:
    asked = [{"role": "user", "content": "get_weather"}]
    async with host("completion", "tools") as v1:
        whole = await v1.chat(messages=asked, tools=[TOOL])
        chunks = await v1.stream(messages=asked, tools=[TOOL])
    (call,) = whole["message"]["tool_calls"]
    assert whole["finish_reason"] == "tool_calls"
    assert set(call) == {"id", "index", "type", "function"}
    assert set(json.loads(call["function"]["arguments"])) == {"city"}
    assert chunks[0]["choices"][0]["delta"]["tool_calls"] == [call]
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_reasoning() -> None:
    async with host("completion", "thinking") as v1:
        whole = await v1.chat()
        chunks = await v1.stream()
        silent = await v1.chat(reasoning_effort="none")
        low = await v1.chat(reasoning={"effort": "minimal"})
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks[:-2]]
    thought = "".join(delta.get("reasoning", "") for delta in deltas)
    assert thought == whole["message"]["reasoning"]
    assert "reasoning" not in silent["message"]
    assert 0 < len(low["message"]["reasoning"]) < len(thought)


async def test_formats() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    shape = {"type": "json_schema", "json_schema": {"schema": schema}}
    async with host() as v1:
        fitted = await v1.chat(response_format=shape)
        anything = await v1.chat(response_format={"type": "json_object"})
        text = await v1.chat(response_format={"type": "text"})
    assert set(json.loads(fitted["message"]["content"])) == {"a"}
    assert isinstance(json.loads(anything["message"]["content"]), dict)
    assert text["message"]["content"] == "One two three four five."


async def test_log_probabilities_and_rendering() -> None:
    async with host() as v1:
        whole = await v1.chat(logprobs=True, top_logprobs=1)
        rendered = await v1.post("/v1/chat/completions", **ASK, _debug_render_only=True)
    assert whole["logprobs"]["content"][0]["token"] == "One"
    assert "Tell me" in rendered["_debug_info"]["rendered_template"]


async def test_completions_count_at_the_end_only() -> None:
    body = {"model": "m", "prompt": "x", "stream": True, "stream_options": {"include_usage": True}}
    async with host() as v1:
        text = (await v1.http.post("/v1/completions", json=body)).text
    parts = [part.removeprefix("data: ") for part in text.split("\n\n") if part]
    *pieces, last = [json.loads(part) for part in parts[:-1]]
    assert {piece["usage"]["total_tokens"] for piece in pieces} == {0}
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] > 0


async def test_a_suffix_is_for_models_that_insert() -> None:
    async with host() as plain, host(*ALL) as able:
        body = {"model": "m", "prompt": "x", "suffix": "y"}
        refused = await plain.post("/v1/completions", **body)
        taken = await able.post("/v1/completions", **body)
    assert refused["error"]["message"].endswith("does not support insert")
    assert taken["choices"][0]["text"]


async def test_embeddings_as_base64_are_the_same_floats() -> None:
    async with host("embedding") as v1:
        floats = await v1.post("/v1/embeddings", model="m", input="one", dimensions=4)
        packed = await v1.post(
            "/v1/embeddings", model="m", input="one", dimensions=4, encoding_format="base64"
        )
        empty = await v1.post("/v1/embeddings", model="m", input="")
    raw = base64.b64decode(packed["data"][0]["embedding"])
    assert list(struct.unpack("<4f", raw)) == pytest.approx(floats["data"][0]["embedding"])
    assert len(empty["data"]) == 1
