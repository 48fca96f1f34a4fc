"""One client connection: bytes in, exchanges in order, bytes out.

Requests of a pipeline are parsed as they come and answered one after the other; reading pauses
when too many wait. Everything that is not plainly one HTTP/1.1 request after another is answered
with an error and the connection is closed, because the next message's beginning is uncertain.
"""

import asyncio
import re
from collections import deque
from typing import cast

import httptools

from arriero.base.errors import BadRequest, GatewayError, HeadersTooLarge, RequestTimeout
from arriero.config.settings import Server
from arriero.server.exchange import Exchange, Serve, body_too_large, malformed
from arriero.server.gateway import Gateway, Swept
from arriero.server.pipeline import serve
from arriero.server.request import Request

HEADERS_MAX = 128
LINGER_S = 2.0
LINGER_BYTES_MAX = 1_048_576
WRITE_BUFFER_HIGH_BYTES = 65_536
_UPGRADE_HEADER = re.compile(rb"(?i)(\r\n)upgrade([ \t]*:)")


class ClientConnection(asyncio.Protocol, Swept):
    """The server's side of one connection."""

    __slots__ = (
        "_client", "_exchange", "_failed", "_fresh", "_gateway", "_head_bytes", "_head_since_s",
        "_headers",
        "_linger_bytes", "_lingering", "_parser", "_quiet_since_s", "_read_paused", "_request",
        "_transport", "_upgrade", "_waiting", "_write_paused_since_s", "gone", "write_paused",
    )  # fmt: skip

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._transport: asyncio.Transport | None = None
        self._client = ""
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None  # being parsed
        self._headers: dict[bytes, bytes] = {}  # its own
        self._exchange: Exchange | None = None  # being answered
        self._waiting: deque[Request] = deque()  # a pipeline's next ones
        self._failed: GatewayError | None = None  # what to answer when the pipeline is through
        self._upgrade = False
        self._head_bytes = 0
        self._head_since_s = -1.0  # not restarted by a trickle of bytes
        self._fresh = True
        self._quiet_since_s = 0.0
        self._read_paused = False
        self._write_paused_since_s = 0.0
        self._lingering = False
        self._linger_bytes = 0
        self.write_paused = False
        self.gone = False

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport (TCP_NODELAY is set by the event loop)."""
        transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._client = peer[0] if isinstance(peer, tuple) else ""
        transport.set_write_buffer_limits(high=WRITE_BUFFER_HIGH_BYTES)
        gateway = self._gateway
        self._quiet_since_s = gateway.clock.now_s()
        gateway.connections.add(self)
        gateway.metrics.client_connections += 1
        gateway.metrics.client_connections_total += 1
        if len(gateway.connections) > gateway.runtime.config.server.connections_max:
            self.gone = True
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse one read; whole requests start being answered from within."""
        self._fresh = True
        if self._failed is not None or self._lingering:
            self._discard(len(data))
            return
        if self._request is None or not self._request.method:
            self._head_bytes += len(data)
        if self._parse(data):
            self._hand_on_early()

    def _parse(self, data: bytes) -> bool:
        """Feed the parser; return False when that ended in an answer of its own."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise  # a defect of ours, not of the client's; the event loop closes the connection
        except httptools.HttpParserUpgrade:
            self._ignore_upgrade(data)
            return False
        except httptools.HttpParserError as error:
            self._refuse(malformed(error))
            return False
        return True

    def _hand_on_early(self) -> None:
        """A request whose body is still to come may be refused before it is sent."""
        request = self._request
        if request is None:
            return
        if not request.method:
            self._check_head_size(request)
        elif not request.queued:
            self._enqueue(request)

    def eof_received(self) -> bool:
        """Take a half-closed connection for a client that left, as other proxies do."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the exchange that nobody waits any more."""
        self.gone = True
        gateway = self._gateway
        gateway.connections.discard(self)
        gateway.metrics.client_connections -= 1
        self._waiting.clear()
        exchange = self._exchange
        if exchange is not None:
            exchange.client_gone()

    def pause_writing(self) -> None:
        """The client reads slower than we write: let the backend wait."""
        self.write_paused = True
        self._write_paused_since_s = self._gateway.clock.now_s()
        if self._exchange is not None:
            self._exchange.pause()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        if self._exchange is not None:
            self._exchange.unpause()

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        request = self._request = Request()
        self._headers = request.headers

    def on_url(self, url: bytes) -> None:
        """The target, perhaps in pieces."""
        assert self._request is not None
        self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        name = name.lower()
        headers = self._headers
        if name in headers and self._request is not None:
            self._request.note_repeated(name)
        headers[name] = value

    def on_headers_complete(self) -> None:
        """The head is there."""
        request, parser = self._request, self._parser
        assert request is not None
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        request.method = parser.get_method()
        self._upgrade = b"upgrade" in self._headers
        if self._upgrade or self._failed is not None:
            return
        self._check_head_size(request)
        self._head_bytes = 0
        self._head_since_s = -1.0

    def on_body(self, body: bytes) -> None:
        """A piece of the body, kept up to the limit."""
        request = self._request
        assert request is not None
        request.body_parts.append(body)
        request.received_bytes += len(body)
        limit = self._gateway.runtime.config.server.body_bytes_max
        if request.received_bytes > limit:
            request.body_parts.clear()
            if self._exchange is not None and self._exchange.request is request:
                self._exchange.body_refused(body_too_large(limit))

    def on_message_complete(self) -> None:
        """The request is whole."""
        request = self._request
        assert request is not None
        if self._upgrade:
            return
        request.complete = True
        self._request = None
        if not request.queued:
            if self._failed is None:
                self._enqueue(request)
        elif self._exchange is not None and self._exchange.request is request:
            self._exchange.body_arrived()

    # -- requests in order

    def _enqueue(self, request: Request) -> None:
        request.queued = True
        if self._exchange is None and not self._waiting:
            self._begin(request)
            return
        self._waiting.append(request)
        if len(self._waiting) >= self._gateway.runtime.config.server.pipelined_requests_max:
            self._pause_reading()

    def _begin(self, request: Request) -> None:
        assert self._transport is not None
        exchange = Exchange(self._gateway, self, self._transport, request, self._client)
        self._exchange = exchange
        exchange.start(serve)

    def exchange_done(self, exchange: Exchange) -> None:
        """Go on with the next request, or close."""
        self._exchange = None
        self._fresh = True
        if self.gone:
            return
        if not exchange.keep_alive or not exchange.request.complete or self._gateway.draining:
            self._close_gently()
        elif self._waiting:
            # By way of the loop: a deep pipeline of refused requests must not recurse.
            asyncio.get_running_loop().call_soon(self._next)
        elif self._failed is not None:
            self._answer_failure()

    def _next(self) -> None:
        if self.gone or self._lingering or self._exchange is not None or not self._waiting:
            return
        request = self._waiting.popleft()
        self._resume_reading()
        self._begin(request)

    # -- what is refused

    def _check_head_size(self, request: Request) -> None:
        limit = self._gateway.runtime.config.server.head_bytes_max
        if self._head_bytes <= limit and len(request.headers) <= HEADERS_MAX:
            return
        size = len(request.target) + sum(len(n) + len(v) + 4 for n, v in request.headers.items())
        if not request.method:
            size = self._head_bytes
        if size > limit or len(request.headers) > HEADERS_MAX:
            self._refuse(
                HeadersTooLarge(f"the request head is over {limit} bytes or {HEADERS_MAX} fields")
            )

    def _refuse(self, error: GatewayError) -> None:
        """Answer what cannot be parsed, after all that came before it, and close."""
        if self._failed is not None:
            return
        self._failed = error
        self._gateway.metrics.malformed_requests += 1
        exchange = self._exchange
        if exchange is not None and not exchange.request.complete:
            exchange.body_refused(error)  # its own body is what is malformed
        if self._exchange is None and not self._waiting:
            self._answer_failure()

    def _answer_failure(self) -> None:
        error = self._failed
        assert error is not None
        request = self._request or Request()
        request.keep_alive = False
        request.complete = False
        assert self._transport is not None
        exchange = Exchange(self._gateway, self, self._transport, request, self._client)
        self._exchange = exchange
        exchange.start(_raising(error))

    def _ignore_upgrade(self, data: bytes) -> None:
        """Serve HTTP/1.1 to a client that offers to switch (RFC 9110, 7.8: we may ignore it).

        The parser stops at such a head. Java's client sends `Upgrade: h2c` with every first
        request, so the head is read again without the offer; one in several pieces is refused.
        """
        begun = self._request
        self._upgrade = False
        self._request = None
        self._parser = httptools.HttpRequestParser(self)
        masked = _UPGRADE_HEADER.sub(rb"\1x-declined\2", data)
        whole = begun is not None and begun.method != b"CONNECT" and data.startswith(begun.method)
        if not whole or masked == data or self._exchange is not None:
            self._refuse(BadRequest("CONNECT and protocol upgrades are not offered here"))
            return
        self.data_received(masked)

    # -- pace and deadlines

    def sweep(self, now_s: float) -> None:
        """Look at whichever deadline applies to what this connection is doing."""
        if self._fresh:
            self._fresh = False
            self._quiet_since_s = now_s
        limits = self._gateway.runtime.config.server
        quiet_s = now_s - self._quiet_since_s
        if self._lingering:
            if quiet_s >= LINGER_S:
                self.abort()
        elif self.write_paused:
            if now_s - self._write_paused_since_s >= limits.write_stall_timeout_s:
                self.abort()
        elif self._exchange is not None:
            if self._exchange.request.complete or quiet_s < limits.body_idle_timeout_s:
                self._exchange.sweep(now_s)
            else:
                late = RequestTimeout("the request body did not arrive in time")
                self._exchange.body_refused(late)
        else:
            self._sweep_unasked(now_s, quiet_s, limits)

    def _sweep_unasked(self, now_s: float, quiet_s: float, limits: Server) -> None:
        """No request is being answered: a head is arriving, or nothing is."""
        if not self._head_bytes:
            if quiet_s >= limits.keep_alive_idle_s:
                self.abort()
        elif self._head_since_s < 0:
            self._head_since_s = now_s
        elif now_s - self._head_since_s >= limits.header_timeout_s:
            self._refuse(RequestTimeout("the request head did not arrive in time"))

    def drain(self) -> None:
        """The gateway is stopping: close now if nothing is being answered, else afterwards."""
        if self._exchange is None and not self._waiting and not self._lingering:
            self.abort()

    def _pause_reading(self) -> None:
        if not self._read_paused and self._transport is not None:
            self._read_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._read_paused and self._transport is not None and not self.gone:
            self._read_paused = False
            self._transport.resume_reading()

    # -- closing

    def _close_gently(self) -> None:
        """Close so that the client gets to read the answer (RFC 9112, 9.6).

        Closing with unread input in the kernel makes it send a reset, which can destroy the
        response on its way; so the writing half goes first, and what still comes is thrown away.
        """
        assert self._transport is not None
        self._lingering = True
        self._fresh = True
        self._waiting.clear()
        self._resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _discard(self, size: int) -> None:
        self._linger_bytes += size
        if self._linger_bytes > LINGER_BYTES_MAX:
            self.abort()

    def abort(self) -> None:
        """Close at once; whatever was under way is told."""
        if self._transport is not None and not self.gone:
            self._transport.abort()


def _raising(error: GatewayError) -> Serve:
    async def refuse(exchange: Exchange) -> None:  # noqa: ARG001 - a pipeline's signature
        raise error

    return refuse
