"""Keep-alive connections to one backend: taken last in first out, dialled when none is idle.

Dialling is the only thing here that awaits, so it alone runs as a task; the task belongs to the
application's TaskGroup (`Spawn`) and ends by calling one of the dialler's two methods.
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Protocol
from urllib.parse import urlsplit

from arriero.config.settings import Backend
from arriero.fleet.connection import UpstreamConnection
from arriero.fleet.errors import UpstreamFull, UpstreamRefused

Spawn = Callable[[Coroutine[None, None, None]], asyncio.Task[None]]
IDLE_S_MAX = 60.0


class Dialler(Protocol):
    """Who asked for a new connection."""

    def on_connected(self, connection: UpstreamConnection) -> None:
        """A fresh connection, yours."""
        ...

    def on_refused(self, error: UpstreamRefused) -> None:
        """There will be none."""
        ...


class Pool:
    """All connections to one backend."""

    __slots__ = (
        "_busy", "_closing", "_dialling", "_dials", "_heads", "_host", "_idle", "_port",
        "_spawn", "_stopped", "_tls", "backend",
    )  # fmt: skip

    def __init__(self, backend: Backend, spawn: Spawn) -> None:
        url = urlsplit(backend.url)
        assert url.hostname is not None, "the configuration checks its URLs"
        self.backend = backend
        self._host = url.hostname
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._spawn = spawn
        self._idle: list[UpstreamConnection] = []
        self._busy: set[UpstreamConnection] = set()
        self._dialling = 0
        self._dials: set[asyncio.Task[None]] = set()
        self._closing = False
        self._stopped = False
        self._heads: dict[bytes, bytes] = {}

    def request(self, path: bytes, body: bytes) -> bytes:
        """Return a whole POST request for this backend."""
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = self._head(b"POST", path) + (
                b"Content-Type: application/json\r\nContent-Length: "
            )
        return b"%b%d\r\n\r\n%b" % (head, len(body), body)

    def get_request(self, path: bytes) -> bytes:
        """Return a whole GET request for this backend, whose connection is not kept."""
        return self._head(b"GET", path) + b"Connection: close\r\n\r\n"

    def take(self) -> UpstreamConnection | None:
        """Return an idle connection, the most recently used one, or None."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.gone:
                self._busy.add(connection)
                return connection
        return None

    def dial(self, dialler: Dialler, connect_timeout_s: float, *, limited: bool = True) -> None:
        """Open a new connection; `dialler` hears of it later, never before this returns.

        Only what is not `limited` may go beyond `connections_max`: the inventory must not take a
        host for dead because it has much to do.
        """
        dial = self._spawn(self._dial(dialler, connect_timeout_s, limited=limited))
        self._dials.add(dial)
        dial.add_done_callback(self._dials.discard)

    async def _dial(self, dialler: Dialler, connect_timeout_s: float, *, limited: bool) -> None:
        if limited and len(self._busy) + self._dialling >= self.backend.connections_max:
            dialler.on_refused(UpstreamFull("connections_max reached"))
            return
        if self._stopped:
            dialler.on_refused(UpstreamRefused("the gateway is stopping"))
            return
        self._dialling += 1
        try:
            connection = await self._connect(connect_timeout_s)
        except UpstreamRefused as error:
            dialler.on_refused(error)
            return
        finally:
            self._dialling -= 1
        self._busy.add(connection)
        dialler.on_connected(connection)

    async def _connect(self, connect_timeout_s: float) -> UpstreamConnection:
        """Return a new connection. Raises UpstreamRefused."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: UpstreamConnection(self), self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise UpstreamRefused(str(error) or type(error).__name__) from None
        if connection.gone:  # lost before this task ran again: nobody would ever hear of it
            raise UpstreamRefused("the connection was closed at once")
        return connection

    def on_idle(self, connection: UpstreamConnection) -> None:
        """Keep a connection for the next request."""
        self._busy.discard(connection)
        if self._closing:
            connection.abort()
        else:
            connection.idle_since_s = -1.0  # the next sweep will know
            self._idle.append(connection)

    def on_gone(self, connection: UpstreamConnection) -> None:
        """Forget a closed connection."""
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def expire(self, now_s: float) -> None:
        """Close what has been idle too long; called by the sweep."""
        for connection in list(self._idle):
            if connection.idle_since_s < 0:
                connection.idle_since_s = now_s
            elif now_s - connection.idle_since_s > IDLE_S_MAX:
                self._idle.remove(connection)
                connection.abort()

    def close(self) -> None:
        """Close idle connections now and busy ones when they finish.

        Requests that began before the backend was dropped may still dial.
        """
        self._closing = True
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    def abort(self) -> None:
        """Close everything at once; what is being dialled will not be heard of."""
        self.close()
        self._stopped = True
        for dial in self._dials:
            dial.cancel()
        for connection in list(self._busy):
            connection.abort()

    def _head(self, method: bytes, path: bytes) -> bytes:
        host = f"[{self._host}]" if ":" in self._host else self._host
        authority = f"{host}:{self._port}".encode()
        head = b"%b %b HTTP/1.1\r\nHost: %b\r\n" % (method, path, authority)
        if self.backend.api_key is not None:
            head += b"Authorization: Bearer %b\r\n" % self.backend.api_key.reveal().encode()
        return head

    def __repr__(self) -> str:
        return f"<Pool {self.backend.name} [{len(self._busy)} busy, {len(self._idle)} idle]>"
