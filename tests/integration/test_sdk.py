"""OpenAI's own Python SDK against the gateway, on a real socket."""

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from tests.integration.arena import (
    ALIAS,
    KEY,
    MODEL,
    STEADY,
    Running,
    eventually,
    limits_for,
    serving,
    settings,
    sim,
)

from arriero.config.settings import Timeouts
from arriero.testing.ollama import Fault, Kind, OllamaSim

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say it in 12 words"}]
ABLE = ("completion", "tools", "vision", "embedding")
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Lima"]}},
            "required": ["city"],
        },
    },
}
PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000a49444154789c63"
        "000100000500010d0a2db40000000049454e44ae426082"
    )
).decode()


@asynccontextmanager
async def setup(
    *, retries: int = 0, key: str = KEY, timeouts: Timeouts = STEADY, **model: Any
) -> AsyncIterator[tuple[openai.AsyncOpenAI, OllamaSim, Running]]:
    """A gateway before one host, and a client of it."""
    async with (
        sim(**({"capabilities": ABLE} | model)) as host,
        serving(settings(host, timeouts=timeouts)) as running,
        openai.AsyncOpenAI(api_key=key, base_url=running.url, max_retries=retries) as client,
    ):
        yield client, host, running


async def test_chat() -> None:
    async with setup() as (client, host, _):
        answer = await client.chat.completions.create(model=ALIAS, messages=ASK)
        assert answer.choices[0].message.content
        assert answer.choices[0].finish_reason == "stop"
        assert answer.model == ALIAS
        assert answer.usage
        assert answer.usage.total_tokens == (
            answer.usage.prompt_tokens + answer.usage.completion_tokens
        )
        assert answer._request_id
        for inner in (MODEL, str(host.port), "127.0.0.1"):
            assert inner not in answer.model_dump_json()


async def test_stream_with_usage() -> None:
    async with setup() as (client, _, _running):
        whole = await client.chat.completions.create(model=ALIAS, messages=ASK)
        stream = await client.chat.completions.create(
            model=ALIAS, messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        told = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        assert told == whole.choices[0].message.content
        assert len({chunk.id for chunk in chunks}) == 1
        assert {chunk.model for chunk in chunks} == {ALIAS}
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].usage == whole.usage
        assert not chunks[-1].choices


async def test_a_tools_round_trip() -> None:
    async with setup() as (client, _, _running):
        messages: list[ChatCompletionMessageParam] = [
            {"role": "user", "content": "What is the weather in Lima?"}
        ]
        first = await client.chat.completions.create(
            model=ALIAS, messages=messages, tools=[WEATHER]
        )
        assert first.choices[0].finish_reason == "tool_calls"
        calls = first.choices[0].message.tool_calls
        assert calls
        call = calls[0]
        assert call.type == "function"
        assert call.id.startswith("call_")
        assert json.loads(call.function.arguments) == {"city": "Lima"}
        messages.append(first.choices[0].message.to_dict())  # type: ignore[arg-type]  # as the SDK's own examples do
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "18 degrees"})
        second = await client.chat.completions.create(
            model=ALIAS, messages=messages, tools=[WEATHER]
        )
        assert second.choices[0].message.content
        assert "18 degrees" in second.choices[0].message.content


async def test_streamed_tool_calls_through_the_helper() -> None:
    async with setup() as (client, _, _running):
        async with client.chat.completions.stream(
            model=ALIAS,
            messages=[{"role": "user", "content": "What is the weather in Lima?"}],
            tools=[WEATHER],
        ) as stream:
            final = await stream.get_final_completion()
        calls = final.choices[0].message.tool_calls
        assert calls
        assert json.loads(calls[0].function.arguments) == {"city": "Lima"}


async def test_an_image_as_a_data_uri() -> None:
    async with setup() as (client, host, _):
        uri = f"data:image/png;base64,{PIXEL}"
        answer = await client.chat.completions.create(
            model=ALIAS,
            messages=[
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": uri}},
                    ],
                }
            ],
        )
        assert answer.choices[0].message.content
        assert host.requests[-1].json()["messages"][0]["images"] == [PIXEL]


async def test_a_json_schema() -> None:
    schema: dict[str, object] = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
    }
    async with setup() as (client, host, _):
        answer = await client.chat.completions.create(
            model=ALIAS,
            messages=ASK,
            response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        )
        assert isinstance(json.loads(answer.choices[0].message.content or "")["n"], int)
        assert host.requests[-1].json()["format"] == schema


async def test_reasoning() -> None:
    async with setup(capabilities=("completion", "thinking")) as (client, host, _):
        answer = await client.chat.completions.create(
            model=ALIAS, messages=ASK, reasoning_effort="low"
        )
        message = answer.choices[0].message.to_dict()
        assert message["reasoning_content"]
        assert message["content"]
        assert host.requests[-1].json()["think"]
        stream = await client.chat.completions.create(
            model=ALIAS, messages=ASK, reasoning_effort="low", stream=True
        )
        deltas = [chunk.choices[0].delta.to_dict() async for chunk in stream if chunk.choices]
        thought = "".join(str(delta.get("reasoning_content") or "") for delta in deltas)
        assert thought == message["reasoning_content"]


async def test_logprobs() -> None:
    async with setup() as (client, _, _running):
        answer = await client.chat.completions.create(
            model=ALIAS, messages=ASK, logprobs=True, top_logprobs=2
        )
        assert answer.choices[0].logprobs
        content = answer.choices[0].logprobs.content
        assert content
        assert all(len(token.top_logprobs) == 2 for token in content)
        assert "".join(token.token for token in content) == answer.choices[0].message.content


