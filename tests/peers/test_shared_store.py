"""Two gateways on one PostgreSQL: keys and usage are common, and its loss stops nobody."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest
from tests.integration.arena import Running, events, eventually, serving, settings, sim
from tests.peers.asking import ask, metrics, say
from tests.store.postgresql import Postgresql, start

from arriero.config.settings import Secret, Store

SHARED_WITHIN_S = 1.0
STRANGER = "sk-nobody-knows-this-one"


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Postgresql]:
    server = start()
    if isinstance(server, str):
        pytest.skip(server)
    yield server
    server.stop()


@pytest.fixture
async def pair(postgresql: Postgresql) -> AsyncIterator[tuple[Running, Running]]:
    """Two gateways with one host and one database."""
    async with sim() as host:
        config = msgspec.structs.replace(
            settings(host), store=Store(url=Secret(postgresql.new_database()))
        )
        async with serving(config) as one, serving(config) as other:
            yield one, other


async def make(gateway: Running, **fields: Any) -> str:
    answer = await ask(gateway, "POST", "/key/generate", fields)
    assert answer.status == 200, answer
    key = answer.json()["key"]
    assert isinstance(key, str)
    return key


async def within_a_second(happened: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SHARED_WITHIN_S):
        while not await happened():  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.01)


async def store_is(gateway: Running, *, up: bool) -> None:
    outside = gateway.gateway.counters.outside
    await eventually(lambda: outside().store_up is up, f"store_up {up}")


async def test_keys_are_good_and_revoked_everywhere(pair: tuple[Running, Running]) -> None:
    one, other = pair
    key = await make(one, key_alias="bob")

    async def good() -> bool:
        return await say(other, key) == 200

    async def revoked() -> bool:
        return await say(one, key) == 401

    await within_a_second(good)
    assert (await ask(other, "POST", "/key/delete", {"keys": [key]})).status == 200
    await within_a_second(revoked)


async def test_usage_of_both_adds_up(pair: tuple[Running, Running]) -> None:
    one, other = pair
    key = await make(one, key_alias="carla")
    await eventually(lambda: len(other.gateway.ring) == 1, "the key at the other")
    for gateway in (one, other, other):
        assert await say(gateway, key) == 200

    async def added_up() -> bool:
        days = (await ask(one, "GET", "/usage?key=carla")).json()["usage"]
        return [day["requests"] for day in days] == [3]

    await within_a_second(added_up)


async def test_the_loss_of_the_database_stops_nobody(
    pair: tuple[Running, Running], postgresql: Postgresql
) -> None:
    one, other = pair
    key = await make(one, key_alias="dora")
    await eventually(lambda: len(other.gateway.ring) == 1, "the key at the other")
    with events() as log:
        await asyncio.to_thread(postgresql.halt)
        for gateway in pair:
            await store_is(gateway, up=False)
            assert await say(gateway, key) == 200
            assert await say(gateway, STRANGER) == 401, "never open for strangers"
            ready = await ask(gateway, "GET", "/health/readiness")
            assert (ready.status, ready.json()["store"]) == (200, "unavailable")
            assert (await metrics(gateway)).total("arriero_store_up") == 0
        refused = await ask(one, "POST", "/key/generate", {})
        assert (refused.status, refused.error["code"]) == (503, "store_unavailable")
        await asyncio.to_thread(postgresql.resume)
        for gateway in pair:
            await store_is(gateway, up=True)
            ready = await ask(gateway, "GET", "/health/readiness")
            assert ready.json() == {"status": "ready"}
            readings = await metrics(gateway)
            assert readings.total("arriero_store_up") == 1
            assert readings.total("arriero_usage_dropped_total") == 0
    told = [line for line in log if line.startswith("store")]
    assert sum("store unavailable" in line for line in told) == 2, "once for each gateway"
    assert told.count("store available again") == 2
    days = (await ask(other, "GET", "/usage?key=dora")).json()["usage"]
    assert [day["requests"] for day in days] == [2], "those of the meantime are not lost"
