"""Run a gateway: start, serve, reload, drain, stop. One TaskGroup owns every task there is."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import ssl
import sys
from collections.abc import Callable, Coroutine, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import uvloop

from arriero import __version__
from arriero.app.build import build_gateway, build_runtime
from arriero.app.clock import SystemClock
from arriero.app.keeper import Keeper, open_keeper
from arriero.app.keyapi import build_key_api
from arriero.app.notify import barrier, feed_watchdog, notify, reloading, watchdog_interval_s
from arriero.app.peers import open_link
from arriero.app.sockets import Sockets, adopt, hand_over, inherited
from arriero.app.tls import keep_fresh, load_context
from arriero.app.worker import VARIABLE, Worker
from arriero.config.problems import ConfigError
from arriero.config.settings import Config
from arriero.core.catalog import is_ready
from arriero.core.tally import SharedRoster, TallyFull
from arriero.fleet.care import Care
from arriero.fleet.inventory import Inventory
from arriero.fleet.prefill import Verifier
from arriero.peers.link import Link
from arriero.server.asgi import AppRunner
from arriero.server.connection import ClientConnection
from arriero.server.gateway import Gateway, Runtime
from arriero.server.secondlook import SecondLook
from arriero.telemetry import events, looplag
from arriero.telemetry import sink as log_sink
from arriero.telemetry.counters import Outside

SWEEP_INTERVAL_S = 0.25
BACKLOG = 2048
READY_POLL_S = 0.02
SWITCH_INTERVAL_S = 0.0005

Reload = Callable[[], Config]


class Service:
    """One running gateway."""

    def __init__(
        self,
        config: Config,
        reload: Reload | None = None,
        sockets: Sockets | None = None,
        state: Path | None = None,
        worker: Worker | None = None,
    ) -> None:
        """Prepare to serve `config`; `reload` reads it anew and raises what it raises.

        `sockets` are what a supervisor handed over; a listener among them replaces the address of
        the configuration. `state` is the folder for what outlives the process; without it and
        without `store.url` there are no virtual keys. `worker` is its place among several.
        """
        self._config = config
        self._reload = reload
        self._sockets = sockets or Sockets()
        self._state = state
        self._worker = worker
        self._announced = False
        self._clock = SystemClock()
        self._log = events.configure(config.log.level)
        self._stop = asyncio.Event()
        self._tls: ssl.SSLContext | None = None
        self._inventories: dict[str, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._gateway: Gateway | None = None
        self.listening = asyncio.Event()
        self.port = 0

    @property
    def gateway(self) -> Gateway:
        """The data plane, once `run` has begun."""
        assert self._gateway is not None
        return self._gateway

    async def run(self) -> None:
        """Serve until `stop`; being cancelled ends it at once.

        Raises OSError if the address cannot be had or the access log not be opened, TlsUnusable,
        StoreError and PeersUnusable.
        """
        config = self._config
        sink = self._open_sink()
        keeper = link = None
        try:
            if self._worker is not None:
                await self._worker.wait_for_first()
            keeper = await open_keeper(config.store, self._state, self._clock)
            gateway = self._gateway = await self._build(sink, keeper)
            link = gateway.peers = open_link(config.peers, gateway, self._clock)
            gateway.counters.outside = _outside(keeper, link)
            care = Care(self._spawn, self._clock, gateway)
            gateway.loader = care.loader
            # Before there are tasks: an error of theirs would come out of the group in a group.
            server = await self._bind(gateway)
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    await self._keep_in_touch(gateway, keeper)
                    await self._serve(gateway, care, server, sink)
                finally:
                    care.stop()
                    await self._close(gateway, server)
                    for task in self._tasks:
                        task.cancel()
        finally:
            if link is not None:
                await link.close()
            if keeper is not None:
                await keeper.close()
            if sink is not None:
                sink.close()

    def _open_sink(self) -> log_sink.Sink | None:
        sink = log_sink.open_sink(self._config.log.access)
        return sink if self._worker is None else self._worker.guard(sink)

    async def _build(self, sink: log_sink.Sink | None, keeper: Keeper | None) -> Gateway:
        """Return the data plane; what was used before is counted once for all workers."""
        worker = self._worker
        runtime = build_runtime(self._config, self._clock, self._spawn, None, self._roster)
        gateway = build_gateway(runtime, self._clock, sink, self._log)
        if worker is not None:
            worker.share_limits(gateway)
        if keeper is not None:
            gateway.ring, gateway.on_settled = keeper.ring, keeper.take
            keeper.hurry = gateway.count_settled
            gateway.key_api = self._key_api(gateway, keeper)
            gateway.second_look = SecondLook(keeper.look, self._spawn, self._clock)
            keeper.prunes = worker is None or worker.is_first
            if worker is None or not worker.has_prepared:
                await keeper.restore(gateway.limiter)
        if worker is not None:
            worker.prepare()
        return gateway

    async def _keep_in_touch(self, gateway: Gateway, keeper: Keeper | None) -> None:
        """Follow the store and the other gateways, where there are any."""
        if keeper is not None:
            self._keep(keeper.run(lambda: gateway.runtime.config.store.usage_days))
        if gateway.peers is not None:
            await gateway.peers.begin()
            self._keep(gateway.peers.run())

    def _key_api(self, gateway: Gateway, keeper: Keeper) -> AppRunner:
        return AppRunner(
            lambda: build_key_api(keeper, self._clock, lambda: gateway.runtime.padded_master),
            self._spawn,
        )

    async def _serve(
        self, gateway: Gateway, care: Care, server: asyncio.Server, sink: log_sink.Sink | None
    ) -> None:
        """Accept connections until `stop`, and let their requests finish."""
        config = self._config
        self._keep(self._sweep(gateway, care))
        self._keep(log_sink.run(gateway.access_log, config.log.flush_interval_s))
        self._keep(looplag.run(gateway.metrics, self._clock))
        if self._worker is not None:
            self._worker.listen(gateway)
            self._keep(self._worker.pages.run(lambda: gateway.metrics.page()))  # noqa: PLW0108 - `metrics` counts what was settled
            gateway.counters.combine = self._worker.pages.combine
        watchdog_s = watchdog_interval_s()
        if watchdog_s is not None:
            self._keep(feed_watchdog(watchdog_s))
        if config.server.tls is not None and self._tls is not None:
            self._keep(keep_fresh(config.server.tls, self._tls))
        verifier = Verifier(
            gateway.verdicts, lambda: (gateway.runtime.fleet, gateway.runtime.pools)
        )
        gateway.nudge = verifier.nudge
        self._keep(verifier.run())
        self._watch_backends(gateway.runtime, previous=None)
        await self._listen(gateway, server)
        with self._signals(sink):
            self.listening.set()
            self._keep(self._announce(gateway))
            await self._stop.wait()
        await self._drain(gateway, server)

    @property
    def _roster(self) -> SharedRoster | None:
        return self._worker.roster if self._worker is not None else None

    def stop(self) -> None:
        """Begin the graceful end; a second call changes nothing."""
        self._stop.set()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Start a task that ends by itself, as a dial does."""
        assert self._group is not None
        return self._group.create_task(coroutine)

    def _keep(self, coroutine: Coroutine[None, None, None]) -> None:
        """Start a task that runs as long as the gateway does."""
        self._tasks.append(self._spawn(coroutine))

    # -- start

    async def _bind(self, gateway: Gateway) -> asyncio.Server:
        settings = self._config.server
        if settings.tls is not None:
            self._tls = load_context(settings.tls)
        gateway.date_line = _date_line(self._clock.unix_s())
        gateway.hand_over = hand_over
        listener = self._sockets.listener
        where: dict[str, Any] = {"sock": listener}
        if listener is None:
            where = {"host": settings.host, "port": settings.port, "reuse_address": True}
            if self._worker is not None:
                where |= {"port": self._worker.port, "reuse_port": True}
        return await asyncio.get_running_loop().create_server(
            lambda: ClientConnection(gateway),
            ssl=self._tls,
            backlog=BACKLOG,
            start_serving=False,
            **where,
        )

    async def _listen(self, gateway: Gateway, server: asyncio.Server) -> None:
        await server.start_serving()
        address = server.sockets[0].getsockname()
        host, self.port = address[:2] if isinstance(address, tuple) else (address, 0)
        if self._sockets.listener is None:
            host = self._config.server.host  # as it was written, perhaps a name
        adopted = await adopt(
            self._sockets, lambda: ClientConnection(gateway), plain=self._tls is None
        )
        self._log.info(
            "listening",
            extra={"host": host, "port": self.port, "version": __version__, "adopted": adopted},
        )

    async def _announce(self, gateway: Gateway) -> None:
        """Tell systemd once an alias can be routed: only then is the service worth anything."""
        while not is_ready(gateway.runtime.fleet, self._clock.now_s()):  # noqa: ASYNC110 - polled
            await asyncio.sleep(READY_POLL_S)
        self._log.info(
            "ready", extra={"after_s": round(self._clock.now_s() - gateway.started_s, 3)}
        )
        notify("READY=1")
        self._announced = True

    def _watch_backends(self, runtime: Runtime, previous: Runtime | None) -> None:
        """Start an inventory for each new backend, and end those of backends that are gone."""
        for name, task in list(self._inventories.items()):
            if previous is None or runtime.fleet.hosts.get(name) is not previous.fleet.hosts[name]:
                task.cancel()
                del self._inventories[name]
        for name, host in runtime.fleet.hosts.items():
            if name not in self._inventories:
                inventory = Inventory(
                    host,
                    runtime.pools[name],
                    runtime.config.routing,
                    self._clock,
                    self.gateway.metrics.ejected,
                )
                self._inventories[name] = self._spawn(inventory.run())

    # -- while it runs

    async def _sweep(self, gateway: Gateway, care: Care) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            now_s = self._clock.now_s()
            gateway.date_line = _date_line(self._clock.unix_s())
            gateway.sweep(now_s)
            runtime = gateway.runtime
            care.sweep(runtime.fleet, runtime.pools, runtime.config.routing, now_s)

    @contextlib.contextmanager
    def _signals(self, sink: log_sink.Sink | None) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], object]] = {
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
            signal.SIGHUP: self.reload,
        }
        if sink is not None:
            handlers[signal.SIGUSR1] = sink.reopen
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        # A supervisor starts its workers with these held back, until they can act on them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handlers)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    def reload(self) -> None:
        """Read the configuration again and serve by it; a bad file changes nothing."""
        if self._reload is None:
            return
        gateway = self.gateway
        reloading(self._clock.now_s())
        try:
            self._swap(gateway, self._reload())
        except (ConfigError, OSError, TallyFull) as error:
            self._log.error("reload refused", extra={"reason": str(error)})
            gateway.metrics.reloaded(ok=False)
        else:
            gateway.metrics.reloaded(ok=True)
        if self._announced:  # else no alias could be routed yet, and _announce will tell
            notify("READY=1")

    def _swap(self, gateway: Gateway, config: Config) -> None:
        previous = gateway.runtime
        runtime = build_runtime(config, self._clock, self._spawn, previous, self._roster)
        gateway.runtime = runtime
        gateway.queue.set_limits(config.queue)
        self._watch_backends(runtime, previous)
        for name, pool in previous.pools.items():
            if runtime.pools.get(name) is not pool:
                pool.close()  # its busy connections end with their requests
        self._log.info("reloaded", extra={"digest": config.digest})

    # -- the end

    async def _drain(self, gateway: Gateway, server: asyncio.Server) -> None:
        """Take no more, and let requests finish for `drain_timeout_s`."""
        notify("STOPPING=1")
        gateway.draining = True
        server.close()
        for connection in list(gateway.connections):
            connection.drain()
        limit_s = gateway.runtime.config.server.drain_timeout_s
        self._log.info("draining", extra={"requests": gateway.metrics.requests_open})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while gateway.connections:  # noqa: ASYNC110 - polled
                    await asyncio.sleep(READY_POLL_S)
        barrier()  # or systemd may never look at what it was handed
        self._log.info("stopped", extra={"unfinished": gateway.metrics.requests_open})

    async def _close(self, gateway: Gateway, server: asyncio.Server) -> None:
        """Close the listener and what is left of connections, clients' first.

        A closed client makes its request let go of its backend, which a closed backend alone
        would make ask the next one. Each closing is told to its connection by the event loop.
        """
        gateway.draining = True
        server.close()
        for connection in list(gateway.connections):
            connection.abort()
        await asyncio.sleep(0)
        for inventory in self._inventories.values():  # or it would take its host for dead
            inventory.cancel()
        for pool in gateway.runtime.pools.values():
            pool.abort()
        for leftover in list(gateway.leftovers):  # also those in pools of before a reload
            leftover.connection.abort()
        await asyncio.sleep(0)
        gateway.count_settled()  # before the log's last lines are written


