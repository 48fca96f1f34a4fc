"""One request being answered: the pipeline's coroutine, what it waits for, and its reply.

The pipeline is an ordinary `async def`, so that its ifs read straight down, but no event loop
runs it: the exchange steps it from the callbacks of its connections (`resume`, `throw`). That
spares a task and two loop turns per request, and makes the connection the owner of all that
happens in its name: when the client leaves, the coroutine is told at once, at its one waiting
point, whatever it waits for.
"""

from collections.abc import Callable, Coroutine, Generator
from typing import Protocol

import msgspec

from arriero.base.errors import (
    AmbiguousRequest,
    BackendTimeout,
    GatewayError,
    InternalError,
    PayloadTooLarge,
)
from arriero.core.fairness import Charge, work_of
from arriero.core.meter import Reservation, Taken
from arriero.core.record import Record
from arriero.server.gateway import Gateway, Runtime
from arriero.server.request import Request
from arriero.wire.dialect import AnswerEncoder
from arriero.wire.http import CONTINUE, LAST_CHUNK, chunked, expects_continue, status_line
from arriero.wire.openai_errors import error_body, error_headers

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"
HEARTBEAT = b": waiting\n\n"
CLIENT_GONE_STATUS = 499  # nginx's number for it; it only ever stands in logs
STATUS_OK = 200
STATUS_OK_LINE = status_line(STATUS_OK)
STATUS_CLIENT_MIN = 400


_METHODS = {b"GET": "GET", b"HEAD": "HEAD", b"POST": "POST"}


class ClientGone(Exception):
    """The client closed its connection before its answer was complete."""


class Transport(Protocol):
    """The part of a transport that a reply needs."""

    def write(self, data: bytes, /) -> None:
        """Queue bytes for the client."""
        ...


class Owner(Protocol):
    """The connection, as its exchange sees it."""

    write_paused: bool

    def exchange_done(self, exchange: "Exchange") -> None:
        """The exchange is over; the connection may serve the next request."""
        ...


class Ongoing(Protocol):
    """What an exchange may be waiting for on the backends' side."""

    def sweep(self, now_s: float) -> None:
        """Look at the clock."""
        ...

    def pause(self) -> None:
        """Take no more from the backend."""
        ...

    def unpause(self, now_s: float) -> None:
        """Go on."""
        ...

    def cancel(self) -> None:
        """Give up, because nobody waits for the answer."""
        ...


Serve = Callable[["Exchange"], Coroutine[object, object, None]]


