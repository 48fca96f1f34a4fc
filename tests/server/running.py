"""A gateway at work in this process, with simulated hosts behind it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from tests.server.client import KEY, PATIENCE_S, Client

from arriero.app.run import Service
from arriero.config.settings import (
    Access,
    Backend,
    Config,
    Log,
    Model,
    Route,
    Routing,
    Secret,
    Server,
)
from arriero.server.connection import ClientConnection
from arriero.server.gateway import Gateway
from arriero.testing.ollama import OllamaSim, SimModel, Turn

LONG_TOKENS = 900
LONG_TOKEN = " " * 20_000
# About 18 MB: more than all buffers of two connections on loopback can swallow.
LONG_ANSWER = ("x" + LONG_TOKEN) * LONG_TOKENS
MODEL = "llama3:8b"


def sim() -> OllamaSim:
    """Return a warm host that answers at once, and at length when asked for `long`."""

    def say(turn: Turn) -> str:
        return LONG_ANSWER if turn.text == "long" else f"You said: {turn.text}"

    model = SimModel(MODEL, replies=say)
    vectors = SimModel("nomic-embed-text", capabilities=("embedding",))
    return OllamaSim([model, vectors], num_parallel=64).hold(MODEL, vectors.name)


def config(sims: list[OllamaSim], server: dict[str, Any], **more: Any) -> Config:
    """Return a configuration with two aliases, each on every host."""
    backends = tuple(
        Backend(name=f"host{at}", url=sim.url, slots=64) for at, sim in enumerate(sims)
    )

    def model(alias: str, name: str) -> Model:
        routes = tuple(Route(backend=one.name, model=name) for one in backends)
        return Model(name=alias, routes=routes, overflow="truncate")  # bodies are large here

    whole = Config(
        backends=backends,
        models=(model("llama", MODEL), model("org/embed:v1", "nomic-embed-text")),
        server=msgspec.structs.replace(Server(port=0), **server),
        access=Access(master_key=Secret(KEY)),
        log=Log(access="off"),
        routing=Routing(probe_interval_s=0.0),  # no requests but those of a test
    )
    return msgspec.structs.replace(whole, **more)


class Events(logging.Handler):
    """Keeps the service's own log."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def names(self) -> list[str]:
        return [record.getMessage() for record in self.records]


class Running:
    """A started gateway; `stop` also asserts that nothing was left over."""

    def __init__(self, settings: Config, sims: list[OllamaSim]) -> None:
        self.service = Service(settings)
        self.sims = sims
        self.events = Events()
        logging.getLogger("arriero").handlers = [self.events]
        self.clients: list[Client] = []
        self.loop_errors: list[dict[str, Any]] = []
        self.task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.loop_errors.append(context))
        self.task = loop.create_task(self.service.run())
        async with asyncio.timeout(PATIENCE_S):
            await self.service.listening.wait()

    @property
    def gateway(self) -> Gateway:
        return self.service.gateway

    @property
    def port(self) -> int:
        return self.service.port

    async def connect(self, **how: Any) -> Client:
        client = await Client.connect(self.port, **how)
        self.clients.append(client)
        return client

    async def ready(self) -> None:
        """Wait until the inventories are known."""
        hosts = self.gateway.runtime.fleet.hosts.values()
        await until(lambda: all(host.installed is not None for host in hosts))

    def generations(self) -> int:
        """Return how many requests for an answer the hosts saw; loads and probes are none."""
        paths = ("/api/chat", "/api/embed", "/v1/chat/completions", "/v1/embeddings")
        return sum(seen.path in paths for sim in self.sims for seen in sim.requests)

    def connection(self) -> ClientConnection:
        """Return the gateway's side of the only connection."""
        (one,) = self.gateway.connections
        assert isinstance(one, ClientConnection)
        return one

    def sweep_after(self, seconds: float) -> None:
        """Let the gateway look at its deadlines as if this much time had gone by."""
        self.gateway.sweep(self.gateway.clock.now_s() + seconds)

    def open(self) -> dict[str, int]:
        """Return what is counted while it lasts; all zero when nothing is going on."""
        gateway = self.gateway
        return {
            "requests": gateway.metrics.requests_open,
            "connections": len(gateway.connections),
            "connections (metric)": gateway.metrics.client_connections,
            "leftovers": len(gateway.leftovers),
            "held": len(gateway.holds),
            "in flight": sum(host.in_flight for host in gateway.runtime.fleet.hosts.values()),
            "busy hosts": sum(sim.stats.in_flight.now for sim in self.sims),
        }

    async def settled(self) -> None:
        """Wait until nothing is going on."""
        await until(lambda: not any(self.open().values()), self.open)

    async def stop(self) -> None:
        """End it, and assert that nothing leaked and nothing went wrong inside."""
        assert self.task is not None
        for client in self.clients:
            await client.close()
        if not self.task.done():
            await self.settled()
            self.service.stop()
        async with asyncio.timeout(PATIENCE_S):
            await self.task
        assert not any(self.open().values()), self.open()
        assert self.loop_errors == []
        grave = [one for one in self.events.records if one.levelno >= logging.ERROR or one.exc_info]
        assert grave == []


async def until(
    condition: Callable[[], object], explain: Callable[[], object] = lambda: "never happened"
) -> None:
    """Wait until something is so; a failure says how things stood."""
    try:
        async with asyncio.timeout(PATIENCE_S / 2):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(explain()) from None
