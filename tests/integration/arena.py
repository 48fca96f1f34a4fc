"""A gateway and simulated hosts in this process, and a client that sees every byte.

`serving` is the fixture of this folder: whatever a test does, at its end nothing may be in flight
on any host, no request may be open, no lease or connection may be left.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import msgspec

from arriero.app.run import Reload, Service
from arriero.config.settings import (
    Access,
    Backend,
    BackendKind,
    Config,
    Log,
    Model,
    Queueing,
    Route,
    Routing,
    Secret,
    Server,
    Strategy,
    Timeouts,
)
from arriero.core.health import Breaker
from arriero.core.roster import Host, Station
from arriero.server.gateway import Gateway
from arriero.telemetry.events import LOGGER
from arriero.testing.ollama import Kind, OllamaSim, SimModel

KEY = "sk-integration-0123456789"
MODEL = "llama3:8b"
ALIAS = "llama"
PATIENCE_S = 20.0  # for what must happen at all; no test waits that long when all is well

# Longer than a busy machine stands still: no test that is not about time fails for want of it.
STEADY = Timeouts(connect_s=10.0, first_token_s=10.0, inter_token_s=10.0, response_s=15.0)
# Small, and without the time for a load: for the tests in which a backend is silent.
QUICK = Timeouts(
    connect_s=1.0, load_s=0.01, first_token_s=0.8, inter_token_s=0.8, response_s=1.2, total_s=20.0
)
SILENT = frozenset((Kind.HANG, Kind.HANG_MID, Kind.WEDGED))
# One look at the start, and none that could mend what a test has broken.
CALM = Routing(
    inventory_interval_s=600.0,
    ejection_s=60.0,
    ejection_max_s=60.0,
    probe_interval_s=0.0,
    slow_start_s=0.0,
    resume_wait_s=0.0,
)


def limits_for(kind: Kind) -> Timeouts:
    """Return small timeouts for a fault that only they end, and steady ones for the others."""
    return QUICK if kind in SILENT else STEADY


def sim(*names: str, num_parallel: int = 64, cold: bool = False, **model: Any) -> OllamaSim:
    """A host with these models (one by default) in memory; give it to `async with`."""
    models = [SimModel(name, **model) for name in names or (MODEL,)]
    host = OllamaSim(models, num_parallel=num_parallel)
    return host if cold or "load_s" in model else host.hold(*names or (MODEL,))


def settings(
    *backends: OllamaSim | str,
    aliases: dict[str, str] | None = None,
    timeouts: Timeouts = STEADY,
    routing: Routing = CALM,
    server: Server | None = None,
    kinds: Sequence[BackendKind] = (),
    models: Sequence[Model] = (),
    slots: int | None = 64,
    queue: Queueing | None = None,
    strategy: Strategy = "least-busy",
) -> Config:
    """Backends `a`, `b`, ... that all serve each alias; `kinds` tells those that are not Ollama.

    The default strategy would send all the equal requests of the tests to one host's cache.
    """
    if routing.strategy == Routing().strategy:
        routing = msgspec.structs.replace(routing, strategy=strategy)
    listed = tuple(
        Backend(
            name="abcdefgh"[at],
            url=backend if isinstance(backend, str) else backend.url,
            kind=kinds[at] if at < len(kinds) else "ollama",
            slots=slots,
        )
        for at, backend in enumerate(backends)
    )
    made = tuple(
        Model(
            name=alias,
            routes=tuple(
                Route(backend=backend.name, model=model, timeouts=timeouts) for backend in listed
            ),
        )
        for alias, model in (aliases or {ALIAS: MODEL}).items()
    )
    return Config(
        backends=listed,
        models=tuple(models) or made,
        routing=routing,
        queue=queue or Queueing(),
        server=msgspec.structs.replace(server or Server(), port=0),
        access=Access(master_key=Secret(KEY)),
        log=Log(access="off", level="debug"),
    )


async def eventually(holds: Callable[[], object], what: str) -> None:
    """Wait until `holds` does; fail with `what` when it never does."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not holds():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


