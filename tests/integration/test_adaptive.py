"""The default strategy on real sockets: conversations stay with their caches, models in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from tests.integration.arena import (
    ALIAS,
    MODEL,
    QUICK,
    Running,
    eventually,
    serving,
    settings,
    sim,
)
from tests.integration.asking import CHAT, ask

from arriero.config.settings import Config
from arriero.testing.faults import Fault, Kind
from arriero.testing.ollama import OllamaSim, SimModel
from arriero.testing.openai_server import OpenAiSim

MULES = "You know a lot about mules. " * 60
LLAMAS = "You know a lot about llamas. " * 60


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ("system", "user", "assistant", "user", "assistant", "user")
    said = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"model": ALIAS, "messages": said, **more}


def adaptive(*hosts: OllamaSim, **more: Any) -> Config:
    patient = msgspec.structs.replace(QUICK, first_token_s=20.0, load_s=20.0)
    return settings(*hosts, strategy="adaptive", slots=1, timeouts=patient, **more)


def asked(*hosts: OllamaSim) -> list[int]:
    return [sum(seen.path == "/api/chat" for seen in host.requests) for host in hosts]


async def talk(running: Running, opening: str, words: str) -> None:
    """Have a conversation of three turns."""
    texts = [opening]
    for turn in range(3):
        texts.append(f"{words} {turn}")
        answer = await ask(running.port, body=chat(*texts))
        assert answer.good
        texts.append(answer.json["choices"][0]["message"]["content"])


async def test_a_conversation_stays_where_it_began() -> None:
    async with sim() as a, sim() as b, sim() as c, serving(adaptive(a, b, c)) as running:
        await talk(running, MULES, "mules")
        assert asked(a, b, c) == [3, 0, 0]
        await talk(running, LLAMAS, "llamas")
        assert sorted(asked(a, b, c)) in ([0, 0, 6], [0, 3, 3])


async def test_streams_are_remembered_too() -> None:
    async with sim() as a, sim() as b, serving(adaptive(a, b)) as running:
        for words in ("one", "two", "three"):
            answer = await ask(running.port, body=chat(MULES, words, stream=True))
            assert answer.done
        assert asked(a, b) == [3, 0]


async def test_speed_is_learnt_from_what_ollama_tells() -> None:
    async with sim() as a, sim() as b, serving(adaptive(a, b)) as running:
        paces = running.station("a").group.paces
        assert not paces.classes
        assert (await ask(running.port, body=chat(MULES, "hello"))).good
        assert [pace.hosts for pace in paces.classes.values()] == [running.host("a").bit]


async def test_a_server_of_openais_api_tells_what_it_holds_and_how_fast_it_is() -> None:
    async with OpenAiSim(SimModel(MODEL)) as a, OpenAiSim(SimModel(MODEL)) as b:
        patient = msgspec.structs.replace(QUICK, first_token_s=20.0)
        config = settings(
            a.url, b.url, kinds=("openai", "openai"), strategy="adaptive", timeouts=patient
        )
        async with serving(config) as running:
            group = running.station("a").group
            for words in ("one", "two"):
                answer = await ask(running.port, body=chat(MULES, words, stream=True))
                assert answer.done
            assert [sum(seen.path == CHAT for seen in each.requests) for each in (a, b)] == [2, 0]
            assert [pace.hosts for pace in group.paces.classes.values()] == [running.host("a").bit]
            known = len(group.prefixes)
            a._forget()
            assert (await ask(running.port, body=chat(MULES, "two", "is", "two"))).good
            assert len(group.prefixes) < known + 3, "what was sent before it is forgotten"


async def test_the_cache_key_names_a_conversation() -> None:
    async with sim() as a, sim() as b, serving(adaptive(a, b)) as running:
        for words in ("one", "two", "three", "four"):
            body = chat(words * 90, words, prompt_cache_key="chat-1")
            assert (await ask(running.port, body=body)).good
        assert sorted(asked(a, b)) == [0, 4], "ties go where the conversation was"
        assert all(b"chat-1" not in seen.body for host in (a, b) for seen in host.requests)


async def test_other_strategies_remember_nothing() -> None:
    async with sim() as a, serving(settings(a)) as running:
        assert (await ask(running.port, body=chat(MULES, "hello"))).good
        group = running.station("a").group
        assert (len(group.prefixes), len(group.paces.classes)) == (0, 0)


@asynccontextmanager
async def at_work(running: Running, name: str, host: OllamaSim) -> AsyncIterator[None]:
    """Keep a host's only slot busy, with a request that hangs until its client leaves."""
    host.faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat", count=1))
    async with asyncio.TaskGroup() as group:
        holder = group.create_task(ask(running.port, body=chat(MULES, "hold", stream=True)))
        await eventually(lambda: host.stats.faults[Kind.HANG], "a request that hangs")
        assert running.host(name).in_flight == 1
        yield
        holder.cancel()


async def test_a_busy_host_lets_a_conversation_go() -> None:
    async with sim() as a, sim() as b, serving(adaptive(a, b)) as running:
        assert (await ask(running.port, body=chat(MULES, "hello"))).good
        async with at_work(running, "a", a):
            assert (await ask(running.port, body=chat(MULES, "hello again"))).good
        assert asked(a, b) == [2, 1]


def with_another_model() -> tuple[OllamaSim, OllamaSim]:
    """Return a host with the model in memory, and one that would have to drive out another."""
    return sim(MODEL, "other:1b"), sim(MODEL, "other:1b", cold=True).hold("other:1b")


async def test_one_waits_for_a_loaded_host_rather_than_drive_out_another_model() -> None:
    warm, cold = with_another_model()
    async with warm, cold, serving(adaptive(warm, cold)) as running:
        async with asyncio.TaskGroup() as group, at_work(running, "a", warm):
            waiting = group.create_task(ask(running.port, body=chat(MULES, "hello")))
            await eventually(lambda: running.gateway.queue.waiting, "a request that waits")
            assert not running.station("b").resident
        assert waiting.result().good
        assert asked(warm, cold) == [2, 0]


async def test_patience_ends() -> None:
    warm, cold = with_another_model()
    async with warm, cold, serving(adaptive(warm, cold)) as running:
        running.station("a").group.paces.load_s = 0.1
        async with at_work(running, "a", warm):
            assert (await ask(running.port, body=chat(MULES, "hello"))).good
        assert asked(warm, cold) == [1, 1]
