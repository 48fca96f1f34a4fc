"""The simulation of llama.cpp's and vLLM's `/v1`.

What is said of llama.cpp was seen at a running llama-server; vLLM's follows its documentation.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx
import pytest

from arriero.testing.faults import Fault, Kind
from arriero.testing.ollama.models import SimModel
from arriero.testing.openai_bodies import Flavour
from arriero.testing.openai_server import OpenAiSim

MODEL = SimModel("qwen3", replies={"capital": "The capital of France is Paris."})
QUESTION = {"role": "user", "content": "What is the capital of France?"}
BEGUN = {"role": "assistant", "content": "The capital of"}
CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
FLAVOURS: list[Flavour] = ["llama.cpp", "vllm"]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


class Client:
    """Asks one simulated server."""

    def __init__(self, sim: OpenAiSim, http: httpx.AsyncClient) -> None:
        self.sim = sim
        self.http = http

    async def chat(self, *messages: dict[str, str], **more: object) -> httpx.Response:
        body = {"model": "qwen3", "messages": messages or [QUESTION], **more}
        return await self.http.post("/v1/chat/completions", json=body)

    async def error(self, path: str, **body: object) -> tuple[int, dict[str, Any]]:
        response = await self.http.post(path, json=body)
        return response.status_code, response.json()["error"]


@asynccontextmanager
async def serving(model: SimModel = MODEL, **settings: Any) -> AsyncIterator[Client]:
    async with (
        asyncio.timeout(20),
        OpenAiSim(model, **settings) as sim,
        httpx.AsyncClient(base_url=sim.url) as http,
    ):
        yield Client(sim, http)


def events(response: httpx.Response) -> list[Any]:
    parts = [part.removeprefix("data: ") for part in response.text.split("\n\n") if part]
    return [part if part == "[DONE]" else json.loads(part) for part in parts]


def said(chunks: list[Any]) -> str:
    deltas = [c["choices"][0]["delta"] for c in chunks if c != "[DONE]" and c["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_models(flavour: Flavour) -> None:
    async with serving(flavour=flavour, context_length=512) as server:
        listed = (await server.http.get("/v1/models")).json()
    (entry,) = listed["data"]
    assert (listed["object"], entry["id"], entry["object"]) == ("list", "qwen3", "model")
    known = entry["max_model_len"] if flavour == "vllm" else entry["meta"]["n_ctx"]
    assert known == 512


@pytest.mark.parametrize("flavour", FLAVOURS)
async def test_a_stream_opens_with_the_role_and_ends_with_done(flavour: Flavour) -> None:
    async with serving(flavour=flavour) as server:
        response = await server.chat(stream=True)
        whole = (await server.chat()).json()
    assert response.headers["content-type"] == "text/event-stream"
    first, *middle, finish, done = events(response)
    assert first["choices"][0]["delta"] == {
        "role": "assistant",
        "content": None if flavour == "llama.cpp" else "",
    }
    assert finish["choices"][0]["delta"] == {}
    assert finish["choices"][0]["finish_reason"] == "stop"
    assert done == "[DONE]"
    assert said(middle) == whole["choices"][0]["message"]["content"]
    assert len({chunk["id"] for chunk in (first, *middle, finish)}) == 1


def counted(body: dict[str, Any]) -> dict[str, Any]:
    return {name: count for name, count in body["usage"].items() if "details" not in name}


async def test_vllm_does_not_tell_what_was_cached() -> None:
    async with serving(flavour="vllm") as server:
        whole = [(await server.chat()).json() for _ in range(2)]
    assert "prompt_tokens_details" not in whole[1]["usage"]
    assert "timings" not in whole[1]


async def test_usage_is_streamed_when_asked_for() -> None:
    async with serving() as server:
        response = await server.chat(stream=True, stream_options={"include_usage": True})
        whole = (await server.chat()).json()
    *_, usage, _done = events(response)
    assert usage["choices"] == []
    assert counted(usage) == counted(whole)
    assert whole["usage"]["prompt_tokens_details"]["cached_tokens"] > 0, "the second time"
    assert whole["usage"]["total_tokens"] > whole["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_both_names_of_the_limit_hold(name: str) -> None:
    async with serving() as server:
        got = (await server.chat(**{name: 2})).json()
    assert got["choices"][0]["finish_reason"] == "length"
    assert got["usage"]["completion_tokens"] == 2


async def test_stop_strings() -> None:
    async with serving() as server:
        got = (await server.chat(stop=" is")).json()
        several = (await server.chat(stop=["x", "capital"])).json()
    assert got["choices"][0]["message"]["content"] == "The capital of France"
    assert several["choices"][0]["message"]["content"] == "The "


async def test_a_begun_answer_is_continued_and_only_a_whole_answer_repeats_it() -> None:
    async with serving() as server:
        streamed = events(await server.chat(QUESTION, BEGUN, **CONTINUE, stream=True))
        unasked = events(await server.chat(QUESTION, BEGUN, stream=True))
        whole = (await server.chat(QUESTION, BEGUN, **CONTINUE)).json()
    assert said(streamed) == said(unasked) == " France is Paris."
    assert whole["choices"][0]["message"]["content"] == "The capital of France is Paris."


async def test_vllm_continues_only_when_asked_and_repeats_nothing() -> None:
    async with serving(flavour="vllm") as server:
        asked = (await server.chat(QUESTION, BEGUN, **CONTINUE)).json()
        unasked = (await server.chat(QUESTION, BEGUN)).json()
        status, error = await server.error(
            "/v1/chat/completions", messages=[QUESTION, BEGUN], continue_final_message=True
        )
    assert asked["choices"][0]["message"]["content"] == " France is Paris."
    assert unasked["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert (status, error["message"]) == (
        400,
        "Cannot set both add_generation_prompt and continue_final_message to true.",
    )


async def test_two_assistant_messages_at_the_end_are_refused() -> None:
    async with serving() as server:
        status, error = await server.error("/v1/chat/completions", messages=[BEGUN, BEGUN])
    assert (status, error["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        (b"{", 500, ""),
        (b"{}", 400, "'messages' is required"),
        (b'{"messages":"x"}', 400, "Expected 'messages' to be an array"),
    ],
)
async def test_bad_bodies(body: bytes, status: int, text: str) -> None:
    async with serving() as server:
        got = await server.http.post("/v1/chat/completions", content=body)
    assert (got.status_code, got.json()["error"]["code"]) == (status, status)
    assert text in got.json()["error"]["message"]


async def test_a_prompt_that_does_not_fit_is_refused() -> None:
    async with serving(context_length=64) as server:
        long = {"role": "user", "content": "word " * 100}
        status, error = await server.error("/v1/chat/completions", messages=[long])
    assert (status, error["type"], error["n_ctx"]) == (400, "exceed_context_size_error", 64)
    async with serving(context_length=64, flavour="vllm") as server:
        status, error = await server.error("/v1/chat/completions", messages=[long])
    assert (status, error["type"]) == (400, "BadRequestError")


async def test_vllm_knows_its_models_name_and_llama_cpp_takes_any() -> None:
    async with serving(flavour="vllm") as vllm, serving() as llama:
        status, error = await vllm.error("/v1/chat/completions", model="x", messages=[QUESTION])
        taken = await llama.chat(model="x")
    assert (status, error["message"]) == (404, "The model `x` does not exist.")
    assert taken.json()["model"] == "qwen3"


async def test_a_model_that_is_loading() -> None:
    async with serving() as server:
        server.sim.loading = True
        waiting = await server.chat()
        health = await server.http.get("/health")
        server.sim.loading = False
        assert (await server.http.get("/health")).json() == {"status": "ok"}
        assert (await server.chat()).status_code == 200
    assert waiting.status_code == health.status_code == 503
    error = {"message": "Loading model", "type": "unavailable_error", "code": 503}
    assert waiting.json() == health.json() == {"error": error}


async def test_a_key() -> None:
    async with serving(api_key="secret") as server:
        refused = await server.chat()
        server.http.headers["Authorization"] = "Bearer secret"
        assert (await server.chat()).status_code == 200
    assert (refused.status_code, refused.json()["error"]["message"]) == (401, "Invalid API Key")


@pytest.mark.parametrize(("method", "path"), [("GET", "/nope"), ("GET", "/v1/chat/completions")])
async def test_no_such_file(method: str, path: str) -> None:
    async with serving() as server:
        got = await server.http.request(method, path)
    assert (got.status_code, got.json()["error"]["message"]) == (404, "File Not Found")


async def test_tool_calls_stream_their_arguments_in_pieces() -> None:
    model = SimModel("qwen3", capabilities=("completion", "tools"))
    asked = {"role": "user", "content": "get_weather please"}
    async with serving(model) as server:
        chunks = events(await server.chat(asked, tools=[TOOL], stream=True))
        whole = (await server.chat(asked, tools=[TOOL])).json()["choices"][0]
    deltas = [c["choices"][0]["delta"] for c in chunks if c != "[DONE]"]
    parts = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert parts[0]["function"] == {"name": "get_weather", "arguments": ""}
    arguments = "".join(part["function"]["arguments"] for part in parts)
    assert len(parts) > 2
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == arguments
    assert set(json.loads(arguments)) == {"city"}
    assert chunks[-2]["choices"][0]["finish_reason"] == whole["finish_reason"] == "tool_calls"


async def test_reasoning_has_a_field_of_its_own() -> None:
    model = SimModel("qwen3", capabilities=("completion", "thinking"))
    async with serving(model) as server:
        message = (await server.chat()).json()["choices"][0]["message"]
    assert message["reasoning_content"]
    assert message["content"]


async def test_json_schemas() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    async with serving() as server:
        message = (await server.chat(response_format=shape)).json()["choices"][0]["message"]
    assert set(json.loads(message["content"])) == {"a"}


async def test_completions() -> None:
    body = {"prompt": "the capital", "max_tokens": 3}
    async with serving() as server:
        whole = (await server.http.post("/v1/completions", json=body)).json()
        chunks = events(await server.http.post("/v1/completions", json={**body, "stream": True}))
    assert whole["object"] == "text_completion"
    assert whole["choices"][0]["finish_reason"] == "length"
    text = "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1])
    assert text == whole["choices"][0]["text"]
    assert counted(chunks[-2]) == counted(whole)


async def test_embeddings_take_text_and_token_ids() -> None:
    model = SimModel("embed", capabilities=("embedding",), embedding_length=16)
    async with serving(model) as server:
        both = await server.http.post("/v1/embeddings", json={"input": ["one", "two"]})
        ids = await server.http.post("/v1/embeddings", json={"input": [1, 2, 3]})
        chat = await server.chat()
    assert [entry["index"] for entry in both.json()["data"]] == [0, 1]
    assert len(both.json()["data"][0]["embedding"]) == 16
    assert len(ids.json()["data"]) == 1
    assert ids.json()["usage"]["prompt_tokens"] == 3
    assert chat.status_code == 501


async def test_a_chat_model_does_not_embed() -> None:
    async with serving() as server:
        status, error = await server.error("/v1/embeddings", input="x")
    assert (status, error["type"]) == (501, "not_supported_error")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_an_error_in_the_middle_is_an_event(path: str) -> None:
    async with serving() as server:
        server.sim.faults.add(Fault(kind=Kind.ERROR_MID, after=2, text="so it goes"))
        body = {"messages": [QUESTION], "prompt": "capital", "stream": True}
        last = events(await server.http.post(path, json=body))[-1]
        status, error = await server.error(path, messages=[QUESTION], prompt="capital")
    assert last["error"]["message"] == error["message"] == "so it goes"
    assert status == 500


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Kind.RESET, httpx.ReadError),
        (Kind.RESET_MID, httpx.ReadError),
        (Kind.CLOSE_MID, httpx.RemoteProtocolError),
    ],
)
async def test_a_cut_stream(kind: Kind, error: type[Exception]) -> None:
    async with serving() as server:
        server.sim.faults.add(Fault(kind=kind, after=2, count=1))
        with pytest.raises(error):
            await server.chat(stream=True)
        assert (await server.chat(stream=True)).status_code == 200


async def test_a_clean_end_without_done() -> None:
    async with serving() as server:
        server.sim.faults.add(Fault(kind=Kind.EOF_MID, after=2))
        chunks = events(await server.chat(stream=True))
    assert "[DONE]" not in chunks
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)


async def test_a_status_has_this_servers_shape() -> None:
    async with serving() as server:
        server.sim.faults.add(Fault(kind=Kind.STATUS, status=503))
        got = await server.chat()
    assert got.json()["error"] == {
        "code": 503,
        "message": "Loading model",
        "type": "unavailable_error",
    }


async def test_slots_bound_what_runs() -> None:
    slow = SimModel("qwen3", decode_tps=500)
    async with serving(slow, slots=2) as server, asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(server.chat(stream=True))
    assert server.sim.stats.of("qwen3").running.most == 2


async def test_a_restart_empties_the_cache() -> None:
    async with serving() as server:
        await server.chat()
        await server.chat()
        cached = server.sim.stats.of("qwen3").prompt_tokens_cached
        await server.sim.restart()
        await server.chat()
        assert server.sim.stats.of("qwen3").prompt_tokens_cached == cached > 0


async def test_llama_cpp_shows_the_prompt_it_would_answer() -> None:
    async with serving() as client:
        body = {"messages": [QUESTION, BEGUN], **CONTINUE}
        shown = (await client.http.post("/apply-template", json=body)).json()
        assert shown["prompt"].endswith("assistant\nThe capital of")
        assert client.sim.stats.of("qwen3").generations == 0
        status, _ = await client.error("/tokenize", **body)
        assert status == 404


async def test_vllm_shows_the_prompt_as_tokens_and_turns_them_into_text_again() -> None:
    async with serving(flavour="vllm") as client:
        for messages in ([QUESTION], [QUESTION, BEGUN]):
            more = CONTINUE if messages[-1] is BEGUN else {}
            body = {"model": "qwen3", "messages": messages, **more}
            cut = (await client.http.post("/tokenize", json=body)).json()
            assert cut["count"] == len(cut["tokens"])
            back = {"model": "qwen3", "tokens": cut["tokens"]}
            shown = (await client.http.post("/detokenize", json=back)).json()
            assert shown["prompt"].endswith("assistant\n" + (BEGUN["content"] if more else ""))
        assert client.sim.stats.of("qwen3").generations == 0
        status, _ = await client.error("/apply-template", messages=[QUESTION])
        assert status == 404
