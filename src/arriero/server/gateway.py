"""What all connections share: the running configuration, and the tools of the trade."""

import asyncio
import logging
from collections.abc import Callable

from arriero.base.clock import Clock
from arriero.base.ids import IdSource
from arriero.config.settings import Config
from arriero.core.access import master_key, padded_key
from arriero.core.admission import Queue
from arriero.core.blame import Ejected
from arriero.core.fleet import Alias, Fleet, Lease, Target
from arriero.core.keys import KeyRing
from arriero.core.limits import Limiter
from arriero.core.prefill import Verdicts
from arriero.core.record import Record
from arriero.fleet.connection import UpstreamConnection
from arriero.fleet.loader import Loader
from arriero.fleet.pool import Pool
from arriero.peers.link import Link
from arriero.server.asgi import AppRunner
from arriero.server.dispatch import Dispatcher
from arriero.server.holds import Holds
from arriero.server.secondlook import SecondLook
from arriero.telemetry.accesslog import AccessLog
from arriero.telemetry.metrics import Metrics
from arriero.wire.openai_answer import encode_models

LEFTOVER_S_MAX = 60.0
LEFTOVER_BYTES_MAX = 65_536
# Fewer at once cost each request more, at 32 two percent of it; more hold the loop up for longer.
SETTLED_MAX = 128


class Runtime:
    """One configuration at work. A reload makes a new one; requests keep the one they began in."""

    __slots__ = (
        "config", "created_unix_s", "fleet", "master", "models_body", "padded_master", "pools",
        "user_header",
    )  # fmt: skip

    def __init__(
        self, config: Config, fleet: Fleet, pools: dict[str, Pool], created_unix_s: int
    ) -> None:
        self.config = config
        self.fleet = fleet
        self.pools = pools
        self.created_unix_s = created_unix_s
        key = config.access.master_key
        self.padded_master = padded_key(key.reveal().encode()) if key else None
        self.master = master_key(trusted=config.access.master_key_trusted)
        self.user_header = config.access.user_header.lower().encode()
        self.models_body = encode_models(list(fleet.aliases), created_unix_s)


class Leftover:
    """A request whose client left: it keeps its slot until the backend is really done with it."""

    __slots__ = ("_bytes", "_gateway", "_lease", "connection", "until_s")

    def __init__(
        self, gateway: "Gateway", lease: Lease, connection: UpstreamConnection, now_s: float
    ) -> None:
        self._gateway = gateway
        self._lease = lease
        self.connection = connection
        self.until_s = now_s + LEFTOVER_S_MAX
        self._bytes = 0

    def on_data(self, data: bytes) -> None:
        """Nobody listens; a backend that goes on talking regardless is cut off."""
        self._bytes += len(data)
        if self._bytes > LEFTOVER_BYTES_MAX:
            self.connection.abort()

    def on_end(self) -> None:
        """The backend finished anyway."""
        self._over()

    def on_lost(self, error: Exception) -> None:  # noqa: ARG002 - the sink's signature
        """The backend noticed and closed."""
        self._over()

    def _over(self) -> None:
        self._gateway.leftovers.discard(self)
        self._lease.abandon(self._gateway.clock.now_s())


class Swept:
    """What has deadlines. Timers per request would cost more than looking at all of them."""

    __slots__ = ()

    def sweep(self, now_s: float) -> None:
        """Act on whatever deadline has passed."""
        raise NotImplementedError

    def drain(self) -> None:
        """Close now, or after the request under way."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close at once."""
        raise NotImplementedError


