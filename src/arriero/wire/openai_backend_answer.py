"""Answers of servers of OpenAI's API as chunks: event streams, whole bodies, embeddings.

The last chunk is held back until `[DONE]`: usage comes after the finish reason, in an event of its
own, and tool calls come in fragments that make sense only together.
"""

import base64
import binascii
import struct

import msgspec

from arriero.wire.canonical import (
    CanonicalRequest,
    Chunk,
    FinishReason,
    ToolCall,
    Usage,
    Vectors,
)
from arriero.wire.openai_backend_event import (
    CallFragment,
    Choice,
    Event,
    Function,
    Message,
    UsageBody,
    canonical_usage,
    decode_event,
    event_error,
)
from arriero.wire.openai_logprobs import token_logprobs
from arriero.wire.parsing import parse
from arriero.wire.sse import EventSplitter
from arriero.wire.tool_call_ids import ToolCallIds

EVENT_BYTES_MAX = 16_777_216
TOOL_CALLS_MAX = 1024
TOOL_CALLS_CHARS_MAX = 16_777_216  # all arguments of one answer together

_FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
_GAVE_UP = frozenset({"abort", "error"})  # vLLM, when its engine dropped the request

_FLOAT_BYTES = 4


class _Embedding(msgspec.Struct, gc=False):
    embedding: list[float] | str
    index: int = 0


class _Embeddings(msgspec.Struct, gc=False):
    data: list[_Embedding]
    usage: UsageBody | None = None


class _Gathered(msgspec.Struct):
    """A tool call whose arguments are still coming."""

    id: str
    name: str = ""
    pieces: list[str] = []

    def whole(self) -> ToolCall:
        return ToolCall(self.id, self.name, "".join(self.pieces) or "{}")


_embeddings = msgspec.json.Decoder(_Embeddings)
_encode = msgspec.json.Encoder().encode


class EventDecoder:
    """Read one streamed answer, split anywhere.

    `finished` is set by `[DONE]` after a finish reason and by nothing else; what follows it or an
    error is not looked at. Raises ValueError on what is no such stream; the decoder is then spent.
    """

    __slots__ = ("_answer", "_closed", "_split", "finished")

    def __init__(self, request: CanonicalRequest, id_seed: str = "") -> None:
        self._split = EventSplitter(EVENT_BYTES_MAX).feed
        self._answer = _Answer(request, id_seed)
        self._closed = False
        self.finished = False

    def feed(self, data: bytes) -> list[Chunk]:
        """Return the chunks whose events `data` completes; events that say nothing make none."""
        chunks: list[Chunk] = []
        if self._closed:
            return chunks
        for payload in self._split(data):
            if payload == b"[DONE]":
                chunks.append(self._answer.last())
                self._closed = self.finished = True
                break
            if not payload:
                continue
            chunk = self._answer.chunk(decode_event(payload))
            if chunk is None:
                continue
            chunks.append(chunk)
            if chunk.error is not None:
                self._closed = True
                break
        return chunks


class _Answer:
    """What has come of one answer and is told at its end: tool calls, finish reason, usage."""

    __slots__ = ("_calls", "_chars", "_finish_reason", "_ids", "_usage")

    def __init__(self, request: CanonicalRequest, id_seed: str) -> None:
        self._ids = ToolCallIds(request, id_seed)
        self._calls: dict[int, _Gathered] = {}
        self._chars = 0
        self._finish_reason: str | None = None
        self._usage = Usage()

    def chunk(self, event: Event) -> Chunk | None:
        """Return what the event says now, None when nothing; ValueError when it is no answer."""
        error = event_error(event)
        if error is not None:
            return Chunk(error=error)
        if event.usage is not None:
            self._usage = canonical_usage(event.usage, event.timings)
        if not event.choices:
            if event.choices is None and event.usage is None:
                raise ValueError("an event is neither an answer nor an error")
            return None
        return self._from_choice(event.choices[0])

    def last(self) -> Chunk:
        """Return the last chunk. Raises ValueError when no finish reason was given."""
        if self._finish_reason is None:
            raise ValueError("the answer ends without a finish reason")
        reason = _FINISH_REASONS.get(self._finish_reason, "stop")
        if self._calls and reason == "stop":
            reason = "tool_calls"
        calls = [self._calls[index].whole() for index in sorted(self._calls)]
        return Chunk(tool_calls=calls, finish_reason=reason, usage=self._usage)

    def _from_choice(self, choice: Choice) -> Chunk | None:
        if choice.finish_reason is not None:
            if choice.finish_reason in _GAVE_UP:
                return Chunk(error="the backend gave up the request")
            self._finish_reason = choice.finish_reason
        message = choice.delta or choice.message or Message(choice.text)
        for call in message.tool_calls or ():
            self._add(call)
        chunk = Chunk(
            content=message.content or "",
            thinking=message.reasoning_content or message.reasoning or "",
            logprobs=token_logprobs(choice.logprobs) if choice.logprobs is not None else None,
        )
        return chunk if chunk.content or chunk.thinking or chunk.logprobs else None

    def _add(self, fragment: CallFragment) -> None:
        """Add a fragment to its call; the first one of an index carries id and name."""
        function = fragment.function or Function()
        index = fragment.index
        if index is None:  # servers that send whole calls leave it out
            index = len(self._calls) - (0 if function.name else 1)
        call = self._calls.get(index)
        if call is None:
            call = self._calls[index] = _Gathered(self._ids.name(fragment.id))
        piece = _arguments(function.arguments)
        self._chars += len(piece)
        if self._chars > TOOL_CALLS_CHARS_MAX or len(self._calls) > TOOL_CALLS_MAX:
            raise ValueError("the tool calls of one answer are too many or too long")
        call.name = call.name or function.name or ""
        if piece:
            call.pieces.append(piece)


def decode_answer(request: CanonicalRequest, body: bytes, id_seed: str = "") -> Chunk:
    """Return the answer in a body that was not streamed. Raises ValueError on what is not one."""
    answer = _Answer(request, id_seed)
    said = answer.chunk(decode_event(body)) or Chunk()
    if said.error is not None:
        raise ValueError("the answer is an error")
    whole = answer.last()
    whole.content = said.content
    whole.thinking = said.thinking
    whole.logprobs = said.logprobs
    return whole


def decode_vectors(body: bytes) -> Vectors:
    """Return the vectors of `/v1/embeddings`. Raises ValueError on what is none."""
    answer = parse(_embeddings, body)
    rows = sorted(answer.data, key=lambda row: row.index)
    return Vectors([_vector(row.embedding) for row in rows], canonical_usage(answer.usage))


def _arguments(arguments: str | dict[str, object] | None) -> str:
    return arguments or "" if not isinstance(arguments, dict) else _encode(arguments).decode()


def _vector(embedding: list[float] | str) -> list[float]:
    """Return the floats; base64 holds them as 32 bits each, the lowest byte first."""
    if not isinstance(embedding, str):
        return embedding
    try:
        data = base64.b64decode(embedding, validate=True)
    except binascii.Error as error:
        raise ValueError("a vector is not base64") from error
    if len(data) % _FLOAT_BYTES:
        raise ValueError("a vector is not made of 32-bit floats")
    return list(struct.unpack(f"<{len(data) // _FLOAT_BYTES}f", data))
