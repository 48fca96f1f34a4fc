"""The floor of the benchmark: bytes passed on by uvloop, and nothing else.

It reads neither HTTP nor JSON, checks no key, chooses no backend, counts and logs nothing: every
client's connection has one to a backend for as long as it lives. No gateway on this event loop can
cost less, so what it takes is the part of a gateway's cost that no Python code of it can spare.

    python -m benchmarks.floor PORT BACKEND_PORT...
"""

import asyncio
import itertools
import sys
from collections.abc import Iterator

import uvloop

HOST = "127.0.0.1"
BACKLOG = 2048


class End(asyncio.Protocol):
    """One side of a relay; what comes before the other side is there waits."""

    def __init__(self) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self.other: End | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what has waited for this connection."""
        self.transport = transport  # type: ignore[assignment]  # uvloop's has no common base
        if self._early:
            self.write(self._early)

    def write(self, data: bytes) -> None:
        """Send, now or as soon as there is a connection."""
        if self.transport is None:
            self._early += data
        else:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self.other is not None:
            self.other.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        """Take the other side along."""
        if self.other is not None and self.other.transport is not None:
            self.other.transport.abort()


class Client(End):
    """The side of the client, which connects to the next backend at once."""

    def __init__(self, ports: Iterator[int]) -> None:
        super().__init__()
        self._port = next(ports)
        self._dial: asyncio.Task[object] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to the backend."""
        super().connection_made(transport)
        backend = self.other = End()
        backend.other = self
        loop = asyncio.get_running_loop()
        self._dial = loop.create_task(loop.create_connection(lambda: backend, HOST, self._port))


async def serve(port: int, backends: list[int]) -> None:
    """Relay until the process is ended."""
    ports = itertools.cycle(backends)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Client(ports), HOST, port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    own, *others = map(int, sys.argv[1:])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(own, others))