class Running:
    """A gateway that serves."""

    def __init__(self, service: Service, task: asyncio.Task[None]) -> None:
        self.service = service
        self._task = task
        self.port = service.port
        self.known: set[Host] = set()
        self.note_hosts()

    @property
    def gateway(self) -> Gateway:
        return self.service.gateway

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def host(self, name: str) -> Host:
        return self.gateway.runtime.fleet.hosts[name]

    def station(self, name: str, model: str = MODEL) -> Station:
        return self.host(name).stations[model]

    def is_open(self, name: str, model: str = MODEL) -> bool:
        """Whether the next request for the model may be sent there."""
        station, now_s = self.station(name, model), self.gateway.clock.now_s()
        return bool(station.group.open & station.host.bit) and station.host.breaker.may_try(now_s)

    def own_breaker(self, name: str, model: str = MODEL) -> Breaker:
        """The breaker of one model on a host, which has failed."""
        breaker = self.station(name, model).breaker
        assert breaker is not None
        return breaker

    def note_hosts(self) -> None:
        """Hosts that a reload drops must come to rest too."""
        self.known |= set(self.gateway.runtime.fleet.hosts.values())

    def reload(self) -> None:
        self.service.reload()
        self.note_hosts()

    async def known_fleet(self) -> None:
        """Wait until the first look at each host has come to something."""
        await eventually(
            lambda: all(host.installed is not None or host.breaker.failures for host in self.known),
            "the first look at every host",
        )

    async def ended(self) -> None:
        """Wait until it has stopped."""
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.shield(self._task)

    def unrest(self) -> list[str]:
        """Say what is still counted or held, nothing if all is quiet."""
        gateway = self.gateway
        found = [repr(host) for host in self.known if host.in_flight]
        if gateway.metrics.requests_open:
            found.append(f"requests_open={gateway.metrics.requests_open}")
        if gateway.queue.waiting:
            found.append(f"waiting={gateway.queue.waiting}")
        if gateway.leftovers:
            found.append(f"leftovers={len(gateway.leftovers)}")
        pools = gateway.runtime.pools.values()
        return found + [repr(pool) for pool in pools if "[0 busy" not in repr(pool)]

    async def at_rest(self) -> None:
        with contextlib.suppress(AssertionError):
            await eventually(lambda: not self.unrest(), "rest")
        assert self.unrest() == []


@contextlib.asynccontextmanager
async def serving(
    config: Config, reload: Reload | None = None, *, known: bool = True
) -> AsyncIterator[Running]:
    """Run a gateway while the block runs, and hold afterwards that it came to rest."""
    service = Service(config, reload)
    defects: list[dict[str, Any]] = []  # what a callback of the gateway let escape to the loop
    asyncio.get_running_loop().set_exception_handler(lambda _, told: defects.append(told))
    task = asyncio.create_task(service.run())
    started = asyncio.create_task(service.listening.wait())
    await asyncio.wait({task, started}, return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    if task.done():
        await task
    try:
        running = Running(service, task)
        if known:
            await running.known_fleet()
        yield running
        await running.at_rest()
        assert [host.in_flight for host in running.known] == [0] * len(running.known)
        assert service.gateway.metrics.requests_open == 0
        assert not service.gateway.leftovers
        assert defects == []
    finally:
        # By its own way out also after a failure: what is cancelled leaves its sockets open.
        service.stop()
        async with asyncio.timeout(2 * PATIENCE_S):
            await task


@contextlib.contextmanager
def events() -> Iterator[list[str]]:
    """Collect the gateway's own log as lines of `event key=value`; enter after it has started."""
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            extras = {key: vars(record).get(key) for key in ("backend", "backends", "reason")}
            told = " ".join(f"{key}={value}" for key, value in extras.items() if value is not None)
            seen.append(f"{record.getMessage()} {told}".strip())

    handler = Keep()
    logger = logging.getLogger(LOGGER)
    logger.addHandler(handler)
    try:
        yield seen
    finally:
        logger.removeHandler(handler)
