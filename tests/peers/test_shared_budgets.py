"""Two gateways and one Valkey: a budget is one sum, whoever uses it and whoever is away."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from tests.integration.arena import Running, eventually, serving, settings, sim
from tests.peers.asking import say
from tests.peers.test_shared_limits import SECRET, at_rest, flood, limit, peers_are, shared
from tests.peers.valkey import Valkey

from arriero.core.limits import day_of

Pair = tuple[Running, Running]
PLACE = ("key-1", "")


@pytest.fixture
async def pair(valkey: Valkey) -> AsyncIterator[Pair]:
    """Two gateways with one host and one Valkey."""
    async with sim() as host:
        config = shared(settings(host), valkey)
        async with serving(config) as one, serving(config) as other:
            yield one, other


def used_at(*gateways: Running) -> int:
    """Return what these gateways used themselves."""
    return sum(one.gateway.limiter._meters[PLACE].of_day.used for one in gateways)


async def cost(gateway: Running) -> int:
    """Return how many tokens one request uses."""
    limit(gateway, tokens_per_day=10**9)
    assert await say(gateway, SECRET) == 200
    await at_rest(gateway)
    return used_at(gateway)


@pytest.mark.parametrize("period", ["tokens_per_day", "tokens_per_month"])
async def test_a_flood_at_both_uses_the_budget_once(pair: Pair, period: str) -> None:
    tokens = await cost(pair[0])
    budget = tokens * 101
    limit(*pair, **{period: budget})
    seen = await flood(*pair, clients=4, each=20)  # 160 requests, and one is used already
    assert set(seen) == {200, 429}
    await at_rest(*pair)
    # While requests run, their estimates count, which are larger: some may be refused for those.
    while await say(pair[0], SECRET) == 200:
        await at_rest(*pair)
    await at_rest(*pair)
    assert budget * 0.95 <= used_at(*pair) <= budget * 1.05


async def test_what_one_used_counts_at_the_other(pair: Pair) -> None:
    one, other = pair
    tokens = await cost(one)
    limit(*pair, tokens_per_day=tokens)
    assert await say(other, SECRET) == 429


async def test_without_valkey_each_goes_by_what_it_knows_and_they_agree_afterwards(
    pair: Pair, valkey: Valkey
) -> None:
    one, other = pair
    tokens = await cost(one)
    limit(*pair, tokens_per_day=tokens * 8)
    assert await say(other, SECRET) == 200  # 2
    await at_rest(*pair)
    await asyncio.to_thread(valkey.kill)
    for gateway in pair:
        await peers_are(gateway, up=False)
        for _ in range(2):
            assert await say(gateway, SECRET) == 200  # 6
    await asyncio.to_thread(valkey.start)  # with nothing in it
    for gateway in pair:
        await peers_are(gateway, up=True)
    seen = []
    for _ in range(2):
        for gateway in pair:
            seen.append(await say(gateway, SECRET))
            await at_rest(*pair)
    assert seen == [200, 200, 429, 429]
    assert used_at(*pair) == tokens * 8


async def test_what_was_used_before_both_counts_once(pair: Pair) -> None:
    """Both read it in the store when they start."""
    for gateway in pair:
        gateway.gateway.limiter.restore(PLACE, day_of(time.time()), 9_999, 9_999)
    limit(*pair, tokens_per_day=10_000)
    assert await say(pair[1], SECRET) == 200
    await at_rest(*pair)
    for gateway in pair:
        assert await say(gateway, SECRET) == 429


async def test_what_a_gateway_that_is_gone_used_counts_on(pair: Pair, valkey: Valkey) -> None:
    one, _ = pair
    tokens = await cost(one)
    config = one.gateway.runtime.config
    async with serving(config) as third:
        limit(third, tokens_per_day=10**9)
        assert await say(third, SECRET) == 200
        await at_rest(third)
    await eventually(lambda: one.gateway.counters.outside().peers == 1, "it is gone")
    assert await say(one, SECRET) == 200
    await at_rest(one)
    await asyncio.to_thread(valkey.kill)
    await peers_are(one, up=False)
    await asyncio.to_thread(valkey.start)  # what it knew is gone, and told again by who heard it
    await peers_are(one, up=True)
    budget = one.gateway.limiter._meters[PLACE].of_day
    assert (budget.used, budget.known) == (2 * tokens, 3 * tokens)
