"""Several worker processes behind one address, and the process that keeps them alive.

Each worker is a whole gateway with a listener of its own on the same port (SO_REUSEPORT), or on the
socket that systemd handed over. They count requests together (`app.tally`). This process serves
nobody: it starts the workers, starts again who ends, passes signals on, and speaks for all of them
to systemd, whose protocol the workers speak to it.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from arriero.app import meters
from arriero.app.clock import SystemClock
from arriero.app.meters import SharedMeters
from arriero.app.notify import barrier, notify, reloading, watchdog_interval_s
from arriero.app.pages import Pages
from arriero.app.sockets import Sockets, inherited
from arriero.app.tally import SharedTally, make_memory
from arriero.app.worker import VARIABLE, Place
from arriero.config.problems import ConfigError, Problem
from arriero.config.settings import Config
from arriero.telemetry import events

BACKOFF_S: Final = 0.5
BACKOFF_MAX_S: Final = 30.0
STEADY_S: Final = 30.0
END_S: Final = 10.0  # beside the time to drain; then a worker is killed
STATE_BYTES_MAX: Final = 4096
FDS_MAX: Final = 253  # of one message: SCM_MAX_FD of the kernel
# Held back while a worker starts, and delivered when it can act on them.
_LATER: Final = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1}


class Child:
    """One worker, through all its lives."""

    def __init__(self, place: Place, notes: socket.socket, address: str) -> None:
        self.place = place
        self.notes = notes  # what it tells, in the words of sd_notify(3)
        self.address = address
        self.process: asyncio.subprocess.Process | None = None
        self.ready = False  # in its present life
        self.was_ready = False  # in any
        self.fed_s: float | None = None  # when its watchdog was last fed

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it lives."""
        process = self.process
        if process is not None and process.returncode is None:
            process.send_signal(number)


class Workers:
    """The workers of one gateway."""

    def __init__(
        self,
        children: Sequence[Child],
        command: Sequence[str],
        config: Config,
        reload: Callable[[], Config],
        forget: Callable[[int], None],
    ) -> None:
        """Prepare to run `command` once for each child; `forget` clears what one has counted."""
        self._children = children
        self._command = command
        self._config = config
        self._reload = reload
        self._forget = forget
        self._clock = SystemClock()
        self._log = logging.getLogger(events.LOGGER)
        self._stop = asyncio.Event()
        self._announced = False
        self._reloading: set[int] = set()
        self._watchdog_s = watchdog_interval_s()
        self._code = 0

    async def run(self) -> int:
        """Keep the workers alive until a signal ends them; return the exit code."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self.stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_hup)
        loop.add_signal_handler(signal.SIGUSR1, self._send_all, signal.SIGUSR1)
        for child in self._children:
            loop.add_reader(child.notes, self._on_note, child)
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch())
            async with asyncio.TaskGroup() as lives:
                for child in self._children:
                    lives.create_task(self._keep_alive(child))
                lives.create_task(self._end())
            watch.cancel()
        barrier()
        return self._code

    def stop(self) -> None:
        """Begin the graceful end of all; a second call changes nothing."""
        self._stop.set()

    async def _end(self) -> None:
        await self._stop.wait()
        notify("STOPPING=1")
        self._send_all(signal.SIGTERM)

    def _send_all(self, number: signal.Signals) -> None:
        for child in self._children:
            child.send(number)

    # -- a worker's lives

    async def _keep_alive(self, child: Child) -> None:
        pause_s = BACKOFF_S
        while not self._stop.is_set():
            began_s = self._clock.now_s()
            code = await self._live(child)
            if self._stop.is_set():
                self._code = self._code or (code if child.was_ready else 0)
                return
            if not child.was_ready:  # it has told why; the others would fare no better
                self._code = code if code > 0 else 1
                self.stop()
                return
            steady = self._clock.now_s() - began_s > STEADY_S
            pause_s = BACKOFF_S if steady else pause_s
            told = {"worker": child.place.index, "code": code, "restart_s": pause_s}
            self._log.error("worker ended", extra=told)
            await self._rest(pause_s)
            # Only now: the backends have had time to notice that its requests are over.
            self._forget(child.place.index)
            pause_s = min(2 * pause_s, BACKOFF_MAX_S)

    async def _live(self, child: Child) -> int:
        """Run a worker from its start to its end; return its exit code."""
        child.ready, child.fed_s = False, None
        environ = dict(os.environ) | {
            VARIABLE: msgspec.json.encode(child.place).decode(),
            "NOTIFY_SOCKET": child.address,
        }
        environ.pop("WATCHDOG_PID", None)
        signal.pthread_sigmask(signal.SIG_BLOCK, _LATER)
        try:
            child.process = await asyncio.create_subprocess_exec(
                *self._command, pass_fds=child.place.fds, env=environ
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _LATER)
        for fd in child.place.clients:  # they are the worker's alone now
            os.close(fd)
        child.place = msgspec.structs.replace(child.place, clients=[])
        if self._stop.is_set():
            child.send(signal.SIGTERM)
        told = {"worker": child.place.index, "pid": child.process.pid}
        self._log.info("worker started", extra=told)
        code = await self._ended(child.process)
        self._reloading.discard(child.place.index)
        self._drop_notes(child)
        return code

    async def _ended(self, process: asyncio.subprocess.Process) -> int:
        """Wait for the end of a worker, which must come soon once all are to end."""
        async with asyncio.TaskGroup() as group:
            limit = group.create_task(self._kill_late(process))
            code = await process.wait()
            limit.cancel()
        return code

    async def _kill_late(self, process: asyncio.subprocess.Process) -> None:
        await self._stop.wait()
        await asyncio.sleep(self._config.server.drain_timeout_s + END_S)
        process.kill()

    async def _rest(self, pause_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._stop.wait()

    # -- what workers tell

    def _on_note(self, child: Child) -> None:
        """Take what a worker says to systemd; its connections and barriers go the same way."""
        try:
            data, fds, _, _ = socket.recv_fds(child.notes, STATE_BYTES_MAX, FDS_MAX)
        except BlockingIOError:
            return
        words = data.decode(errors="replace").split("\n")
        if "FDSTORE=1" in words or "FDSTOREREMOVE=1" in words:
            notify("\n".join(words), fds)
        for fd in fds:  # a barrier's worker waits for this
            os.close(fd)
        if "WATCHDOG=1" in words:
            child.fed_s = self._clock.now_s()
        if "READY=1" in words:
            self._note_ready(child)

    def _drop_notes(self, child: Child) -> None:
        """Take the last words of a life, or they would count as the next one's."""
        with contextlib.suppress(BlockingIOError):
            while True:
                _, fds, _, _ = socket.recv_fds(child.notes, STATE_BYTES_MAX, FDS_MAX)
                for fd in fds:
                    os.close(fd)

    def _note_ready(self, child: Child) -> None:
        child.ready = child.was_ready = True
        if child.place.index in self._reloading:
            self._reloading.discard(child.place.index)
            if not self._reloading:
                notify("READY=1")
        if not self._announced and all(each.ready for each in self._children):
            self._announced = True
            self._log.info("all workers ready", extra={"workers": len(self._children)})
            notify("READY=1")

    def _on_hup(self) -> None:
        """Have all read the configuration again, unless that would be refused."""
        reloading(self._clock.now_s())
        try:
            self._config = self._reload()
        except (ConfigError, OSError) as error:
            self._log.error("reload refused", extra={"reason": str(error)})
            notify("READY=1")
            return
        self._reloading = {child.place.index for child in self._children if child.ready}
        self._send_all(signal.SIGHUP)
        if not self._reloading and self._announced:
            notify("READY=1")

    async def _watch(self) -> None:
        """Feed systemd's watchdog, and be that of the workers: one that hangs is killed."""
        interval_s = self._watchdog_s
        while interval_s is not None:
            notify("WATCHDOG=1")
            now_s = self._clock.now_s()
            for child in self._children:
                if child.fed_s is not None and now_s - child.fed_s > 3 * interval_s:
                    self._log.error("worker hangs", extra={"worker": child.place.index})
                    child.fed_s = None
                    child.send(signal.SIGKILL)
            await asyncio.sleep(interval_s)