def _outside(keeper: Keeper | None, link: Link | None) -> Callable[[], Outside]:
    return lambda: Outside(
        store_up=keeper.is_up if keeper else None,
        usage_dropped=keeper.dropped if keeper else 0,
        peers_up=link.is_up if link else None,
        peers=link.others if link else 0,
    )


def _date_line(unix_s: float) -> bytes:
    """Return the Date header (RFC 9110, 6.6.1), made once a sweep and not once a response."""
    return f"Date: {formatdate(unix_s, usegmt=True)}\r\n".encode()


def spare_the_loop() -> None:
    """Let neither another thread nor the cycle collector stop this process's loop for long.

    A thread that computes keeps the interpreter for a whole switch interval, 5 ms by default, each
    time that the loop wants it back: after every wait and every read. What was imported lives as
    long as the process, and a full collection would look at all of it, which takes about 10 ms.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()


def run(config: Config, reload: Reload | None = None, state: Path | None = None) -> None:
    """Serve `config` on a new event loop until SIGTERM or SIGINT.

    Raises what `Service.run` does, SocketsUnusable, and of a worker of several ParentGone and
    TallyFull.
    """
    worker = Worker.of(os.environ) if VARIABLE in os.environ else None
    sockets = worker.sockets() if worker is not None else inherited(os.environ)

    async def main() -> None:
        await Service(config, reload, sockets, state, worker).run()

    logging.captureWarnings(capture=True)
    spare_the_loop()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
