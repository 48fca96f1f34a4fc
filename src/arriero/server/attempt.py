"""One request on one backend: from the lease to the way it ended.

An attempt dials or takes a connection, hands what arrives to a reader, and resumes its exchange
once, with an `End`. It is the dialler and the sink of its connection; the exchange hears nothing
else. Deadlines are looked at by the sweep, so that a chunk costs one attribute and no timer.
"""

from enum import IntEnum
from typing import Protocol

import msgspec

from arriero.core.attempts import END_OF_FAILURE, RULES, End
from arriero.core.fleet import Lease
from arriero.core.residency import LOADED, Residency
from arriero.fleet.connection import UpstreamConnection
from arriero.fleet.errors import UpstreamFull, UpstreamMalformed, UpstreamRefused
from arriero.fleet.loader import Load, must_load
from arriero.fleet.pool import Pool
from arriero.server.gateway import Gateway, Leftover
from arriero.wire.dialect import BackendDialect, Failure

STATUS_OK = 200
FAILURE_BYTES_MAX = 1_048_576


class Reader(Protocol):
    """What makes something of the answer's body."""

    failure: Failure | None

    def feed(self, data: bytes) -> End | None:
        """Take in more of the body; an End says that the attempt is over before its body is."""
        ...

    def end(self) -> End:
        """The body is complete: say how that ended."""
        ...


class Waiter(Protocol):
    """The exchange, as its attempt sees it."""

    gateway: Gateway

    @property
    def write_paused(self) -> bool:
        """The client takes no more for now."""
        ...

    def resume(self, value: object) -> None:
        """Go on with what was waited for."""
        ...


class Phase(IntEnum):
    """Where an attempt stands; it only ever moves forward."""

    LOADING = 0  # the model is not in the host's memory yet
    DIALLING = 1
    WAITING = 2  # sent, nothing of the answer yet
    ANSWERING = 3
    OVER = 4


# Looked at for every chunk: as members they would cost an attribute of the enumeration each time.
_LOADING, _DIALLING, _WAITING, _ANSWERING, _OVER = Phase
_ANSWERED = End.ANSWERED


