"""One client connection: bytes in, exchanges in order, bytes out.

Requests of a pipeline are parsed as they come and answered one after the other; reading pauses
when too many wait. Everything that is not plainly one HTTP/1.1 request after another is answered
with an error and the connection is closed, because the next message's beginning is uncertain.
"""

import asyncio
from collections import deque
from typing import cast

import httptools

from arriero.base.errors import AmbiguousRequest, GatewayError, HeadersTooLarge, RequestTimeout
from arriero.config.settings import Server
from arriero.server.exchange import Exchange, Serve, body_too_large, malformed, open_exchange
from arriero.server.gateway import Gateway, Swept
from arriero.server.heads import recognise, remember
from arriero.server.pipeline import serve
from arriero.server.request import Request, SeenHead

HEADERS_MAX = 128
# Below these the limits need not be looked up: the configuration allows no lower ones.
EASY_HEAD_BYTES, EASY_FIELDS, EASY_BODY_BYTES = 1024, 64, 1024
# A client that was refused in the middle of its body may take a while to stop sending. These are
# nginx's lingering_timeout and lingering_time, the former shortened.
LINGER_QUIET_S = 2.0
LINGER_S_MAX = 30.0
CHUNK_OVERHEAD_MAX = 16  # bytes of framing per byte of a chunked body; chunks of one byte need 5
WRITE_BUFFER_HIGH_BYTES = 65_536
STRANGE_HEADS_MAX = 8  # in a row, until heads are no longer expected to come again
WAITING_BYTES_MAX = 1_048_576  # of bodies behind the one being answered; reading then pauses


