"""Two gateways and one Valkey: how many run at once is counted at both; all wait in one line."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import msgspec
import pytest
from tests.integration.arena import Running, eventually, serving, settings, sim
from tests.peers.asking import CHAT, ask
from tests.peers.test_shared_limits import SECRET, flood, limit, peers_are, shared
from tests.peers.valkey import Valkey
from tests.server.client import Client, chat, request

from arriero.config.settings import Timeouts
from arriero.testing.faults import Fault, Kind
from arriero.testing.ollama import OllamaSim

Pair = tuple[Running, Running]


@pytest.fixture
async def host() -> AsyncIterator[OllamaSim]:
    async with sim() as host:
        yield host


@pytest.fixture
async def pair(valkey: Valkey, host: OllamaSim) -> AsyncIterator[Pair]:
    """Two gateways with one host and one Valkey; requests have time."""
    config = shared(settings(host, timeouts=Timeouts()), valkey)
    async with serving(config) as one, serving(config) as other:
        yield one, other


def running_at(*gateways: Running) -> int:
    return sum(meter.running for one in gateways for meter in one.gateway.limiter._meters.values())


def waiting_at(gateway: Running) -> int:
    return len(gateway.gateway.holds)


async def begin(gateway: Running, stack: AsyncExitStack, *, text: str = "a") -> Client:
    """Send a request, and do not wait for its answer."""
    client = await Client.connect(gateway.port)
    stack.push_async_callback(client.close)
    client.write(request("POST", CHAT, chat(text, model="llama"), key=SECRET))
    return client


def hang(host: OllamaSim, count: int) -> None:
    """Let the next answers not come."""
    host.faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat", count=count))


def asked(host: OllamaSim) -> int:
    return sum(seen.path == "/api/chat" for seen in host.requests)


@pytest.mark.parametrize("concurrent", [1, 3, 20])
async def test_no_more_than_the_limit_run_at_both_together(pair: Pair, concurrent: int) -> None:
    limit(*pair, concurrent=concurrent)
    most = 0
    over = asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not over.is_set():
            most = max(most, running_at(*pair))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(watch())
        seen = await flood(*pair, clients=2 * concurrent, each=4)
        over.set()
    assert seen == {200: 2 * 2 * concurrent * 4}, "nobody is refused"
    assert most <= concurrent
    assert most >= concurrent * 0.95


async def test_a_slot_that_is_held_at_one_is_waited_for_at_the_other(
    pair: Pair, host: OllamaSim
) -> None:
    one, other = pair
    limit(*pair, concurrent=1)
    async with AsyncExitStack() as stack:
        hang(host, 1)
        holder = await begin(one, stack)
        await eventually(lambda: running_at(one) == 1, "held at one")
        waiter = await begin(other, stack)
        await eventually(lambda: waiting_at(other) == 1, "waits at the other")
        later = await begin(one, stack)
        await eventually(lambda: waiting_at(one) == 1, "waits behind it")
        order: list[str] = []

        async def answered(client: Client, name: str) -> None:
            assert (await client.answer()).status == 200
            order.append(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(answered(waiter, "other"))
            group.create_task(answered(later, "one"))
            await holder.close()
        assert order == ["other", "one"], "who came first is first, wherever"


async def test_who_waits_too_long_for_the_other_is_told(valkey: Valkey, host: OllamaSim) -> None:
    config = shared(settings(host, timeouts=Timeouts()), valkey)
    short = msgspec.structs.replace(config.queue, default_deadline_s=0.2)
    impatient = msgspec.structs.replace(config, queue=short)
    async with serving(config) as one, serving(impatient) as other, AsyncExitStack() as stack:
        limit(one, other, concurrent=1)
        hang(host, 1)
        holder = await begin(one, stack)
        await eventually(lambda: running_at(one) == 1, "held at one")
        refused = await ask(other, "POST", CHAT, chat("b", model="llama"), key=SECRET)
        assert (refused.status, refused.error["code"]) == (503, "queue_timeout")
        await holder.close()
        answer = await ask(other, "POST", CHAT, chat("c", model="llama"), key=SECRET)
        assert answer.status == 200, "the line is as it was"


async def test_without_valkey_each_counts_for_itself_and_they_agree_afterwards(
    pair: Pair, valkey: Valkey, host: OllamaSim
) -> None:
    limit(*pair, concurrent=2)
    async with AsyncExitStack() as stack:
        hang(host, 4)
        clients = [await begin(pair[0], stack) for _ in range(2)]
        await eventually(lambda: running_at(*pair) == 2, "the limit is reached")
        waiters = [await begin(pair[1], stack) for _ in range(2)]
        await eventually(lambda: waiting_at(pair[1]) == 2, "the other waits")
        await asyncio.to_thread(valkey.kill)
        await eventually(lambda: running_at(*pair) == 4, "each by its own count")
        await asyncio.to_thread(valkey.start)  # with nothing in it
        for gateway in pair:
            await peers_are(gateway, up=True)
        third = await begin(pair[0], stack)
        await eventually(lambda: waiting_at(pair[0]) == 1, "there are more than the limit")
        meter = pair[0].gateway.limiter._meters["key-1", ""]
        await eventually(lambda: meter.permits and meter.permits.pressed, "that is known")
        for one in clients:
            await one.close()
        await eventually(lambda: running_at(*pair) == 2, "two have ended")
        assert waiting_at(pair[0]) == 1, "there are as many as the limit"
        await waiters[0].close()
        assert (await third.answer()).status == 200
        await waiters[1].close()


async def test_a_gateway_that_is_gone_holds_nothing(valkey: Valkey, host: OllamaSim) -> None:
    config = shared(settings(host, timeouts=Timeouts()), valkey)
    async with serving(config) as one, AsyncExitStack() as stack:
        async with serving(config) as other:
            limit(one, other, concurrent=1)
            hang(host, 1)
            holder = await begin(other, stack)
            await eventually(lambda: running_at(other) == 1, "held at the other")
            waiter = await begin(one, stack)
            await eventually(lambda: waiting_at(one) == 1, "waits")
            await holder.close()
        assert (await waiter.answer()).status == 200
        assert asked(host) == 2


async def test_a_limit_that_is_gone_lets_everybody_in(pair: Pair, host: OllamaSim) -> None:
    one, other = pair
    limit(*pair, concurrent=1)
    async with AsyncExitStack() as stack:
        hang(host, 1)
        holder = await begin(one, stack)
        await eventually(lambda: running_at(one) == 1, "held at one")
        limit(*pair, requests_per_minute=1000)
        answer = await ask(other, "POST", CHAT, chat("b", model="llama"), key=SECRET)
        assert answer.status == 200
        await holder.close()
