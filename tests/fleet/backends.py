"""Raw servers for the upstream side, and sinks and diallers that write down what they hear."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

from arriero.config.settings import Backend
from arriero.fleet.connection import UpstreamConnection
from arriero.fleet.errors import UpstreamRefused
from arriero.fleet.pool import Pool

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
PATIENCE_S = 5.0
_running: set[asyncio.Task[None]] = set()


def spawn(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    task = asyncio.create_task(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return task


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    """Serve each connection with `handler`; gives the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(lambda r, w: spawn(serve(r, w)), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(_running):
            task.cancel()
        await asyncio.gather(*_running, return_exceptions=True)


def pool_of(url: str, *, connections_max: int = 8) -> Pool:
    return Pool(Backend(name="a", url=url, connections_max=connections_max), spawn)


class Heard:
    """A sink that writes down what it hears."""

    def __init__(self) -> None:
        self.body = b""
        self.reads = 0
        self.lost: Exception | None = None
        self.over = asyncio.Event()

    def on_data(self, data: bytes) -> None:
        assert not self.over.is_set()
        self.body += data
        self.reads += 1

    def on_end(self) -> None:
        assert not self.over.is_set(), "one end"
        self.over.set()

    def on_lost(self, error: Exception) -> None:
        assert not self.over.is_set(), "one end"
        self.lost = error
        self.over.set()


class Dialled:
    """A dialler that waits."""

    def __init__(self) -> None:
        self.done: asyncio.Future[UpstreamConnection] = asyncio.get_running_loop().create_future()

    def on_connected(self, connection: UpstreamConnection) -> None:
        self.done.set_result(connection)

    def on_refused(self, error: UpstreamRefused) -> None:
        self.done.set_exception(error)


async def dialled(pool: Pool, *, limited: bool = True) -> UpstreamConnection:
    dialler = Dialled()
    pool.dial(dialler, 1.0, limited=limited)
    async with asyncio.timeout(PATIENCE_S):
        return await dialler.done


async def heard(connection: UpstreamConnection, request: bytes) -> Heard:
    sink = Heard()
    connection.send(request, sink)
    async with asyncio.timeout(PATIENCE_S):
        await sink.over.wait()
    return sink
