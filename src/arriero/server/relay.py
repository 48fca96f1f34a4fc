"""What becomes of an answer's bytes: collected whole, translated chunk by chunk, or passed on.

The hot path of a stream is `StreamRelay.feed`: all lines of one read are decoded, encoded and
answered by one write. Everything else here runs once a request. What may have to be gone on with
elsewhere is remembered on the way.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from arriero.core.attempts import END_OF_FAILURE, End
from arriero.core.seam import Diverged
from arriero.core.transcript import Transcript
from arriero.server.operations import Answering, Operation
from arriero.wire.canonical import CanonicalRequest, Usage
from arriero.wire.dialect import AnswerEncoder, BackendDialect, Failure, StreamDecoder
from arriero.wire.openai_passthrough import Passthrough
from arriero.wire.openai_sent import SentEvents

WHOLE_BYTES_MAX = 67_108_864


class StreamOut(Protocol):
    """Where a stream's bytes go: the exchange."""

    def write_stream(self, data: bytes) -> None:
        """Send events, after the head if that is still due."""
        ...


class WholeReader(msgspec.Struct, eq=False):
    """Collects the body of an answer that is not streamed, and makes the client's of it."""

    answering: Answering
    operation: Operation
    wanted: CanonicalRequest
    dialect: BackendDialect
    written: bytes = b""
    usage: Usage | None = None
    failure: Failure | None = None
    _body: bytes = b""
    _parts: list[bytes] | None = None
    _length: int = 0

    def feed(self, data: bytes) -> End | None:
        """Keep the bytes, up to a limit; one piece, which is the common case, is kept as it is."""
        if not self._body:
            self._body = data
            return None
        if self._parts is None:
            self._parts = [self._body]
            self._length = len(self._body)
        self._parts.append(data)
        self._length += len(data)
        return End.MALFORMED if self._length > WHOLE_BYTES_MAX else None

    def end(self) -> End:
        """All is there: it is an answer if it can be written as one."""
        body = self._body if self._parts is None else b"".join(self._parts)
        try:
            self.written, self.usage = self.operation.write_whole(
                self.wanted, self.answering, self.dialect, body
            )
        except ValueError:
            return End.MALFORMED
        return End.ANSWERED


class StreamRelay:
    """Translates a backend's stream into the client's; `sent` says that there is no way back.

    `transcript` and `on_sent` may be set before the first bytes come; `on_sent` is called when the
    first of the answer has been sent.
    """

    __slots__ = (
        "_decoder", "_encoder", "_explain", "_out", "failure", "on_sent", "sent", "transcript",
        "usage",
    )  # fmt: skip

    def __init__(
        self,
        decoder: StreamDecoder,
        encoder: AnswerEncoder,
        out: StreamOut,
        explain: Callable[[str], Failure],
    ) -> None:
        self._decoder = decoder
        self._encoder = encoder
        self._out = out
        self._explain = explain
        self.failure: Failure | None = None
        self.sent = False
        self.usage: Usage | None = None
        self.transcript: Transcript | None = None
        self.on_sent: Callable[[], None] | None = None

    def feed(self, data: bytes) -> End | None:
        """Translate one read's worth of lines and send them in one write."""
        try:
            chunks = self._decoder.feed(data)
        except ValueError as error:
            return End.DIVERGED if isinstance(error, Diverged) else End.MALFORMED
        encode = self._encoder.chunk
        out = b""
        end = None
        for chunk in chunks:
            if chunk.error is not None:
                self.failure = self._explain(chunk.error)
                end = END_OF_FAILURE[self.failure.kind]
                break
            if chunk.usage is not None:
                self.usage = chunk.usage
            out += encode(chunk)
        if self.transcript is not None:
            self.transcript.add(chunks)
        if out:
            self._out.write_stream(out)
            if not self.sent:
                self._note_sent()
        return end

    def _note_sent(self) -> None:
        self.sent = True
        if self.on_sent is not None:
            self.on_sent()

    def end(self) -> End:
        """Judge the end of the body: only a backend that said so has finished."""
        return End.ANSWERED if self._decoder.finished else End.BROKEN


class PassthroughRelay:
    """Passes a stream on unread where both sides speak OpenAI's format.

    `events` and `on_sent` may be set before the first bytes come, as with `StreamRelay`.
    """

    __slots__ = ("_explain", "_out", "_through", "events", "failure", "on_sent", "sent")

    def __init__(
        self, through: Passthrough, out: StreamOut, explain: Callable[[str], Failure]
    ) -> None:
        self._through = through
        self._out = out
        self._explain = explain
        self.failure: Failure | None = None
        self.sent = False
        self.events: SentEvents | None = None
        self.on_sent: Callable[[], None] | None = None

    @property
    def usage(self) -> Usage | None:
        """What the backend counted, once it said so."""
        return self._through.usage

    def feed(self, data: bytes) -> End | None:
        """Send on the whole events of one read."""
        try:
            out = self._through.feed(data)
        except ValueError:
            return End.MALFORMED
        if out:
            if self.events is not None:
                self.events.add(out)
            self._out.write_stream(out)
            if not self.sent:
                self.sent = True
                if self.on_sent is not None:
                    self.on_sent()
        if self._through.error is not None:
            self.failure = self._explain(self._through.error)
            return END_OF_FAILURE[self.failure.kind]
        return None

    def end(self) -> End:
        """Judge the end of the body."""
        return End.ANSWERED if self._through.finished else End.BROKEN
