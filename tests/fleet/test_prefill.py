"""Templates are verified on what is loaded, once, and without a token generated."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.fleet.backends import spawn

from arriero.config.settings import Backend, BackendKind, Model, Route, Routing
from arriero.core.fleet import Alias, Fleet, Target
from arriero.core.prefill import Ending, Prefill, Verdicts, template_of
from arriero.fleet import prefill
from arriero.fleet.inventory import Inventory
from arriero.fleet.pool import Pool
from arriero.fleet.prefill import Verifier
from arriero.testing.clock import LoopClock
from arriero.testing.faults import Fault, Kind
from arriero.testing.host import SimHost
from arriero.testing.ollama import OllamaSim, SimModel
from arriero.testing.openai_server import OpenAiSim

NAME = "llama3:8b"
ROUTING = Routing()
PLAIN = Prefill(Ending.KEPT)


def _ignore(_: str) -> None:
    """Nobody is ejected here."""


class Watched:
    """A verifier at work over some hosts; `look` is what the inventories do."""

    def __init__(self, hosts: tuple[SimHost, ...], kind: BackendKind) -> None:
        backends = [
            Backend(name="abc"[at], url=host.url, kind=kind) for at, host in enumerate(hosts)
        ]
        routes = tuple(Route(backend=backend.name, model=NAME) for backend in backends)
        self.fleet = Fleet(backends, [Model(name="m", routes=routes, context=2048)], ROUTING)
        self.pools = {backend.name: Pool(backend, spawn) for backend in backends}
        self.verdicts = Verdicts()
        self.verifier = Verifier(self.verdicts, lambda: (self.fleet, self.pools))

    @property
    def alias(self) -> Alias:
        return self.fleet.aliases["m"]

    def target(self, at: int = 0) -> Target:
        return self.alias.targets[at]

    def verdict(self, at: int = 0) -> Prefill | None:
        target = self.target(at)
        template = template_of(target.host, target.model)
        return None if template is None else self.verdicts.get(template)

    async def look(self) -> None:
        for name, host in self.fleet.hosts.items():
            inventory = Inventory(host, self.pools[name], ROUTING, LoopClock(), _ignore)
            await inventory.poll()

    async def known(self, at: int = 0) -> Prefill:
        async with asyncio.timeout(5):
            while (found := self.verdict(at)) is None:  # noqa: ASYNC110 - verdicts have no event
                await asyncio.sleep(0.002)
        return found


@contextlib.asynccontextmanager
async def watching(*hosts: SimHost, kind: BackendKind = "ollama") -> AsyncIterator[Watched]:
    watched = Watched(hosts, kind)
    await watched.look()
    task = asyncio.create_task(watched.verifier.run())
    try:
        yield watched
        assert not task.done()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        for pool in watched.pools.values():
            pool.abort()


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefill, "LOOK_INTERVAL_S", 0.01)


def rendered(host: SimHost) -> list[dict[str, Any]]:
    """What the host was asked to render."""
    bodies = [seen.json() for seen in host.requests if seen.method == "POST"]
    return [body for body in bodies if "_debug_render_only" in body]


async def load(host: SimHost, **options: object) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
    body = json.dumps({"model": NAME, "options": options, "stream": False}).encode()
    head = f"POST /api/generate HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
    await reader.read()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ({}, PLAIN),
        ({"continues_prefill": False}, Prefill()),
        ({"trims_prefill": True}, Prefill(Ending.TRIMMED)),
        ({"capabilities": ("completion", "tools")}, Prefill(Ending.KEPT, tools=Ending.KEPT)),
        (
            {"capabilities": ("completion", "thinking")},
            Prefill(Ending.KEPT, thinking=Ending.KEPT),
        ),
    ],
)
async def test_a_loaded_model_is_verified_at_the_first_look(
    model: dict[str, Any], found: Prefill
) -> None:
    async with OllamaSim([SimModel(NAME, **model)]) as host:
        await load(host, num_ctx=2048)
        async with watching(host) as watched:
            assert await watched.known() == found
        stats = host.stats.of(NAME)
        assert (stats.generations, stats.loads) == (0, 1), "nothing generated, nothing reloaded"


async def test_what_is_not_loaded_is_left_alone_until_its_first_stream() -> None:
    async with OllamaSim([SimModel(NAME)]) as host, watching(host) as watched:
        for _ in range(3):
            watched.verifier._look()
        assert not watched.verifier._pending
        assert not rendered(host)
        watched.verifier.nudge(watched.alias, watched.target())
        assert await watched.known() == PLAIN


async def test_a_model_that_comes_to_be_loaded_is_verified_at_the_next_look() -> None:
    async with OllamaSim([SimModel(NAME)]) as host, watching(host) as watched:
        await load(host, num_ctx=2048)
        await watched.look()
        assert await watched.known() == PLAIN


async def test_hosts_with_the_same_weights_and_version_are_asked_once() -> None:
    async with (
        OllamaSim([SimModel(NAME)]) as one,
        OllamaSim([SimModel(NAME)]) as two,
        OllamaSim([SimModel(NAME)], version="0.34.0") as newer,
    ):
        for host in (one, two, newer):
            await load(host, num_ctx=2048)
        async with watching(one, two, newer) as watched:
            assert await watched.known(0) == await watched.known(1) == PLAIN
            assert await watched.known(2) == PLAIN
            watched.verifier.nudge(watched.alias, watched.target())
            assert not watched.verifier._pending
        assert len(rendered(one)) + len(rendered(two)) == 1
        assert len(rendered(newer)) == 1


async def test_an_ollama_that_cannot_render_is_not_asked() -> None:
    async with OllamaSim([SimModel(NAME)], version="0.11.4") as host:
        await load(host, num_ctx=2048)
        async with watching(host) as watched:
            assert await watched.known() == Prefill()
        assert not rendered(host)


async def test_a_host_that_does_not_answer_is_asked_another_time() -> None:
    async with OllamaSim([SimModel(NAME)]) as host, watching(host) as watched:
        host.faults.add(Fault(kind=Kind.STATUS, status=503, endpoint="/api/chat", count=1))
        watched.verifier.nudge(watched.alias, watched.target())
        async with asyncio.timeout(5):
            while not rendered(host):  # noqa: ASYNC110 - requests have no event
                await asyncio.sleep(0.002)
        assert watched.verdict() is None
        watched.verifier.nudge(watched.alias, watched.target())
        assert await watched.known() == PLAIN


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.GARBAGE])
async def test_a_host_that_fails_ends_nothing(kind: Kind) -> None:
    async with OllamaSim([SimModel(NAME)]) as host, watching(host) as watched:
        host.faults.add(Fault(kind=kind, endpoint="/api/chat", count=1))
        watched.verifier.nudge(watched.alias, watched.target())
        async with asyncio.timeout(5):
            while not host.stats.faults:  # noqa: ASYNC110 - faults have no event
                await asyncio.sleep(0.002)
        watched.verifier.nudge(watched.alias, watched.target())
        assert await watched.known() == PLAIN


@pytest.mark.parametrize("flavour", ["llama.cpp", "vllm"])
async def test_servers_of_openais_api_are_verified_each_for_itself(flavour: Any) -> None:
    async with (
        OpenAiSim(SimModel(NAME), flavour=flavour) as one,
        OpenAiSim(SimModel(NAME), flavour=flavour) as two,
        watching(one, two, kind="openai") as watched,
    ):
        every = Prefill(Ending.KEPT, Ending.KEPT, Ending.KEPT)
        assert await watched.known(0) == await watched.known(1) == every
        assert one.stats.of(NAME).generations == 0


async def test_a_server_that_cannot_show_its_prompt_is_not_trusted() -> None:
    async with OpenAiSim(SimModel(NAME)) as host:
        host.faults.add(Fault(kind=Kind.STATUS, status=404, endpoint="/apply-template"))
        async with watching(host, kind="openai") as watched:
            assert await watched.known() == Prefill()


async def test_nothing_is_known_before_weights_and_version_are() -> None:
    async with OllamaSim([SimModel(NAME)]) as host:
        watched = Watched((host,), "ollama")
        target = watched.target()
        assert template_of(target.host, target.model) is None
        watched.verifier.nudge(watched.alias, target)
        assert not watched.verifier._pending