class Attempt(msgspec.Struct, eq=False):
    """Sends `request` under `lease` and feeds `reader`; `waiter` is resumed with the End."""

    waiter: Waiter
    lease: Lease
    pool: Pool
    dialect: BackendDialect
    request: bytes
    reader: Reader
    phase: Phase = Phase.DIALLING
    failure: Failure | None = None
    _connection: UpstreamConnection | None = None
    _deadline_s: float = 0.0
    _fresh: bool = False
    _redialled: bool = False
    _failed_body: bytes = b""
    _load: Load | None = None

    def start(self, deadline_s: float) -> None:
        """Send, on an idle connection or a new one; the first byte is due by `deadline_s`.

        If the model is not loaded there, wait for that first, which moves the deadline.
        """
        self._deadline_s = deadline_s
        target, loader = self.lease.target, self.waiter.gateway.loader
        if target.station.residency is not LOADED and loader is not None and must_load(target):
            self.phase = _LOADING
            self._load = loader.load(target, self.pool)
            self._load.waiters.append(self)
            return
        self._send()

    def on_load(self, end: End | None, failure: Failure | None) -> None:
        """The load is over: send, or fail as the load did."""
        self._load = None
        if self.phase is _OVER:
            return
        if end is not None:
            self.failure = failure
            self._finish(end)
            return
        now_s = self.waiter.gateway.clock.now_s()
        self._deadline_s += now_s - self.lease.asked_s
        self.lease.asked_s = now_s
        self._send()

    def _send(self) -> None:
        connection = self.pool.take()
        if connection is None:
            self._dial()
        else:
            self.on_connected(connection)

    def _dial(self) -> None:
        self.phase = _DIALLING
        self.pool.dial(self, self.lease.target.timeouts.connect_s)

    # -- the dialler

    def on_connected(self, connection: UpstreamConnection) -> None:
        """Send on the connection, unless the exchange was given up while dialling."""
        if self.phase is _OVER:
            self.pool.on_idle(connection)
            return
        self._connection = connection
        self.phase = _WAITING
        connection.send(self.request, self)
        if self.waiter.write_paused:
            connection.pause()

    def on_refused(self, error: UpstreamRefused) -> None:
        """There is no connection to be had."""
        if self.phase is not _OVER:
            self._finish(End.BUSY if isinstance(error, UpstreamFull) else End.REFUSED)

    # -- the sink

    def on_data(self, data: bytes) -> None:
        """Feed the reader the body of a 200; any other explains a failure."""
        assert self._connection is not None
        self._fresh = True
        self.phase = _ANSWERING
        if self._connection.status == STATUS_OK:
            end = self.reader.feed(data)
            if end is not None:
                self._leave()
                self._finish(end)
        elif len(self._failed_body) < FAILURE_BYTES_MAX:
            self._failed_body += data

    def on_end(self) -> None:
        """The response is complete."""
        connection, self._connection = self._connection, None
        assert connection is not None
        if connection.status == STATUS_OK:
            self._finish(self.reader.end())
        else:
            self.failure = self.dialect.decode_failure(connection.status, self._failed_body)
            self._finish(END_OF_FAILURE[self.failure.kind])

    def on_lost(self, error: Exception) -> None:
        """The connection broke: before an answer on a reused one, it was only stale."""
        connection, self._connection = self._connection, None
        if self.phase is _OVER:
            return
        answered = connection is not None and connection.answered
        if isinstance(error, UpstreamMalformed):
            self._finish(End.MALFORMED)
        elif answered:
            self._finish(End.BROKEN)
        elif connection is not None and connection.used > 1 and not self._redialled:
            # The backend closed an idle connection just as we used it. RFC 9110, 9.2.2 lets a
            # client repeat a request that it knows to be safe to repeat; a generation is.
            self._redialled = True
            self._dial()
        else:
            self._finish(End.RESET)

    # -- the exchange's side

    def sweep(self, now_s: float) -> None:
        """End the attempt if its deadline has passed."""
        if self.phase <= _DIALLING:  # loads and dials have their own timeouts
            return
        if self._fresh:
            self._fresh = False
            timeouts = self.lease.target.timeouts
            self._deadline_s = now_s + timeouts.inter_token_s
        elif now_s >= self._deadline_s:
            stalled = self.phase is _ANSWERING
            self._leave()
            self._finish(End.STALLED if stalled else self._late())

    def _late(self) -> End:
        """Say what it means that there was no first token in time."""
        # It was in memory when it was asked for, and has left since: the host is loading it again,
        # which is slow, and no silence.
        cold = self.lease.target.station.residency is Residency.INSTALLED
        return End.LOAD_FAILED if cold else End.TIMED_OUT

    def pause(self) -> None:
        """Stop reading from the backend: the client is slow."""
        if self._connection is not None:
            self._connection.pause()

    def unpause(self, now_s: float) -> None:
        """Read on; the backend is not to blame for the time that passed."""
        self._deadline_s = max(self._deadline_s, now_s + self.lease.target.timeouts.inter_token_s)
        if self._connection is not None:
            self._connection.resume()

    def cancel(self) -> None:
        """The client is gone: let go of the backend, and give the lease back when it is free."""
        if self.phase is _OVER:
            return
        self.phase = _OVER
        gateway = self.waiter.gateway
        now_s = gateway.clock.now_s()
        if self._load is not None:  # which goes on without us
            self._load.waiters.remove(self)
            self._load = None
        connection, self._connection = self._connection, None
        if connection is None:
            self.lease.abandon(now_s)
            return
        leftover = Leftover(gateway, self.lease, connection, now_s)
        gateway.leftovers.add(leftover)
        connection.sink = leftover
        connection.hang_up()

    def _leave(self) -> None:
        """Close the connection in the middle of an answer."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.sink = None
            connection.abort()

    def _finish(self, end: End) -> None:
        self.phase = _OVER
        if end is _ANSWERED:
            self.lease.succeed()
        else:
            self.failure = self.failure or self.reader.failure
            self._settle_failed(end)
        self.waiter.resume(end)

    def _settle_failed(self, end: End) -> None:
        gateway, lease = self.waiter.gateway, self.lease
        host = lease.target.host
        mark = RULES[end].mark
        if mark is not None:
            gateway.counters.attempt_failed(host.name, end.value)
            gateway.tell_ejected(lease.target, lease.fail(gateway.clock.now_s(), mark), end.value)
        elif end is End.FINAL:
            lease.succeed()
        else:
            lease.abandon(gateway.clock.now_s())
        if end is End.MISSING_MODEL:
            host.lost(lease.target.model)
