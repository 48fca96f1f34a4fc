"""Two gateways and one Valkey: a conversation stays on its host, whichever gateway it comes to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
from tests.integration.arena import Running, eventually, serving
from tests.integration.arena import sim as warm
from tests.integration.asking import ask
from tests.integration.test_adaptive import LLAMAS, MULES, adaptive, asked, chat
from tests.peers.test_shared_limits import peers_are, shared
from tests.peers.valkey import Valkey

from arriero.core.access import MASTER_ID
from arriero.core.prefix import Index
from arriero.core.principal import session_name
from arriero.testing.ollama import OllamaSim

HOSTS = 4


@pytest.fixture
async def sims() -> AsyncIterator[list[OllamaSim]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(warm()) for _ in range(HOSTS)]


@pytest.fixture
async def pair(valkey: Valkey, sims: list[OllamaSim]) -> AsyncIterator[tuple[Running, Running]]:
    config = shared(adaptive(*sims), valkey)
    async with serving(config) as one, serving(config) as other:
        yield one, other


def known(gateway: Running) -> int:
    return len(gateway.station("a").group.prefixes)


async def knows_more(gateway: Running, than: int) -> None:
    """Wait until it has heard where a request went, and that it ended: a busy host is avoided."""

    def holds() -> bool:
        return known(gateway) > than and not any(host.others for host in gateway.known)

    await eventually(holds, "the hint at the other gateway")


async def test_the_turns_of_a_conversation_go_to_one_host_through_both(
    pair: tuple[Running, Running], sims: list[OllamaSim]
) -> None:
    for opening in (MULES, LLAMAS, MULES[::-1]):
        before = asked(*sims)
        texts = [opening]
        for turn, (here, there) in enumerate((pair, pair[::-1], pair)):
            texts.append(f"and then, {turn}?")
            seen = known(there)
            answer = await ask(here.port, body=chat(*texts))
            assert answer.good
            await knows_more(there, seen)
            texts.append(answer.json["choices"][0]["message"]["content"])
        went = [now - then for now, then in zip(asked(*sims), before, strict=True)]
        assert sorted(went) == [0] * (HOSTS - 1) + [3], "all three turns on one host"


async def test_a_conversation_is_known_by_its_name(
    pair: tuple[Running, Running], sims: list[OllamaSim]
) -> None:
    """What is made of that, when nothing of its prompt is known, is a matter of `adaptive`."""
    one, other = pair
    roster, prefixes = other.gateway.runtime.fleet.roster, other.station("a").group.prefixes
    assert roster.hints is not None
    for number in range(HOSTS + 1):
        before = asked(*sims)
        body = chat(f"{number} {MULES}", prompt_cache_key=f"talk {number}")
        assert (await ask(one.port, body=body)).good
        went = [now - then for now, then in zip(asked(*sims), before, strict=True)].index(1)
        name = roster.hints.session(session_name(MASTER_ID, f"talk {number}"))
        bit = other.host("abcd"[went]).bit
        await eventually(partial(_remembers, prefixes, name, bit), "known there")


def _remembers(prefixes: Index, session: str, bit: int) -> bool:
    return prefixes.host_of(session) == bit


async def test_a_gateway_that_begins_later_hears_what_was(
    pair: tuple[Running, Running], sims: list[OllamaSim]
) -> None:
    one, other = pair
    assert (await ask(one.port, body=chat(MULES, "hello"))).good
    await knows_more(other, 0)
    async with serving(one.gateway.runtime.config) as third:
        await knows_more(third, 0)
        assert (await ask(third.port, body=chat(MULES, "hello", "hi", "more"))).good
    assert sorted(asked(*sims)) == [0] * (HOSTS - 1) + [2]


async def test_without_valkey_each_knows_what_it_sent(
    pair: tuple[Running, Running], valkey: Valkey
) -> None:
    one, other = pair
    await asyncio.to_thread(valkey.kill)
    for gateway in pair:
        await peers_are(gateway, up=False)
    assert (await ask(one.port, body=chat(MULES, "hello"))).good
    assert (known(one) > 0, known(other)) == (True, 0)
    await asyncio.to_thread(valkey.start)
    await knows_more(other, 0)  # what was kept meanwhile is told


async def test_nothing_that_was_said_is_in_valkey(
    pair: tuple[Running, Running], valkey: Valkey
) -> None:
    one, other = pair
    body = chat(MULES, "xylophone", prompt_cache_key="glockenspiel")
    assert (await ask(one.port, body=body)).good
    await knows_more(other, 0)
    with valkey.client() as client:
        told = b"".join(
            value for _, entry in client.xrange("{arriero}:hints") for value in entry.values()
        )
        assert client.ttl("{arriero}:hints") > 0
    assert b"llama3:8b" in told
    for secret in (b"mules", b"xylophone", b"glockenspiel"):
        assert secret not in told
