"""Two gateways place requests on one fleet as one would."""

import asyncio
import time
from contextlib import AsyncExitStack

import msgspec
import pytest
from tests.integration.arena import KEY, Running, eventually, serving, settings, sim
from tests.peers.asking import say
from tests.peers.test_shared_limits import shared
from tests.peers.valkey import Valkey
from tests.server.client import Client, chat, request

from arriero.config.settings import Timeouts
from arriero.testing.ollama import Fault, Kind, OllamaSim

CHAT = "/v1/chat/completions"
HOSTS = 4
PATIENT = Timeouts()


async def hang(gateway: Running, stack: AsyncExitStack) -> Client:
    """Begin a request that does not end."""
    before = own(gateway)
    client = await Client.connect(gateway.port)
    stack.push_async_callback(client.close)
    client.write(request("POST", CHAT, chat("a", model="llama", stream=True), key=KEY))
    await eventually(lambda: own(gateway) > before, "sent to a host")
    return client


def own(gateway: Running) -> int:
    return sum(host.in_flight for host in gateway.known)


def seen(gateway: Running) -> int:
    return sum(host.others for host in gateway.known)


async def see_each_other(one: Running, other: Running) -> None:
    def holds() -> bool:
        return seen(one) == own(other) and seen(other) == own(one)

    await eventually(holds, "each sees what the other has")


@pytest.mark.parametrize("requests", [HOSTS, 3 * HOSTS])
async def test_requests_at_both_are_spread_over_the_fleet(valkey: Valkey, requests: int) -> None:
    async with AsyncExitStack() as stack:
        sims: list[OllamaSim] = [await stack.enter_async_context(sim()) for _ in range(HOSTS)]
        for host in sims:
            host.faults.add(Fault(kind=Kind.HANG_MID, endpoint="/api/chat", after=1))
        config = shared(settings(*sims, timeouts=PATIENT), valkey)
        one = await stack.enter_async_context(serving(config))
        other = await stack.enter_async_context(serving(config))
        clients = [await _hang_and_see(number, (one, other), stack) for number in range(requests)]
        assert [host.stats.in_flight.now for host in sims] == [requests // HOSTS] * HOSTS
        for client in clients:
            await client.close()
        await see_each_other(one, other)
        assert own(one) == own(other) == seen(one) == seen(other) == 0


async def _hang_and_see(
    number: int, pair: tuple[Running, Running], stack: AsyncExitStack
) -> Client:
    # Two in a row at each, so that taking turns alone would not spread them.
    client = await hang(pair[number // 2 % 2], stack)
    await see_each_other(*pair)
    return client


async def test_what_a_gateway_had_is_forgotten_when_it_or_valkey_is_gone(valkey: Valkey) -> None:
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(sim())
        host.faults.add(Fault(kind=Kind.HANG_MID, endpoint="/api/chat", after=1))
        config = shared(settings(host, timeouts=PATIENT), valkey)
        one = await stack.enter_async_context(serving(config))
        async with serving(config) as other:
            client = await hang(other, stack)
            await eventually(lambda: seen(one) == 1, "seen")
            await asyncio.to_thread(valkey.kill)
            await eventually(lambda: seen(one) == 0, "nothing is known of the others")
            await asyncio.to_thread(valkey.start)
            await eventually(lambda: seen(one) == 1, "seen again")
            await client.close()
        await eventually(lambda: one.gateway.counters.outside().peers == 0, "alone")
        assert seen(one) == 0


async def test_a_gateway_that_speaks_otherwise_is_not_listened_to(valkey: Valkey) -> None:
    async with sim() as host, serving(shared(settings(host), valkey)) as gateway:
        outside = gateway.gateway.counters.outside
        assert outside().peers_up is True
        now_s = time.time() + 3600  # does not age while the test runs
        with valkey.client() as client:
            stranger = msgspec.msgpack.encode((now_s, "not JSON"))
            client.hset("{arriero}:gateways", "stranger", stranger)
            await eventually(lambda: outside().peers_up is False, "by itself")
            assert await say(gateway) == 200
            client.hdel("{arriero}:gateways", "stranger")
        await eventually(lambda: outside().peers_up is True, "together")