@pytest.mark.parametrize("stream", [False, True])
async def test_completions(*, stream: bool) -> None:
    async with setup() as (client, _, _running):
        if stream:
            parts = await client.completions.create(model=ALIAS, prompt="Once", stream=True)
            text = "".join([part.choices[0].text async for part in parts if part.choices])
        else:
            whole = await client.completions.create(model=ALIAS, prompt="Once")
            text = whole.choices[0].text
        assert text


async def test_embeddings_are_the_same_in_base64_as_in_floats() -> None:
    async with setup() as (client, _, _running):
        default = await client.embeddings.create(model=ALIAS, input=["one", "two"])
        floats = await client.embeddings.create(
            model=ALIAS, input=["one", "two"], encoding_format="float"
        )
        for packed, plain in zip(default.data, floats.data, strict=True):
            assert packed.embedding == pytest.approx(plain.embedding, abs=1e-6)
        assert default.data[0].embedding != default.data[1].embedding
        assert default.usage.prompt_tokens > 0


async def test_models() -> None:
    async with setup() as (client, _, _running):
        assert [model.id async for model in client.models.list()] == [ALIAS]
        assert (await client.models.retrieve(ALIAS)).id == ALIAS
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("llamax")


async def test_errors_are_the_sdks_own_classes() -> None:
    async with setup() as (client, _, _running):
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.chat.completions.create(model="llamax", messages=ASK)
        assert unknown.value.code == "model_not_found"
        assert unknown.value.param == "model"
        assert unknown.value.request_id
        assert ALIAS in unknown.value.message, "did you mean"
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model=ALIAS, messages=ASK, temperature="hot")  # type: ignore[call-overload]  # that is the mistake
        assert bad.value.param == "temperature"
        with pytest.raises(openai.BadRequestError) as none:
            await client.chat.completions.create(model=ALIAS, messages=[])
        assert none.value.param == "messages"


async def test_a_wrong_key() -> None:
    async with setup(key="sk-wrong") as (client, host, _):
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model=ALIAS, messages=ASK)
        assert refused.value.code == "invalid_api_key"
        assert not [seen for seen in host.requests if seen.method == "POST"]


async def test_exhausted_failover_is_not_multiplied_by_the_sdk() -> None:
    async with setup(retries=5) as (client, host, running):
        host.faults.add(Fault(kind=Kind.STATUS, endpoint="/api/chat"))
        with pytest.raises(openai.InternalServerError) as failed:
            await client.chat.completions.create(model=ALIAS, messages=ASK)
        assert failed.value.status_code == 502
        assert host.stats.faults[Kind.STATUS] == 1
        assert requests_by_status(running) == {502: 1}


async def test_the_sdk_comes_back_when_it_is_told_to() -> None:
    async with setup(retries=3) as (client, host, running):
        host.kill()
        asked = asyncio.create_task(client.chat.completions.create(model=ALIAS, messages=ASK))
        await eventually(lambda: requests_by_status(running)[503] >= 1, "the first refusal")
        await host.accept()
        answer = await asked
        assert answer.choices[0].message.content
        counted = requests_by_status(running)
        assert counted[200] == 1


def requests_by_status(running: Running) -> Counter[int]:
    counted: Counter[int] = Counter()
    for (_, _, status, _), series in running.gateway.metrics.requests.items():
        counted[status] += series.count
    return counted


async def test_a_stream_that_the_client_closes() -> None:
    async with setup(decode_tps=200) as (client, host, running):
        stream = await client.chat.completions.create(
            model=ALIAS, messages=[{"role": "user", "content": "3000 words"}], stream=True
        )
        async for _chunk in stream:
            break
        await stream.close()
        await eventually(lambda: host.stats.cancelled == 1, "the host was told")
        await running.at_rest()


@pytest.mark.parametrize("kind", [Kind.RESET_MID, Kind.EOF_MID, Kind.ERROR_MID, Kind.HANG_MID])
async def test_a_failure_in_mid_stream_never_looks_like_an_end(kind: Kind) -> None:
    async with setup(decode_tps=300, timeouts=limits_for(kind)) as (client, host, _):
        host.faults.add(Fault(kind=kind, after=3, count=1))
        stream = await client.chat.completions.create(model=ALIAS, messages=ASK, stream=True)
        seen = []

        async def read() -> None:
            async for chunk in stream:
                seen.append(chunk)  # noqa: PERF401 - what came before the failure counts

        with pytest.raises(openai.APIError) as failed:
            await read()
        assert seen
        assert failed.value.code in {"backend_failed", "backend_timeout"}
        assert "127.0.0.1" not in str(failed.value)


async def test_the_blocking_client_in_threads() -> None:
    async with setup(decode_tps=1000) as (_, host, running):

        def work(number: int) -> str:
            with openai.OpenAI(api_key=KEY, base_url=running.url, max_retries=0) as client:
                if number % 2:
                    answer = client.chat.completions.create(model=ALIAS, messages=ASK)
                    return answer.choices[0].message.content or ""
                stream = client.chat.completions.create(model=ALIAS, messages=ASK, stream=True)
                return "".join(c.choices[0].delta.content or "" for c in stream if c.choices)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.to_thread(work, n)) for n in range(8)]
        assert len({task.result() for task in tasks}) == 1
        assert host.stats.endpoints["POST /api/chat"] == 8
