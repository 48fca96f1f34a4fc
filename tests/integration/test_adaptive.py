"""The default strategy on real sockets: conversations stay with their caches, models in memory."""

import asyncio
from typing import Any

from tests.integration.arena import (
    ALIAS,
    CALM,
    MODEL,
    Running,
    eventually,
    serving,
    settings,
    sim,
)
from tests.integration.asking import ask

from arriero.config.settings import Config
from arriero.testing.ollama import OllamaSim

MULES = "You know a lot about mules. " * 60
LLAMAS = "You know a lot about llamas. " * 60


def chat(*texts: str, **more: Any) -> dict[str, Any]:
    roles = ("system", "user", "assistant", "user", "assistant", "user")
    said = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return {"model": ALIAS, "messages": said, **more}


def adaptive(*hosts: OllamaSim, **more: Any) -> Config:
    return settings(*hosts, strategy="adaptive", **more)


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
        assert asked(a, b, c) == [3, 3, 0]
        await talk(running, MULES, "more mules")  # another one with the same system message
        assert asked(a, b, c) == [6, 3, 0]


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


async def test_other_strategies_remember_nothing() -> None:
    async with sim() as a, serving(settings(a)) as running:
        assert (await ask(running.port, body=chat(MULES, "hello"))).good
        group = running.station("a").group
        assert (len(group.prefixes), len(group.paces.classes)) == (0, 0)


async def test_a_busy_host_lets_a_conversation_go() -> None:
    async with sim() as a, sim() as b, serving(adaptive(a, b, slots=1)) as running:
        assert (await ask(running.port, body=chat(MULES, "hello"))).good
        async with asyncio.TaskGroup() as group:
            slow = chat(MULES, "Say it in 400 words", stream=True)
            first = group.create_task(ask(running.port, body=slow))
            await eventually(lambda: running.host("a").in_flight, "a at work")
            assert (await ask(running.port, body=chat(MULES, "hello again"))).good
        assert first.result().done
        assert asked(a, b) == [2, 1]


async def test_one_waits_for_a_loaded_host_rather_than_drive_out_another_model() -> None:
    async with (
        sim(MODEL, "other:1b") as a,
        sim(MODEL, "other:1b", cold=True) as b,
        serving(adaptive(b.hold("other:1b"), a, slots=1)) as running,
    ):
        group = running.station("b").group
        assert group.resident == running.host("b").bit  # the second is `a` here
        async with asyncio.TaskGroup() as tasks:
            slow = chat(MULES, "Say it in 400 words", stream=True)
            first = tasks.create_task(ask(running.port, body=slow))
            await eventually(lambda: running.host("b").in_flight, "the loaded host at work")
            assert (await ask(running.port, body=chat(MULES, "hello"))).good
        assert first.result().done
        assert asked(a, b) == [2, 0]


async def test_patience_ends() -> None:
    async with (
        sim(MODEL, "other:1b") as a,
        sim(MODEL, "other:1b", cold=True) as b,
        serving(adaptive(b.hold("other:1b"), a, slots=1, routing=CALM)) as running,
    ):
        running.station("b").group.paces.load_s = 0.1
        async with asyncio.TaskGroup() as tasks:
            slow = chat(MULES, "Say it in 4000 words", stream=True)
            first = tasks.create_task(ask(running.port, body=slow))
            await eventually(lambda: running.host("b").in_flight, "the loaded host at work")
            assert (await ask(running.port, body=chat(MULES, "hello"))).good
            assert not first.done()
            first.cancel()
        assert asked(a, b) == [1, 1]
