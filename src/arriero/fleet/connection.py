"""One HTTP/1.1 connection to a backend: a request at a time, events to whoever sent it.

Raw protocol on purpose: a relayed chunk costs one parse and one call, no task, queue or copy.
"""

import asyncio
import re
from typing import Protocol, cast

import httptools

from arriero.fleet.errors import UpstreamClosed, UpstreamMalformed

HEAD_BYTES_MAX = 65_536
SLICE_BYTES = 16_384
FINAL_STATUS_MIN = 200  # 1xx are interim (RFC 9110, 15.2)
_LENGTH_GIVEN = re.compile(rb"(?im)^(?:content-length|transfer-encoding)[ \t]*:")


class Sink(Protocol):
    """Who wants to know what a backend says; the connection's `status` is there before any call."""

    def on_data(self, data: bytes) -> None:
        """More of the body, all that one read brought."""
        ...

    def on_end(self) -> None:
        """The response is complete; the connection is no longer yours."""
        ...

    def on_lost(self, error: Exception) -> None:
        """The connection broke before the end; it is no longer yours."""
        ...


class ConnectionOwner(Protocol):
    """The pool, as its connections see it."""

    def on_idle(self, connection: "UpstreamConnection") -> None:
        """A connection finished a response and may be used again."""
        ...

    def on_gone(self, connection: "UpstreamConnection") -> None:
        """A connection is closed."""
        ...


class UpstreamConnection(asyncio.Protocol):
    """A connection that is idle (`sink` is None), busy, or closing."""

    __slots__ = (
        "_backlog", "_complete", "_head", "_headed", "_held", "_hung_up", "_keep_alive", "_owner",
        "_parser", "_pieces", "_read_paused", "gone", "idle_since_s", "sink", "status",
        "transport", "used",
    )  # fmt: skip

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self.transport: asyncio.Transport | None = None
        self.sink: Sink | None = None
        self.used = 0  # requests sent; a reused connection may turn out to be stale
        self.gone = False
        self.idle_since_s = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._head = b""  # of the current response, kept to judge how its body ends
        self._headed = False
        self.status = 0  # of the current response, once its head is there
        self._hung_up = False  # nothing can be sent on it any more
        self._keep_alive = False
        self._pieces: list[bytes] = []
        self._complete = False
        self._read_paused = False  # by the client's pace
        self._backlog: memoryview | bytes = b""  # of a long read, still to be taken
        self._held = False  # the transport reads nothing, for either reason

    # -- the sender's side

    @property
    def answered(self) -> bool:
        """Bytes of the current response were seen."""
        return self._head != b""

    def send(self, request: bytes, sink: Sink) -> None:
        """Send a whole request; `sink` hears of the response until `on_end` or `on_lost`."""
        assert self.sink is None, "one request at a time"
        assert self.transport is not None
        self.sink = sink
        self.used += 1
        self._complete = False
        self._head = b""
        self._headed = False
        self.transport.write(request)

    def pause(self) -> None:
        """Stop reading: the client cannot take more (back-pressure)."""
        if not self._read_paused:
            self._read_paused = True
            self._hold_reading()

    def resume(self) -> None:
        """Read on."""
        if self._read_paused:
            self._read_paused = False
            if self._backlog:
                asyncio.get_running_loop().call_soon(self._deal)
            else:
                self._release_reading()

    def _hold_reading(self) -> None:
        if not self._held and self.transport is not None and not self.gone:
            self._held = True
            self.transport.pause_reading()

    def _release_reading(self) -> None:
        if self._held and not self._read_paused and self.transport is not None and not self.gone:
            self._held = False
            self.transport.resume_reading()

    def hang_up(self) -> None:
        """Say that nobody listens any more, and wait for the backend to notice.

        Half-closing makes Ollama's server cancel the generation; its own close then tells that
        the slot is really free, which `abort` would leave in the dark.
        """
        if self.transport is None or self.gone:
            return
        self.resume()
        self._hung_up = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS cannot half-close
            self.transport.abort()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None and not self.gone:
            self.transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; uvloop and asyncio both set TCP_NODELAY by themselves."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        """Pass on what one read brought, but not so much that others have to wait for it."""
        if len(data) > SLICE_BYTES:
            self._backlog = memoryview(data)
            self._hold_reading()
            self._deal()
        else:
            self._take(data)

    def _deal(self) -> None:
        """Take the next slice of a long read; the loop serves the others in between.

        A read brings up to 256 KB, which are thousands of lines to translate: with a few streams
        at full speed, a turn of the loop would last for most of a second.
        """
        backlog = self._backlog
        if self.gone or self._read_paused or not backlog:
            return
        self._backlog = backlog[SLICE_BYTES:]
        self._take(bytes(backlog[:SLICE_BYTES]))
        if self._backlog:
            asyncio.get_running_loop().call_soon(self._deal)
        else:
            self._release_reading()

    def _take(self, data: bytes) -> None:
        """Parse, and pass on what came in one call."""
        sink = self.sink
        if sink is None:  # nobody asked: the backend is out of step
            self.abort()
            return
        if not self._headed:
            self._head += data
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            if self._is_spoilt(error):
                return
        pieces = self._pieces
        if pieces:
            body = b"".join(pieces)  # a single piece is not copied
            pieces.clear()
            sink.on_data(body)
        if self._complete and self.sink is sink:  # who did not leave over what it was just told
            self._finish(sink)
        elif not self._headed and len(self._head) > HEAD_BYTES_MAX:
            self._lose(UpstreamMalformed("the response's head is too long"))
            self.abort()

    def eof_received(self) -> bool:
        """End a response that is delimited by closing, then let the transport close."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the sink, if one still waits, and the pool."""
        self.gone = True
        self._owner.on_gone(self)
        if self.sink is None:
            return
        if self._ends_by_close() and exc is None:
            self._complete = True
            self._finish(self.sink)
            return
        self._lose(exc or UpstreamClosed("the backend closed the connection"))

    # -- httptools callbacks

    def on_headers_complete(self) -> None:
        """Note the status, but not of interim answers (1xx)."""
        status = self._parser.get_status_code()
        if self._complete:  # a second response, which nobody asked for
            self._keep_alive = False
        elif status >= FINAL_STATUS_MIN:
            self._headed = True
            self.status = status

    def on_body(self, body: bytes) -> None:
        """Collect; `data_received` passes on all of one read at once."""
        if not self._complete:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Note the end; the read's remaining bytes come first."""
        if self._headed and not self._complete:
            self._complete = True
            # Asked here and not later: after this callback llhttp forgets the message's flags.
            self._keep_alive = self._parser.should_keep_alive()

    # -- inner

    def _ends_by_close(self) -> bool:
        """Say whether the response's body is delimited by the close (RFC 9112, 6.3 rule 8)."""
        return self._headed and _LENGTH_GIVEN.search(self._head) is None

    def _is_spoilt(self, error: Exception) -> bool:
        """End a response that is not HTTP; what follows a whole one does not spoil it."""
        self._keep_alive = False
        if self._complete:
            return False
        self._lose(UpstreamMalformed(f"not HTTP: {error}"))
        self.abort()
        return True

    def _finish(self, sink: Sink) -> None:
        self.sink = None
        if self._keep_alive and not (self.gone or self._hung_up or self._backlog):
            self.resume()
            self._owner.on_idle(self)
        else:
            self.abort()
        sink.on_end()

    def _lose(self, error: Exception) -> None:
        sink = self.sink
        self.sink = None
        self._pieces.clear()
        if sink is not None:
            sink.on_lost(error)
