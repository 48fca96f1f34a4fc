"""A small HTTP/1.1 server whose handlers may misbehave on purpose.

The simulations and the embedded fleet stand on it; the gateway's own listener does not, because a
data plane must never be able to do what this one is for: reset a connection in mid-answer, end a
chunked body without its last chunk, stop answering, or send something that is not HTTP.

A handler is `async def handler(request, reply)`. It runs in a task of its own; when the client
goes away the task is cancelled, as net/http cancels a request's context in Ollama.
"""

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Final, Self, cast
from urllib.parse import unquote

import httptools

HEAD_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX: Final = 64 * 1024 * 1024
PIPELINED_MAX: Final = 16
CONNECTIONS_MAX: Final = 4096

REASONS: Final = {
    200: "OK",
    301: "Moved Permanently",
    307: "Temporary Redirect",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Request Entity Too Large",
    429: "Too Many Requests",
    499: "",
    501: "Not Implemented",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_LINGER_RESET: Final = struct.pack("ii", 1, 0)


class Request:
    """One request with its whole body; header names are lower case, the last of a name wins."""

    __slots__ = ("body", "headers", "keep_alive", "method", "path", "query")

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.query = ""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.keep_alive = True

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path} [{len(self.body)} bytes]>"


class Reply:
    """The way back to one client. Call exactly one of `send`, or `start` then `write` then `end`.

    `reset`, `close` and `raw` are the ways to misbehave, at any moment.
    """

    __slots__ = ("_connection", "_request", "finished", "started")

    def __init__(self, connection: "Connection", request: Request) -> None:
        self._connection = connection
        self._request = request
        self.started = False
        self.finished = False

    def __repr__(self) -> str:
        state = "finished" if self.finished else "started" if self.started else "waiting"
        return f"<Reply {state} to {self._request!r}>"

    def send(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json; charset=utf-8",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer whole, with Content-Length; a HEAD request gets the head alone."""
        fields = {"Content-Type": content_type, **(headers or {})}
        fields["Content-Length"] = str(len(body))
        self._head(status, fields)
        if self._request.method != "HEAD":
            self._connection.write(body)
        self._finish()

    def json(self, status: int, value: object) -> None:
        """Answer whole with `value` as JSON."""
        self.send(status, json.dumps(value, separators=(",", ":")).encode())

    def text(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        """Answer whole with plain text."""
        self.send(status, text.encode(), "text/plain; charset=utf-8", headers)

    def start(
        self, status: int, content_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Begin a chunked answer."""
        fields = {"Content-Type": content_type, **(headers or {}), "Transfer-Encoding": "chunked"}
        self._head(status, fields)

    async def write(self, data: bytes) -> None:
        """Send one chunk and wait while the client reads more slowly than we write."""
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data))
        if not self._connection.writable.is_set():
            await self._connection.writable.wait()

    def end(self) -> None:
        """Send the last chunk: the answer is complete."""
        self._connection.write(b"0\r\n\r\n")
        self._finish()

    def goes_to(self, connection: "Connection") -> bool:
        """Say whether this is an answer on a connection."""
        return self._connection is connection

    def raw(self, data: bytes) -> None:
        """Send bytes as they are, HTTP or not."""
        self._connection.write(data)

    def reset(self) -> None:
        """Cut the connection with RST, as a crashed or killed process does."""
        self.finished = True
        self._connection.reset()

    def close(self) -> None:
        """Cut the connection with FIN where it stands, chunk missing or not."""
        self.finished = True
        self._connection.close()

    def _head(self, status: int, fields: Mapping[str, str]) -> None:
        assert not self.started, "an answer has one head"
        self.started = True
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        if not self._request.keep_alive:
            lines.append("Connection: close")
        self._connection.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def _finish(self) -> None:
        self.finished = True
        if not self._request.keep_alive:
            self._connection.close()


Handler = Callable[[Request, Reply], Awaitable[None]]


class Connection(asyncio.Protocol):
    """One client: parses requests with httptools and lets the server run a handler for each.

    Reading never pauses while a handler runs, for that is how its client's leaving is noticed.
    """

    def __init__(self, server: "HttpServer") -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._url = b""
        self._head_bytes = 0
        self._body = bytearray()
        self._waiting: list[Request] = []
        self._cancel: Callable[[], object] | None = None
        self._transport: asyncio.Transport | None = None
        self.writable = asyncio.Event()
        self.writable.set()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport, or hang up when there are too many clients."""
        # uvloop's transports are no subclasses of asyncio's, so there is nothing to assert.
        self._transport = cast("asyncio.Transport", transport)
        if not self._server.admit(self):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the handler: its client is gone."""
        del exc  # why it ended makes no difference here
        self._transport = None
        self.writable.set()
        self._waiting.clear()
        if self._cancel is not None:
            self._cancel()
        self._server.forget(self)

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400)
        except httptools.HttpParserError:
            self._refuse(400)

    def eof_received(self) -> bool:
        """Treat a half-closed client as gone, as net/http does."""
        return False

    def pause_writing(self) -> None:
        """Let writers wait: the client reads too slowly."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self.writable.set()

    # httptools callbacks

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._request = Request()
        self._url = b""
        self._head_bytes = 0
        self._body = bytearray()

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self._url += url
        self._limit_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header field."""
        self._limit_head(len(name) + len(value))
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Read the head."""
        request = self._request
        request.method = self._parser.get_method().decode("ascii")
        request.keep_alive = self._parser.should_keep_alive()
        path, _, query = self._url.decode("latin-1").partition("?")
        request.path = unquote(path)
        request.query = query
        if request.headers.get("expect", "").lower() == "100-continue":
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body += body
        if len(self._body) > BODY_BYTES_MAX:
            self._refuse(413)

    def on_message_complete(self) -> None:
        """Hand the request to a handler, after those before it."""
        self._request.body = bytes(self._body)
        self._waiting.append(self._request)
        if len(self._waiting) > PIPELINED_MAX:
            self._refuse(429)
        else:
            self._next()

    # for Reply and HttpServer

    def write(self, data: bytes) -> None:
        """Send bytes; nothing happens once the client is gone."""
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        """End the connection after what was written."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """End the connection now, with RST."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            self._transport.abort()

    def _limit_head(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse(400)

    def _refuse(self, status: int) -> None:
        text = REASONS[status].encode()
        self.write(
            b"HTTP/1.1 %d %b\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (status, text, len(text), text)
        )
        self.close()

    def _next(self) -> None:
        if self._cancel is None and self._waiting and self._transport is not None:
            self._cancel = self._server.run(self._run(self._waiting.pop(0)))

    async def _run(self, request: Request) -> None:
        reply = Reply(self, request)
        try:
            await self._server.handle(request, reply)
        except Exception as defect:  # noqa: BLE001 - one handler's defect must not end the others; the server reports it at its end
            self._server.defects.append(defect)
            self.reset()
        finally:
            self._cancel = None
            if reply.started and not reply.finished:
                self.close()
        self._next()


class HttpServer:
    """Listens on one address until the `async with` block ends; `handle` answers every request.

    A handler's exception resets its connection, and all such exceptions are raised together when
    the block ends: a defect of a simulation must not look like a fault it was told to show.
    """

    def __init__(self, handle: Handler, host: str = "127.0.0.1", port: int = 0) -> None:
        self.handle = handle
        self.host = host
        self.port = port
        self.defects: list[Exception] = []
        self._connections: set[Connection] = set()
        self._listener: asyncio.Server | None = None
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __repr__(self) -> str:
        state = "listening" if self.listening else "refusing"
        return f"<HttpServer {self.url} {state}, {len(self._connections)} connections>"

    @property
    def url(self) -> str:
        """The base URL, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def listening(self) -> bool:
        """Whether new connections are accepted."""
        return self._listener is not None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        await self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_listening()
        self.reset_all()
        for task in list(self._tasks):
            task.cancel()
        # The group is not told of the block's own error: it would wrap it in a group.
        await self._group.__aexit__(None, None, None)
        # A loop that is closed at once would find transports still open.
        await self._empty.wait()
        if self.defects and error is None:
            raise ExceptionGroup("handlers failed", self.defects)

    async def listen(self) -> None:
        """Accept connections, again on the same port after `stop_listening`."""
        if self._listener is None:
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_server(
                lambda: Connection(self), self.host, self.port, backlog=1024
            )
            self.port = self._listener.sockets[0].getsockname()[1]

    def stop_listening(self) -> None:
        """Refuse new connections; those that stand go on."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def reset_all(self, spare: Reply | None = None) -> None:
        """Cut every connection with RST, but for that of the reply to be spared."""
        for connection in list(self._connections):
            if spare is None or not spare.goes_to(connection):
                connection.reset()

    def run(self, work: Coroutine[Any, Any, None]) -> Callable[[], object]:
        """Run `work` as a child of this server, which cancels it at its end; return its cancel."""
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task.cancel

    def admit(self, connection: Connection) -> bool:
        """Count a new connection in, unless there are too many or the listener is closed."""
        if not self.listening or len(self._connections) >= CONNECTIONS_MAX:
            return False
        self._connections.add(connection)
        self._empty.clear()
        return True

    def forget(self, connection: Connection) -> None:
        """Count a connection out."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()