class Exchange(msgspec.Struct, eq=False):
    """A request and its reply on one client connection; made by `open_exchange`."""

    gateway: Gateway
    runtime: Runtime
    request: Request
    id: str
    started_s: float
    record: Record
    keep_alive: bool
    _owner: Owner
    _transport: Transport
    _quiet_since_s: float
    deadline_s: float = float("inf")  # of the whole request, set when its model is known
    ongoing: Ongoing | None = None
    encoder: AnswerEncoder | None = None  # set once an answer is to be streamed
    charge: Charge | None = None  # set when the request is let through to a backend
    reservation: Reservation | Taken | None = None  # set when its key or model has limits
    extra_head: bytes = b""  # header lines of a good answer, each with its CRLF
    done: bool = False
    _body_wanted: bool = False
    _head_sent: bool = False
    _streaming: bool = False
    _wrote: bool = False
    _coroutine: Coroutine[object, object, None] | None = None

    # -- driving the pipeline

    def start(self, serve: Serve) -> None:
        """Run the pipeline up to its first wait."""
        self._coroutine = serve(self)
        self._step(None)

    def resume(self, value: object) -> None:
        """Go on with what the pipeline waited for."""
        if not self.done:
            self._step(value)

    def throw(self, error: Exception) -> None:
        """Make the pipeline's wait fail."""
        if not self.done:
            self._step(None, error)

    def _step(self, value: object, error: Exception | None = None) -> None:
        assert self._coroutine is not None
        try:
            if error is None:
                self._coroutine.send(value)
            else:
                self._coroutine.throw(error)
        except StopIteration:
            self._conclude()
        except ClientGone:
            self.record.status = CLIENT_GONE_STATUS
            self.record.outcome = "client_gone"
            self._conclude()
        except GatewayError as failure:
            self._fail(failure)
        except Exception:  # noqa: BLE001 - the guard of one connection: others must live on
            self.gateway.events.exception("internal error", extra={"request_id": self.id})
            self._fail(InternalError("something went wrong inside the gateway"))

    def __await__(self) -> Generator[None, object, object]:
        """Wait for `resume`, whose value is returned; GatewayError and ClientGone may be raised."""
        return (yield)

    def body_at_hand(self) -> bytes:
        """Return the body if it came in one piece with its head, as most do; else b""."""
        request = self.request
        if request.seen is None and (
            len(request.body_parts) != 1 or not request.complete or b"expect" in request.headers
        ):
            return b""
        return request.body_parts[0]

    async def body(self) -> bytes:
        """Return the whole request body.

        Raises PayloadTooLarge before the client has sent it all, ExpectationFailed for an
        expectation we do not know.
        """
        request = self.request
        limit = self.runtime.config.server.body_bytes_max
        awaits_continue = expects_continue(request.headers, request.version)
        if not request.complete:
            declared = request.headers.get(b"content-length", b"0")
            if int(declared) > limit or request.received_bytes > limit:
                raise body_too_large(limit)
            if awaits_continue and not request.received_bytes:
                self._transport.write(CONTINUE)
            self._body_wanted = True
            await self
            self._body_wanted = False
        if request.received_bytes > limit:
            raise body_too_large(limit)
        return request.body()

    def body_arrived(self) -> None:
        """The parser has the whole body."""
        if self._body_wanted:
            self.resume(None)

    def body_refused(self, error: GatewayError) -> None:
        """The body cannot be received: too large, malformed, too slow."""
        if self._body_wanted:
            self.throw(error)

    def tell_ignored(self, names: list[str]) -> None:
        """Note the parameters that were dropped by policy, and tell them in a header."""
        told = ", ".join(names)
        self.record.ignored = told
        self.extra_head = b"X-Arriero-Ignored: %b\r\n" % told.encode("ascii", "replace")

    # -- the reply

    def reply(
        self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b""
    ) -> None:
        """Send a whole response; `extra` are header lines, each with its CRLF."""
        record, request = self.record, self.request
        record.status = status
        record.response_bytes = len(body)
        self._head_sent = True
        plain = self.keep_alive and request.complete and request.version == "1.1"
        self._transport.write(
            b"%bContent-Type: %b\r\nContent-Length: %d\r\nX-Request-Id: %b\r\n%b%b%b\r\n%b"
            % (
                STATUS_OK_LINE if status == STATUS_OK else status_line(status),
                content_type,
                len(body),
                self.id.encode(),
                self.gateway.date_line,
                extra,
                b"" if plain and not self.gateway.draining else self._connection_line(),
                body if request.method != b"HEAD" else b"",
            )
        )

    def begin_stream(self) -> None:
        """Send the head of an event stream, once."""
        if self._head_sent:
            return
        self._head_sent = self._streaming = True
        self.gateway.counters.streams_open += 1
        self.record.status = 200
        coding = b"Transfer-Encoding: chunked\r\n"
        if self.request.version == "1.0":  # knows no chunks: the close ends the body
            coding = b""
            self.keep_alive = False
        self._transport.write(
            b"%bContent-Type: %b\r\nCache-Control: no-cache\r\nX-Accel-Buffering: no\r\n"
            b"X-Request-Id: %b\r\n%b%b%b%b\r\n"
            % (
                status_line(200),
                EVENT_STREAM,
                self.id.encode(),
                coding,
                self.gateway.date_line,
                self.extra_head,
                self._connection_line(),
            )
        )

    def write_stream(self, data: bytes) -> None:
        """Send events of the answer; the first ones set the time to first token."""
        record = self.record
        if record.first_token_s < 0:
            record.first_token_s = self.gateway.clock.now_s() - self.started_s
            self.begin_stream()
        record.response_bytes += len(data)
        self._wrote = True
        if self.request.version == "1.0":
            self._transport.write(data)
        else:  # `chunked`, spelt out for the hot path
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self, data: bytes) -> None:
        """Send the last events and end the body."""
        self.begin_stream()
        self.record.response_bytes += len(data)
        if self.request.version == "1.0":
            self._transport.write(data)
        else:
            # An empty chunk would be the last one already, and this one the next response's head.
            self._transport.write(chunked(data) + LAST_CHUNK if data else LAST_CHUNK)

    def _connection_line(self) -> bytes:
        request = self.request
        if not self.keep_alive or self.gateway.draining or not request.complete:
            self.keep_alive = False
            return b"Connection: close\r\n"
        return b"" if request.version == "1.1" else b"Connection: keep-alive\r\n"

    # -- the clock, and the client's pace

    def sweep(self, now_s: float) -> None:
        """Look at the deadlines, and keep a quiet stream alive."""
        if self.ongoing is not None:
            self.ongoing.sweep(now_s)
        if self.ongoing is not None and now_s >= self.deadline_s:
            self.ongoing.cancel()
            self.throw(BackendTimeout("the whole request took longer than its `total_s`"))
        if self.done or self.encoder is None:
            return
        if self._wrote:
            self._wrote = False
            self._quiet_since_s = now_s
        elif now_s - self._quiet_since_s >= self.runtime.config.server.heartbeat_s:
            self.begin_stream()
            self._quiet_since_s = now_s
            self._transport.write(
                HEARTBEAT if self.request.version == "1.0" else chunked(HEARTBEAT)
            )

    @property
    def write_paused(self) -> bool:
        """The client's buffer is full."""
        return self._owner.write_paused

    def pause(self) -> None:
        """The client is slow: take no more from the backend."""
        if self.ongoing is not None:
            self.ongoing.pause()

    def unpause(self) -> None:
        """The client has caught up."""
        if self.ongoing is not None:
            self.ongoing.unpause(self.gateway.clock.now_s())

    def client_gone(self) -> None:
        """The client closed its connection."""
        if self.ongoing is not None:
            self.ongoing.cancel()
        self.throw(ClientGone())

    # -- the end

    def _fail(self, error: GatewayError) -> None:
        record = self.record
        record.code = error.code
        if isinstance(error, AmbiguousRequest):
            self.keep_alive = False
        record.outcome = f"{error.fault.value}_error"
        if not self._head_sent:
            lines = "".join(f"{name}: {value}\r\n" for name, value in error_headers(error))
            self.reply(error.status, error_body(error, self.id), extra=lines.encode())
        elif self.encoder is not None:
            # The status line is gone, so the stream itself must say that this is no good end.
            self.end_stream(self.encoder.error(error, self.id))
            self.keep_alive = False
        self._conclude()

    def _conclude(self) -> None:
        """Settle: the only writer of metrics and the access log line."""
        self.done = True
        self.ongoing = None
        self._coroutine = None  # it refers back to us: no work for the cycle collector
        record = self.record
        record.request_bytes = self.request.received_bytes
        record.duration_s = self.gateway.clock.now_s() - self.started_s
        if not record.outcome:
            record.outcome = "ok" if record.status < STATUS_CLIENT_MIN else "client_error"
        if self.charge is not None:
            self.charge.settle(work_of(record, self.charge.cost))
        gateway = self.gateway
        reservation = self.reservation
        if reservation is not None:
            reservation.settle(record.prompt_tokens + record.completion_tokens)
            if gateway.holds.waiting:
                gateway.holds.ended(reservation.subjects)
        gateway.counters.requests_open -= 1
        if self._streaming:
            gateway.counters.streams_open -= 1
        gateway.settle(record)
        self._owner.exchange_done(self)


def open_exchange(
    gateway: Gateway, owner: Owner, transport: Transport, request: Request, client: str
) -> Exchange:
    """Begin to answer a request."""
    clock = gateway.clock
    now_s = clock.now_s()
    answer_id = gateway.ids.next_id()
    gateway.counters.requests_open += 1
    return Exchange(
        gateway,
        gateway.runtime,
        request,
        answer_id,
        now_s,
        Record(
            answer_id,
            _METHODS.get(request.method) or request.method.decode("latin-1"),
            client,
            clock.unix_s(),
        ),
        request.keep_alive,
        owner,
        transport,
        now_s,
    )


def body_too_large(limit: int) -> PayloadTooLarge:
    """Return the error for a body over the limit."""
    return PayloadTooLarge(
        f"the request body is larger than {limit} bytes",
        hint="raise server.body_bytes_max, or send smaller images",
    )


def malformed(error: Exception) -> AmbiguousRequest:
    """Return the error for bytes that are not HTTP/1.1 as we accept it."""
    return AmbiguousRequest(f"malformed HTTP: {error}", hint="send well-formed HTTP/1.1 (RFC 9112)")