def unshared(config: Config) -> list[Problem]:
    """Return what the configuration asks for that several workers cannot hold exactly."""
    if config.peers.url is None:
        return []
    # Each worker would count what its fellows do once by the tally and once by what peers tell.
    message = "`peers`: several workers cannot meet other gateways yet"
    hint = "serve with --workers 1, one gateway for each core: they are peers of each other, too"
    return [Problem(1, 1, message, hint=hint)]


def supervise(
    config: Config, reload: Callable[[], Config], count: int, arguments: Sequence[str]
) -> int:
    """Run `arriero` with these arguments in `count` workers; return the exit code.

    Raises OSError if the address cannot be had, and SocketsUnusable.
    """
    events.configure(config.log.level)
    sockets = inherited(os.environ)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="arriero-")))
        children = list(_children(config, count, sockets, folder, stack))
        first = children[0].place
        tally = SharedTally(first.tally, -1, first.bells, int)
        limits = SharedMeters(first.meters, -1, first.bells, int)
        pages = Pages(folder, -1)

        def forget(index: int) -> None:
            tally.forget(index)
            limits.forget(index)
            pages.retire(index)

        async def main() -> int:
            command = [sys.executable, "-m", "arriero", *arguments]
            return await Workers(children, command, config, reload, forget).run()

        return asyncio.run(main())


def _children(
    config: Config, count: int, sockets: Sockets, folder: Path, stack: ExitStack
) -> Iterator[Child]:
    """Make what the workers share, and a place for each."""
    port, listener = config.server.port, None
    if sockets.listener is not None:
        listener = stack.enter_context(sockets.listener).fileno()
    else:
        reserved = stack.enter_context(reserve(config.server.host, port))
        port = reserved.getsockname()[1]
    memories = make_memory(), meters.make_memory()
    for memory in memories:
        stack.callback(os.close, memory)
    bells = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(count)]
    for bell in bells:
        stack.callback(os.close, bell)
    for index in range(count):
        address = str(folder / f"{index}.notify")
        notes = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        notes.bind(address)
        notes.setblocking(False)  # noqa: FBT003 - the standard library's signature
        clients = [one.detach() for one in sockets.clients[index::count]]
        place = Place(index, os.getpid(), port, *memories, bells, str(folder), listener, clients)
        yield Child(place, notes, address)


def reserve(host: str, port: int) -> socket.socket:
    """Return a socket that holds the address for the workers without listening. Raises OSError.

    Bound first without SO_REUSEPORT: with it, a second gateway would be let in beside this one, and
    each would get a part of the clients.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as alone:
        alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        alone.bind(address)
        address = alone.getsockname()
    held = socket.socket(family, kind, protocol)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        held.bind(address)
    except OSError:
        held.close()
        raise
    return held
