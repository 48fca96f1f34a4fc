"""Two gateways and one Valkey: a limit is the limit of both together, also around its loss."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest
from tests.integration.arena import Running, events, eventually, serving, settings, sim
from tests.peers.asking import CHAT, ask, metrics, say
from tests.peers.valkey import Valkey
from tests.server.client import Client, chat

from arriero.config.settings import Config, Limits, Peers, Secret
from arriero.core.keys import Key, KeyRing, digest

PEPPER = b"pepper"
SECRET = "sk-virtual-0123456789"
KEY = Key(id="key-1", digest=digest(SECRET.encode(), PEPPER))


def shared(config: Config, valkey: Valkey) -> Config:
    return msgspec.structs.replace(config, peers=Peers(url=Secret(valkey.url)))


@pytest.fixture
async def pair(valkey: Valkey) -> AsyncIterator[tuple[Running, Running]]:
    """Two gateways with one host and one Valkey."""
    async with sim() as host:
        config = shared(settings(host), valkey)
        async with serving(config) as one, serving(config) as other:
            yield one, other
            await at_rest(one, other)


def at_work(gateway: Running) -> list[object]:
    link = gateway.gateway.peers
    assert link is not None
    return [share.name for share in link.sharing.active] if link.is_up else []


async def at_rest(*gateways: Running) -> None:
    await eventually(lambda: not any(map(at_work, gateways)), "shares at rest")


def limit(*gateways: Running, **limits: int) -> None:
    for gateway in gateways:
        key = msgspec.structs.replace(KEY, limits=Limits(**limits))
        gateway.gateway.ring = KeyRing(PEPPER, [key])


async def flood(*gateways: Running, clients: int, each: int) -> Counter[int]:
    """Ask all gateways at the same time; return how often which status was the answer."""
    seen: Counter[int] = Counter()

    async def one(gateway: Running) -> None:
        client = await Client.connect(gateway.port)
        for _ in range(each):
            answer = await client.ask("POST", CHAT, chat("a", model="llama"), key=SECRET)
            seen[answer.status] += 1
        await client.close()

    async with asyncio.TaskGroup() as group:
        for gateway in gateways:
            for _ in range(clients):
                group.create_task(one(gateway))
    return seen


@pytest.mark.parametrize("rpm", [1, 7, 60, 400])
async def test_a_burst_at_both_is_let_in_as_often_as_the_limit_says(
    pair: tuple[Running, Running], rpm: int
) -> None:
    limit(*pair, requests_per_minute=rpm)
    each = -(-rpm * 3 // 2 // 16)  # one and a half times the limit at each gateway
    seen = await flood(*pair, clients=16, each=max(each, 1))
    assert set(seen) == {200, 429}
    assert rpm * 0.95 <= seen[200] <= rpm * 1.05


async def test_one_gateway_alone_gets_the_whole_limit(pair: tuple[Running, Running]) -> None:
    one, other = pair
    limit(*pair, requests_per_minute=100)
    assert (await flood(one, clients=8, each=20))[200] == 100
    refused = await ask(other, "POST", CHAT, chat("a", model="llama"), key=SECRET)
    assert refused.status == 429
    assert 50 <= int(refused.headers["retry-after"]) <= 62


async def test_the_headers_tell_what_is_left_of_the_common_limit(
    pair: tuple[Running, Running],
) -> None:
    one, other = pair
    limit(*pair, requests_per_minute=10)
    for _ in range(3):
        assert await say(one, SECRET) == 200
    answer = await ask(other, "POST", CHAT, chat("a", model="llama"), key=SECRET)
    assert answer.headers["x-ratelimit-limit-requests"] == "10"
    assert answer.headers["x-ratelimit-remaining-requests"] == "6"


async def test_tokens_are_settled_for_both(pair: tuple[Running, Running]) -> None:
    """The estimate of an answer is 256 tokens: without settling, three requests would be over."""
    one, other = pair
    limit(*pair, tokens_per_minute=1000)
    for _ in range(5):
        for gateway in (one, other):
            assert await say(gateway, SECRET) == 200
            await at_rest(gateway)


async def test_without_valkey_each_goes_by_what_it_knows_and_they_agree_afterwards(
    pair: tuple[Running, Running], valkey: Valkey
) -> None:
    limit(*pair, requests_per_minute=100)
    assert (await flood(*pair, clients=4, each=5))[200] == 40
    with events() as log:
        await asyncio.to_thread(valkey.kill)
        for gateway in pair:
            await peers_are(gateway, up=False)
            assert await say(gateway, SECRET) == 200
            assert await say(gateway, "sk-nobody-knows-this-one") == 401
            ready = await ask(gateway, "GET", "/health/readiness")
            assert (ready.status, ready.json()["peers"]) == (200, "unavailable")
            assert (await metrics(gateway)).total("arriero_peers_up") == 0
        assert (await flood(*pair, clients=4, each=2))[200] == 16
        await asyncio.to_thread(valkey.start)  # with nothing in it
        for gateway in pair:
            await peers_are(gateway, up=True)
            ready = await ask(gateway, "GET", "/health/readiness")
            assert ready.json() == {"status": "ready"}
    assert sum("peers unavailable" in line for line in log) == 2, "once for each gateway"
    assert sum("peers available" in line for line in log) == 2
    seen = await flood(*pair, clients=4, each=10)
    # What was used meanwhile counts for both; each may end with one that was granted in advance.
    left = 100 - 40 - 2 - 16
    assert left - 2 <= seen[200] <= left
    for gateway in pair:
        readings = await metrics(gateway)
        assert (readings.total("arriero_peers_up"), readings.total("arriero_peers")) == (1, 1)


async def peers_are(gateway: Running, *, up: bool) -> None:
    outside = gateway.gateway.counters.outside
    await eventually(lambda: outside().peers_up is up, f"peers_up {up}")


async def test_a_gateway_starts_without_valkey(valkey: Valkey) -> None:
    await asyncio.to_thread(valkey.kill)
    async with sim() as host, serving(shared(settings(host), valkey)) as gateway:
        limit(gateway, requests_per_minute=3)
        assert await say(gateway, SECRET) == 200
        await asyncio.to_thread(valkey.start)
        await peers_are(gateway, up=True)
        seen = await flood(gateway, clients=1, each=3)
        assert seen == {200: 2, 429: 1}, "what was used before they met counts"
