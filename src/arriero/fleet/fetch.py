"""A small request beside the clients', over the same connections as everything else."""

import asyncio

from arriero.fleet.connection import UpstreamConnection
from arriero.fleet.errors import UpstreamMalformed, UpstreamRefused
from arriero.fleet.pool import Pool

BODY_BYTES_MAX = 8_388_608


class _Fetch:
    """Collects one response into a future; it is both the dialler and the sink."""

    __slots__ = ("_body", "_request", "connection", "done")

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._body = bytearray()
        self.connection: UpstreamConnection | None = None
        self.done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()

    def on_connected(self, connection: UpstreamConnection) -> None:
        self.connection = connection
        if self.done.done():  # the fetch was given up while dialling
            connection.abort()
        else:
            connection.send(self._request, self)

    def on_refused(self, error: UpstreamRefused) -> None:
        self._fail(error)

    def on_data(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > BODY_BYTES_MAX:
            self._fail(UpstreamMalformed("the answer is too long"))

    def on_end(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None and not self.done.done():
            self.done.set_result((connection.status, bytes(self._body)))

    def on_lost(self, error: Exception) -> None:
        self.connection = None
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


async def fetch(
    pool: Pool,
    path: bytes,
    timeout_s: float,
    body: bytes | None = None,
    *,
    connect_timeout_s: float | None = None,
) -> tuple[int, bytes]:
    """Return status and body of a GET, or of a POST of `body`.

    Raises UpstreamError or OSError when there is no answer, TimeoutError when it is late. Always
    dials anew: a stale keep-alive connection would look like a dead backend.
    """
    task = _Fetch(pool.get_request(path) if body is None else pool.request(path, body))
    try:
        async with asyncio.timeout(timeout_s):
            pool.dial(task, connect_timeout_s or timeout_s, limited=False)
            return await task.done
    finally:
        task.done.cancel()
        if task.connection is not None:
            task.connection.abort()