class Gateway:
    """The data plane's shared state."""

    __slots__ = (
        "_settled", "access_log", "clock", "connections", "counters", "date_line", "dispatcher",
        "draining", "events", "hand_over", "holds", "ids", "key_api", "leftovers", "limiter",
        "loader", "nudge", "on_settled", "peers", "queue", "ring", "runtime", "second_look",
        "started_s", "verdicts",
    )  # fmt: skip

    def __init__(
        self,
        runtime: Runtime,
        clock: Clock,
        ids: IdSource,
        access_log: AccessLog,
        events: logging.Logger,
    ) -> None:
        self.runtime = runtime
        self.clock = clock
        self.ids = ids
        self.access_log = access_log
        self.events = events
        self.queue = Queue(runtime.config.queue)
        self.counters = Metrics(
            lambda: self.runtime.fleet, lambda: access_log.dropped, self.queue.depths
        )
        self.dispatcher = Dispatcher(self.queue, clock, self.counters, runtime.fleet.roster)
        self._settled: list[Record] = []
        self.connections: set[Swept] = set()
        self.leftovers: set[Leftover] = set()
        self.verdicts = Verdicts()
        # Has the template of a target verified whose model is loaded.
        self.nudge: Callable[[Alias, Target], None] = lambda _alias, _target: None
        self.loader: Loader | None = None  # while there is somebody to run its loads
        self.peers: Link | None = None  # where there are several gateways
        self.limiter = Limiter()
        self.holds = Holds()
        self.ring = KeyRing(b"")  # no keys; a store brings its own ring
        self.key_api: AppRunner | None = None  # where there is a store
        self.second_look: SecondLook | None = None  # the same
        self.on_settled: Callable[[list[Record]], None] | None = None  # who writes usage down
        self.draining = False
        # Takes the file number of a connection that a process after this one may go on with.
        self.hand_over: Callable[[int], bool] = lambda _: False
        self.date_line = b""
        self.started_s = clock.now_s()

    @property
    def metrics(self) -> Metrics:
        """The counters with all that was settled until now; `counters` may lag by a batch."""
        self.count_settled()
        return self.counters

    def release(self, transport: asyncio.BaseTransport) -> None:
        """Let the process after this one go on with a connection, unless that is TLS's."""
        link = transport.get_extra_info("socket")
        if link is not None and transport.get_extra_info("ssl_object") is None:
            self.hand_over(link.fileno())

    def settle(self, record: Record) -> None:
        """Take a finished request's record; it must not be changed afterwards.

        Records are counted by the batch: one after the other, with the code in the processor's
        cache, they cost a third of what they cost between two requests.
        """
        settled = self._settled
        settled.append(record)
        if len(settled) >= SETTLED_MAX:
            self.count_settled()

    def count_settled(self) -> None:
        """Count what was settled and hand it to the access log."""
        settled, self._settled = self._settled, []
        for record in settled:
            self.counters.settle(record)
            self.access_log.add(record)
        if settled and self.on_settled is not None:
            self.on_settled(settled)

    def tell_ejected(self, target: Target, ejected: Ejected, reason: str) -> None:
        """Count and log who is left out after a failure, if anybody is."""
        backend, model = target.host.name, target.model
        if ejected is Ejected.HOST:
            self.counters.ejected(backend)
            self.events.warning("backend ejected", extra={"backend": backend, "reason": reason})
        elif ejected is Ejected.MODEL:
            self.counters.model_ejected(backend, model)
            told = {"backend": backend, "model": model, "reason": reason}
            self.events.warning("model ejected", extra=told)

    def tell_probed(self, target: Target, *, ok: bool) -> None:
        """Count a probe."""
        self.counters.probed(target.host.name, ok=ok)

    def tell_loaded(self, target: Target, reason: str, took_s: float) -> None:
        """Count and log the end of a load; without a reason it went well."""
        backend, model = target.host.name, target.model
        self.counters.model_loaded(backend, model, ok=not reason)
        told = {"backend": backend, "model": model, "took_s": round(took_s, 3)}
        if reason:
            self.events.warning("model not loaded", extra={**told, "reason": reason})
        else:
            self.events.info("model loaded", extra=told)

    def sweep(self, now_s: float) -> None:
        """Let every connection and leftover look at the clock; called a few times a second."""
        self.count_settled()
        self.runtime.fleet.roster.sweep(now_s)
        self.limiter.prune(now_s)
        for connection in list(self.connections):
            connection.sweep(now_s)
        self.dispatcher.sweep(now_s)
        self.holds.sweep()
        for leftover in [one for one in self.leftovers if now_s >= one.until_s]:
            leftover.connection.abort()
        for pool in self.runtime.pools.values():
            pool.expire(now_s)