class ClientConnection(asyncio.Protocol, Swept):
    """The server's side of one connection."""

    __slots__ = (
        "_client", "_exchange", "_expected", "_failed", "_fresh", "_gateway", "_head_bytes",
        "_head_since_s", "_headers", "_linger_since_s", "_lingering", "_parser", "_quiet_since_s",
        "_read_paused",
        "_request", "_seen", "_strange_heads", "_transport", "_unwritten_bytes", "_upgrade",
        "_waiting", "_write_paused_since_s", "gone", "write_paused",
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
        self._upgrade = False  # the request being parsed offers another protocol
        self._head_bytes = 0
        self._head_since_s = -1.0  # not restarted by a trickle of bytes
        self._fresh = True
        self._quiet_since_s = 0.0
        self._read_paused = False
        self._write_paused_since_s = 0.0
        self._unwritten_bytes = 0
        self._lingering = False
        self._linger_since_s = 0.0
        self._seen: SeenHead | None = None  # of the last request
        self._expected: SeenHead | None = None  # the same, while the connection is idle
        self._strange_heads = 0
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
        gateway.counters.client_connections += 1
        gateway.counters.client_connections_total += 1
        if len(gateway.connections) > gateway.runtime.config.server.connections_max:
            self.gone = True
            transport.abort()
        elif gateway.draining:  # accepted in the moment before the listener closed
            self.drain()

    def data_received(self, data: bytes) -> None:
        """Parse one read; whole requests start being answered from within."""
        expected = self._expected
        if expected is not None:
            request = recognise(expected, data)
            if request is not None:
                if self._strange_heads:
                    self._strange_heads = 0
                self._begin(request)
                return
            self._expected = None
            self._strange_heads += 1
        self._fresh = True
        if self._failed is not None or self._lingering:
            return  # thrown away, see _close_gently
        alone = self._is_idle()
        self._take(data)
        exchange = self._exchange
        if alone and exchange is not None and exchange.request.complete and not self._waiting:
            self._learn(data, exchange.request)

    def _is_idle(self) -> bool:
        """Say whether the next byte begins a request that will be answered at once."""
        return self._exchange is None and not (
            self._head_bytes or self._request or self._waiting or self.write_paused
        )

    def _learn(self, data: bytes, request: Request) -> None:
        """Expect the head of a whole request again, unless nearly every one is another."""
        self._seen = None
        if self._strange_heads < STRANGE_HEADS_MAX:
            most = self._gateway.runtime.config.server.body_bytes_max
            self._seen = remember(data, request, most)

    def _take(self, data: bytes) -> None:
        """Parse one read."""
        request = self._request
        if request is None or not request.method:
            self._head_bytes += len(data)
        else:
            request.framed_bytes += len(data)
        if self._parse(data) and self._request is not None:
            self._hand_on_early(self._request)

    def _parse(self, data: bytes) -> bool:
        """Feed the parser; return False when that ended in an answer of its own."""
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError:
            raise  # a defect of ours, not of the client's; the event loop closes the connection
        except httptools.HttpParserError as error:
            self._refuse(malformed(error))
            return False
        return True

    def _feed(self, data: bytes | memoryview) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self._failed is not None:
                    return
                data = memoryview(data)[offer.args[0] :]
                self._decline_upgrade()
            else:
                return

    def _decline_upgrade(self) -> None:
        """Go on in HTTP/1.1 with a client that offers another protocol (RFC 9110, 7.8).

        Java's client offers h2c with every first request. The parser stops behind such a head, so
        another one goes on, which learns from a head of its own how the body is framed.
        """
        request = self._request
        assert request is not None
        framing = b"".join(
            b"%b: %b\r\n" % (name, request.headers[name])
            for name in (b"content-length", b"transfer-encoding")
            if name in request.headers
        )
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n" % framing)

    def _hand_on_early(self, request: Request) -> None:
        """A request whose body is still to come may be refused before it is sent."""
        if not request.method:
            self._check_head_size(request)
            return
        self._check_framing(request)
        if not request.queued:
            self._enqueue(request)

    def eof_received(self) -> bool:
        """Take a half-closed connection for a client that left, as other proxies do."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the exchange that nobody waits any more."""
        self.gone = True
        gateway = self._gateway
        gateway.connections.discard(self)
        gateway.counters.client_connections -= 1
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
        else:
            self._next()

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._upgrade:
            return  # this and the next two are about the head of _decline_upgrade
        request = self._request = Request()
        self._headers = request.headers

    def on_url(self, url: bytes) -> None:
        """The target, perhaps in pieces."""
        assert self._request is not None
        if not self._upgrade:
            self._request.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        name = name.lower()
        headers = self._headers
        if name in headers and self._request is not None:
            self._request.note_repeated(name, headers[name])
        headers[name] = value

    def on_headers_complete(self) -> None:
        """The head is there."""
        if self._upgrade:
            self._upgrade = False
            return
        request, parser = self._request, self._parser
        assert request is not None
        request.version = parser.get_http_version()
        request.keep_alive = parser.should_keep_alive()
        request.method = parser.get_method()
        headers = self._headers
        self._upgrade = b"upgrade" in headers and parser.should_upgrade()
        self._headers = {}  # for trailers, which must not be taken for headers (RFC 9110, 6.5.1)
        if self._failed is not None:
            return
        if self._head_bytes > EASY_HEAD_BYTES or len(headers) > EASY_FIELDS or request.repeats:
            self._check_head_size(request)
        if request.method == b"CONNECT":
            self._refuse(AmbiguousRequest("CONNECT is not offered here"))
        self._head_bytes = 0
        self._head_since_s = -1.0

    def on_body(self, body: bytes) -> None:
        """A piece of the body, kept up to the limit."""
        request = self._request
        assert request is not None
        request.body_parts.append(body)
        request.received_bytes += len(body)
        if request.received_bytes <= EASY_BODY_BYTES:
            return
        limit = self._gateway.runtime.config.server.body_bytes_max
        if self._waiting and self._is_full():
            self._pause_reading()
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
        exchange = self._exchange
        if request.queued:
            if exchange is not None and exchange.request is request:
                exchange.body_arrived()
        elif exchange is None and not (
            self._waiting or self.write_paused or self._lingering or self._failed
        ):
            request.queued = True
            self._begin(request)
        else:
            self._enqueue(request)

    # -- requests in order

    def _enqueue(self, request: Request) -> None:
        if self._failed is not None or self._lingering:
            return  # nothing is answered after the answer that closes
        request.queued = True
        if self._exchange is None and not self._waiting and not self.write_paused:
            self._begin(request)
            return
        self._waiting.append(request)
        if self.write_paused or self._is_full():
            self._pause_reading()

    def _is_full(self) -> bool:
        """Say whether enough requests wait, by their number or by the bytes of their bodies."""
        waiting = self._waiting
        most = self._gateway.runtime.config.server.pipelined_requests_max
        held_bytes = sum(request.received_bytes for request in waiting)
        return len(waiting) >= most or held_bytes >= WAITING_BYTES_MAX

    def _begin(self, request: Request) -> None:
        assert self._transport is not None
        self._expected = None
        exchange = open_exchange(self._gateway, self, self._transport, request, self._client)
        self._exchange = exchange
        exchange.start(serve)

    def exchange_done(self, exchange: Exchange) -> None:
        """Go on with the next request, or close."""
        self._exchange = None
        self._fresh = True
        if self.gone:
            return
        if not exchange.keep_alive or not exchange.request.complete:
            self._close_gently()
        elif self._waiting:
            # By way of the loop: a deep pipeline of refused requests must not recurse.
            asyncio.get_running_loop().call_soon(self._next)
        elif self._failed is not None:
            self._answer_failure()
        elif self._gateway.draining:  # and the head of this answer, sent before, did not say so
            self.drain()
        elif self._seen is not None and self._is_idle():
            self._expected = self._seen

    def _next(self) -> None:
        if self.gone or self._lingering or self._exchange is not None or not self._waiting:
            return
        if self.write_paused:
            return  # who does not read answers gets no more of them; resume_writing goes on
        request = self._waiting.popleft()
        if not self._is_full():  # one read may have brought many more than may wait
            self._resume_reading()
        if self._failed is not None and not request.complete:
            self._answer_failure()  # its body went wrong while it waited
        else:
            self._begin(request)

    # -- what is refused

    def _check_head_size(self, request: Request) -> None:
        limit = self._gateway.runtime.config.server.head_bytes_max
        fields = len(request.headers) + request.repeats
        if self._head_bytes <= limit and fields <= HEADERS_MAX:
            return
        # A read may hold more than the head: what the body takes is no reason to refuse it.
        size = request.head_bytes() if request.method else self._head_bytes
        if size > limit or fields > HEADERS_MAX:
            self._refuse(
                HeadersTooLarge(f"the request head is over {limit} bytes or {HEADERS_MAX} fields")
            )

    def _check_framing(self, request: Request) -> None:
        """Refuse chunks that are mostly extensions, and trailers without an end."""
        allowed = self._gateway.runtime.config.server.head_bytes_max
        allowed += (CHUNK_OVERHEAD_MAX + 1) * request.received_bytes
        if request.framed_bytes > allowed:
            self._refuse(AmbiguousRequest("chunk extensions or trailers are too long"))

    def _refuse(self, error: GatewayError) -> None:
        """Answer what cannot be parsed, after all that came before it, and close."""
        if self._failed is not None:
            return
        self._failed = error
        self._gateway.counters.malformed_requests += 1
        exchange = self._exchange
        if exchange is not None and not exchange.request.complete:
            exchange.body_refused(error)  # its own body is what is malformed
        if self._exchange is None and not self._waiting and not self._lingering:
            self._answer_failure()

    def _answer_failure(self) -> None:
        error = self._failed
        assert error is not None
        request = self._request or Request()
        request.keep_alive = False
        request.complete = False
        assert self._transport is not None
        exchange = open_exchange(self._gateway, self, self._transport, request, self._client)
        exchange.record.path = request.path
        self._exchange = exchange
        exchange.start(_raising(error))

    # -- pace and deadlines

    def sweep(self, now_s: float) -> None:
        """Look at whichever deadline applies to what this connection is doing."""
        if self._fresh:
            self._fresh = False
            self._quiet_since_s = now_s
        limits = self._gateway.runtime.config.server
        quiet_s = now_s - self._quiet_since_s
        if self.write_paused or (self._lingering and self._unwritten()):
            if self._is_stalled(now_s, limits.write_stall_timeout_s):
                self.abort()
        elif self._lingering:
            if quiet_s >= LINGER_QUIET_S or now_s - self._linger_since_s >= LINGER_S_MAX:
                self.abort()
        elif self._exchange is not None:
            if self._exchange.request.complete or quiet_s < limits.body_idle_timeout_s:
                self._exchange.sweep(now_s)
            else:
                late = RequestTimeout("the request body did not arrive in time")
                self._exchange.body_refused(late)
        else:
            self._sweep_unasked(now_s, quiet_s, limits)

    def _is_stalled(self, now_s: float, limit_s: float) -> bool:
        """Say whether the client has taken nothing for so long; a slow one is no dead one."""
        unwritten_bytes = self._unwritten()
        if unwritten_bytes != self._unwritten_bytes:
            self._unwritten_bytes = unwritten_bytes
            self._write_paused_since_s = now_s
        return now_s - self._write_paused_since_s >= limit_s

    def _unwritten(self) -> int:
        assert self._transport is not None
        return self._transport.get_write_buffer_size()

    def _sweep_unasked(self, now_s: float, quiet_s: float, limits: Server) -> None:
        """No request is being answered: a head is arriving, or nothing is."""
        if not self._head_bytes and self._request is None:
            if quiet_s >= limits.keep_alive_idle_s:
                self.abort()
        elif self._head_since_s < 0:
            self._head_since_s = now_s
        elif now_s - self._head_since_s >= limits.header_timeout_s:
            self._refuse(RequestTimeout("the request head did not arrive in time"))

    def drain(self) -> None:
        """The gateway is stopping: let go of the client now, or after what is under way.

        A head that has begun to arrive is a request, too, and `_sweep_unasked` sees to its end. A
        client of which nothing came is handed over if somebody takes it; closing would meet the
        request that it may be sending just now (RFC 9112, 9.5).
        """
        transport, begun = self._transport, self._head_bytes or self._request is not None
        if self._exchange is not None or self._waiting or self._lingering or begun:
            return
        if self._unwritten():
            self._close_gently()
        elif transport is not None:
            self._pause_reading()
            self._gateway.release(transport)
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
        self._linger_since_s = self._gateway.clock.now_s()
        self._fresh = True
        self._waiting.clear()
        self._resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once; whatever was under way is told."""
        if self._transport is not None and not self.gone:
            self._transport.abort()


def _raising(error: GatewayError) -> Serve:
    async def refuse(exchange: Exchange) -> None:  # noqa: ARG001 - a pipeline's signature
        raise error

    return refuse
