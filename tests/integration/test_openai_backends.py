"""Backends of kind `openai`: streams pass through, and nothing of theirs shows."""

import asyncio

import pytest
from tests.integration.arena import ALIAS, MODEL, eventually, limits_for, serving, settings, sim
from tests.integration.asking import CHAT, Asked, ask, asking, body_of, request_bytes

from arriero.core.health import State
from arriero.testing.faults import Fault, Kind
from arriero.testing.ollama import SimModel
from arriero.testing.openai_bodies import Flavour
from arriero.testing.openai_server import OpenAiSim

FLAVOURS: tuple[Flavour, ...] = ("llama.cpp", "vllm")


def server(flavour: Flavour = "llama.cpp", **model: float) -> OpenAiSim:
    return OpenAiSim(SimModel(MODEL, **model), flavour=flavour, slots=64)  # type: ignore[arg-type]  # speeds are floats


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat(*, flavour: Flavour, stream: bool) -> None:
    async with server(flavour) as host, serving(settings(host.url, kinds=["openai"])) as running:
        answer = await ask(running.port, stream=stream)
        assert answer.good
        assert host.requests[-1].json()["model"] == MODEL
        shown = answer.body.decode()
        assert MODEL not in shown
        assert str(host.port) not in shown
        events = answer.events if stream else [answer.json]
        assert {event["model"] for event in events if event != "[DONE]"} == {ALIAS}
        assert len({event["id"] for event in events if event != "[DONE]"}) == 1


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("wanted", [False, True])
async def test_usage_is_told_to_those_who_asked(*, flavour: Flavour, wanted: bool) -> None:
    async with server(flavour) as host, serving(settings(host.url, kinds=["openai"])) as running:
        body = body_of(stream=True, stream_options={"include_usage": wanted})
        answer = await ask(running.port, body=body)
        told = [event["usage"] for event in answer.events[:-1] if event.get("usage")]
        assert len(told) == wanted
        counted = running.gateway.metrics.aliases[ALIAS]
        assert counted.completion_tokens > 0, "counted all the same"


async def test_connections_on_both_sides_outlive_a_stream() -> None:
    async with server() as host, serving(settings(host.url, kinds=["openai"])) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        async with Asked(reader, writer) as asked:
            for stream in (True, True, False):
                writer.write(request_bytes(body_of(stream=stream), CHAT, close=False))
                assert (await asked.answer()).good
                assert asked.seen == b"", "nothing after the answer's end"


@pytest.mark.parametrize("kind", [Kind.RESET_MID, Kind.CLOSE_MID, Kind.EOF_MID, Kind.ERROR_MID])
async def test_a_break_in_mid_stream_is_an_event(kind: Kind) -> None:
    async with (
        server(decode_tps=300) as host,
        serving(settings(host.url, kinds=["openai"])) as running,
    ):
        host.faults.add(Fault(kind=kind, after=3, count=1))
        answer = await ask(running.port, stream=True)
        assert answer.status == 200
        assert answer.text
        assert answer.error
        assert answer.headers["x-request-id"] in answer.error["message"]
        assert not answer.done
        assert answer.clean


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", [Kind.RESET, Kind.STATUS, Kind.CRASH, Kind.GARBAGE, Kind.HANG])
async def test_failover_between_the_kinds(*, kind: Kind, stream: bool) -> None:
    async with (
        server() as bad,
        sim() as good,
        serving(settings(bad.url, good, kinds=["openai"], timeouts=limits_for(kind))) as running,
    ):
        bad.faults.add(Fault(kind=kind, endpoint=CHAT, count=1))
        assert (await ask(running.port, stream=stream)).good
        assert good.stats.endpoints["POST /api/chat"] == 1
    async with (
        sim() as first,
        server() as second,
        serving(
            settings(first, second.url, kinds=["ollama", "openai"], timeouts=limits_for(kind))
        ) as running,
    ):
        first.faults.add(Fault(kind=kind, endpoint="/api/chat", count=1))
        assert (await ask(running.port, stream=stream)).good
        assert second.stats.endpoints[f"POST {CHAT}"] == 1


async def test_a_server_that_still_loads_is_busy_and_not_broken() -> None:
    async with (
        server() as loading,
        sim() as ready,
        serving(settings(loading.url, ready, kinds=["openai"])) as running,
    ):
        loading.loading = True
        for _ in range(4):
            assert (await ask(running.port)).good
        assert running.host("a").breaker.state is State.AVAILABLE


async def test_a_client_that_leaves_cancels_the_backend() -> None:
    async with (
        server(decode_tps=200) as host,
        serving(settings(host.url, kinds=["openai"])) as running,
    ):
        async with asking(running.port, body_of(stream=True, text="3000 words")) as asked:
            await asked.until(b'"content"')
        await eventually(lambda: host.stats.cancelled == 1, "the host was told")


async def test_embeddings_and_completions() -> None:
    model = SimModel(MODEL, capabilities=("completion", "embedding"))
    async with (
        OpenAiSim(model, slots=4) as host,
        serving(settings(host.url, kinds=["openai"])) as running,
    ):
        body: dict[str, object] = {"model": ALIAS, "input": ["a", "b"]}
        answer = await ask(running.port, "/v1/embeddings", body=body)
        assert [each["index"] for each in answer.json["data"]] == [0, 1]
        assert answer.json["model"] == ALIAS
        for stream in (False, True):
            body = {"model": ALIAS, "prompt": "Once", "stream": stream}
            answer = await ask(running.port, "/v1/completions", body=body)
            assert answer.status == 200
            assert answer.error is None
            assert MODEL not in answer.body.decode()
