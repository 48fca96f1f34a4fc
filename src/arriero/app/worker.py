"""One of several worker processes of a gateway: what its supervisor gave it, and how it uses that.

The supervisor (`app.workers`) hands everything over in one variable of the environment, with the
numbers of the files that the process inherits.
"""

import asyncio
import fcntl
import os
import signal
import socket
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final, Self

import msgspec

from arriero.app.clock import SystemClock
from arriero.app.meters import SharedMeters
from arriero.app.pages import Pages
from arriero.app.sharedlimits import SharedHolds, SharedLimiter
from arriero.app.sockets import Sockets
from arriero.app.tally import SharedTally
from arriero.core.tally import SharedRoster
from arriero.server.gateway import Gateway
from arriero.telemetry.sink import Sink

VARIABLE: Final = "ARRIERO_WORKER"
PREPARED_POLL_S: Final = 0.02
_ENDS: Final = {signal.SIGTERM, signal.SIGINT}


class Place(msgspec.Struct, frozen=True):
    """A worker's place among the others; the files are numbers."""

    index: int
    parent_pid: int
    port: int
    tally: int
    meters: int
    bells: list[int]  # eventfds, one for each worker
    pages: str  # the folder of the metrics' pages
    listener: int | None = None  # systemd's, which all share
    clients: list[int] = []  # those of the process before

    @property
    def fds(self) -> list[int]:
        """All files it needs."""
        listener = [] if self.listener is None else [self.listener]
        return [self.tally, self.meters, *self.bells, *listener, *self.clients]


class Worker:
    """A place at work."""

    def __init__(self, place: Place) -> None:
        self._place = place
        clock = SystemClock()

        def now_ms() -> int:
            return int(clock.now_s() * 1000)

        tally = SharedTally(place.tally, place.index, place.bells, now_ms)
        self._meters = SharedMeters(place.meters, place.index, place.bells, now_ms)
        self.index = place.index
        self.port = place.port
        self.roster = SharedRoster(tally)
        self.pages = Pages(Path(place.pages), place.index)

    @classmethod
    def of(cls, environ: MutableMapping[str, str]) -> Self | None:
        """Take the place that the environment names; None: the process works alone.

        Raises ParentGone.
        """
        told = environ.pop(VARIABLE, None)
        if told is None:
            return None
        place = msgspec.json.decode(told, type=Place)
        for fd in place.fds:
            os.set_inheritable(fd, False)  # noqa: FBT003 - the standard library's signature
        from arriero.embedded.parent import die_with_parent  # noqa: PLC0415 - one process of many

        die_with_parent(place.parent_pid)
        return cls(place)

    def sockets(self) -> Sockets:
        """Return what systemd handed to the supervisor."""
        place = self._place
        listener = None if place.listener is None else socket.socket(fileno=place.listener)
        return Sockets(listener, [socket.socket(fileno=fd) for fd in place.clients])

    def guard(self, sink: Sink | None) -> Sink | None:
        """Return a sink whose writes do not fall into those of the other workers."""
        return None if sink is None else _GuardedSink(sink, self._place.tally)

    @property
    def is_first(self) -> bool:
        """Whether it does what one of the workers has to do for all."""
        return self.index == 0

    @property
    def has_prepared(self) -> bool:
        """Whether the first has opened the store, and written down what was used before."""
        return self._meters.prepared

    async def wait_for_first(self) -> None:
        """Let the first worker prepare what there must be once; a signal ends the wait."""
        while not (self.is_first or self._meters.prepared):
            if signal.sigpending() & _ENDS:  # held back until the gateway listens
                raise SystemExit(0)
            await asyncio.sleep(PREPARED_POLL_S)

    def prepare(self) -> None:
        """Let the other workers begin."""
        self._meters.prepare()

    def share_limits(self, gateway: Gateway) -> None:
        """Have the gateway count by limits what all workers do."""
        gateway.limiter = SharedLimiter(self._meters)
        gateway.holds = SharedHolds(self._meters)

    def listen(self, gateway: Gateway) -> None:
        """Have free slots and places noticed that other workers leave to this one."""
        bell = self._place.bells[self.index]

        def on_bell() -> None:
            os.eventfd_read(bell)
            gateway.dispatcher.catch_up()
            gateway.holds.sweep()

        os.set_blocking(bell, False)
        asyncio.get_running_loop().add_reader(bell, on_bell)


class _GuardedSink:
    """Writes batches whole: a pipe takes what is longer than a page in pieces (pipe(7))."""

    __slots__ = ("_fd", "_sink")

    def __init__(self, sink: Sink, fd: int) -> None:
        self._sink = sink
        self._fd = fd

    def write(self, data: bytes) -> None:
        """Write all of `data`. Raises OSError."""
        # POSIX locks do not meet those of flock, by which the same file is guarded otherwise.
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            self._sink.write(data)
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def reopen(self) -> None:
        """Let the next write go to a new file."""
        self._sink.reopen()

    def close(self) -> None:
        """Give the descriptor back."""
        self._sink.close()
