"""Limits of keys and models on the data plane: refused with reasons, or made to wait in order."""

import asyncio

import msgspec
import pytest
from tests.server.client import Client, chat, request
from tests.server.conftest import Launch
from tests.server.running import Running, until

from arriero.config.settings import Limits, Queueing
from arriero.core.keys import Key, KeyRing, digest
from arriero.testing.ollama import Fault, Kind

PEPPER = b"pepper"
SECRET = "sk-virtual-0123456789"
KEY = Key(id="key-1", digest=digest(SECRET.encode(), PEPPER))
CHAT = "/v1/chat/completions"


def limit(running: Running, **limits: int) -> None:
    """Give the gateway one key with these limits."""
    key = msgspec.structs.replace(KEY, limits=Limits(**limits))
    running.service.gateway.ring = KeyRing(PEPPER, [key])


def meters_are_at_rest(running: Running) -> bool:
    gateway = running.service.gateway
    return len(gateway.holds) == 0 and not any(
        meter.running for meter in gateway.limiter._meters.values()
    )


async def test_requests_over_the_limit_are_refused_with_the_reason(
    client: Client, running: Running
) -> None:
    limit(running, requests_per_minute=2)
    first = await client.ask("POST", CHAT, chat("a"), key=SECRET)
    assert first.status == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert (await client.ask("POST", CHAT, chat("b", stream=True), key=SECRET)).status == 200
    refused = await client.ask("POST", CHAT, chat("c"), key=SECRET)
    assert (refused.status, refused.error["code"]) == (429, "rate_limit_exceeded")
    assert refused.error["type"] == "rate_limit_error"
    assert "2 requests per minute" in refused.error["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert (await client.ask("POST", CHAT, chat("d"))).status == 200, "the master key has none"
    metrics = running.service.gateway.metrics
    assert metrics.limit_refusals.counts == {("rate_limit_exceeded",): 1}


async def test_tokens_are_settled_by_what_was_used(client: Client, running: Running) -> None:
    limit(running, tokens_per_day=1000)
    assert (await client.ask("POST", CHAT, chat("a"), key=SECRET)).status == 200
    await until(lambda: meters_are_at_rest(running))
    (meter,) = running.service.gateway.limiter._meters.values()
    assert 0 < meter.of_day.known < 100, "the estimate of an answer is 256 alone"
    running.service.gateway.limiter.restore(("key-1", ""), meter.day, 1000, 1000)
    refused = await client.ask("POST", CHAT, chat("b"), key=SECRET)
    assert (refused.status, refused.error["code"]) == (429, "insufficient_quota")
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers


async def test_a_failed_request_uses_no_tokens(client: Client, running: Running) -> None:
    limit(running, tokens_per_day=1000)
    refused = await client.ask("POST", CHAT, chat("a", model="none"), key=SECRET)
    assert refused.status == 404
    bad = await client.ask("POST", CHAT, chat("a", temperature=9), key=SECRET)
    assert bad.status == 400
    assert all(
        meter.of_day.known == 0 for meter in running.service.gateway.limiter._meters.values()
    )


async def test_who_is_over_the_limit_at_once_waits(running: Running) -> None:
    limit(running, concurrent=2)
    clients = [await running.connect() for _ in range(8)]
    most = 0

    async def ask(one: Client) -> int:
        return (await one.ask("POST", CHAT, chat("long"), key=SECRET)).status

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(one)) for one in clients]
        while not all(task.done() for task in tasks):
            most = max(most, running.open()["in flight"])
            await asyncio.sleep(0)
    assert [task.result() for task in tasks] == [200] * 8
    assert most <= 2
    await until(lambda: meters_are_at_rest(running))


async def test_who_leaves_while_waiting_leaves_the_line(running: Running) -> None:
    limit(running, concurrent=1)
    running.sims[0].faults.add(Fault(kind=Kind.HANG_MID, endpoint="/api/chat", after=1, count=1))
    first, second, third = [await running.connect() for _ in range(3)]
    first.write(request("POST", CHAT, chat("a", stream=True), key=SECRET))
    await until(lambda: running.open()["in flight"] == 1)
    second.write(request("POST", CHAT, chat("b"), key=SECRET))
    third.write(request("POST", CHAT, chat("c"), key=SECRET))
    await until(lambda: len(running.service.gateway.holds) == 2)
    await second.close()
    await until(lambda: len(running.service.gateway.holds) == 1)
    await first.close()
    assert (await third.answer()).status == 200
    await until(lambda: meters_are_at_rest(running))


async def test_who_waits_too_long_is_told(launch: Launch) -> None:
    running = await launch(queue=Queueing(default_deadline_s=0.05))
    limit(running, concurrent=1)
    running.sims[0].faults.add(Fault(kind=Kind.HANG_MID, endpoint="/api/chat", after=1, count=1))
    first, second = [await running.connect() for _ in range(2)]
    first.write(request("POST", CHAT, chat("a", stream=True), key=SECRET))
    await until(lambda: running.open()["in flight"] == 1)
    refused = await second.ask("POST", CHAT, chat("b"), key=SECRET)
    assert (refused.status, refused.error["code"]) == (503, "queue_timeout")
    assert "this key" in refused.error["message"]
    await first.close()
    await until(lambda: meters_are_at_rest(running))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_models_limit_is_everybodys(launch: Launch, stream: bool) -> None:  # noqa: FBT001 - a case
    running = await launch()
    aliases = running.gateway.runtime.fleet.aliases
    limited = msgspec.structs.replace(
        aliases["llama"].settings, limits=Limits(requests_per_minute=1)
    )
    aliases["llama"] = msgspec.structs.replace(aliases["llama"], settings=limited)
    client = await running.connect()
    assert (await client.ask("POST", CHAT, chat("a", stream=stream))).status == 200
    refused = await client.ask("POST", CHAT, chat("b", stream=stream))
    assert refused.status == 429
    assert "the model `llama`" in refused.error["message"]
