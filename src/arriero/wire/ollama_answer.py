"""Ollama's answers as chunks: NDJSON lines of a stream, whole bodies, embeddings.

The hot path of the gateway is `LineDecoder.feed`: one msgspec decode and one `Chunk` for a line.
"""

import msgspec

from arriero.wire.canonical import (
    CanonicalRequest,
    Chunk,
    FinishReason,
    ToolCall,
    Usage,
    Vectors,
)
from arriero.wire.ndjson import LineSplitter
from arriero.wire.parsing import Count, parse
from arriero.wire.refusal import error_text
from arriero.wire.tool_call_ids import ToolCallIds

NANOSECONDS = 1_000_000_000  # in a second
LINE_BYTES_MAX = 16_777_216  # a tool call's arguments come in one line

# msgspec cannot decode into `Raw | None`, so an absent field is an empty Raw, and null says "null".
_ABSENT = msgspec.Raw(b"")
_NOTHING = frozenset({b"", b"null"})


class _Function(msgspec.Struct, gc=False):
    name: str
    arguments: msgspec.Raw = _ABSENT


class _Call(msgspec.Struct, gc=False):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Token(msgspec.Struct, gc=False):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _TokenChoices(msgspec.Struct, gc=False):
    """One token in OpenAI's shape, whose fields are always there."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[_Token] = []


class _Line(msgspec.Struct, gc=False):
    """A line of `/api/chat` (message) or of `/api/generate` (response, thinking)."""

    message: _Message | None = None
    response: str | None = None
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: Count | None = None  # left out by old versions when all of it was cached
    prompt_eval_duration: float | None = None  # nanoseconds
    eval_count: Count | None = None
    eval_duration: float | None = None
    logprobs: list[_TokenChoices] | None = None
    error: msgspec.Raw = _ABSENT


class _Embedded(msgspec.Struct, gc=False):
    embeddings: list[list[float]]
    prompt_eval_count: Count | None = None


_line = msgspec.json.Decoder(_Line)
_embedded = msgspec.json.Decoder(_Embedded)
_text = msgspec.json.Decoder(str)
_encode = msgspec.json.Encoder().encode


class LineDecoder:
    """Read one streamed answer, split anywhere.

    `finished` is set by `"done": true` and by nothing else; what follows the last line or an error
    line is not looked at. Raises ValueError on what is no such stream; the decoder is then spent.
    """

    __slots__ = ("_answer", "_closed", "_split", "finished")

    def __init__(self, request: CanonicalRequest, id_seed: str = "") -> None:
        self._split = LineSplitter(LINE_BYTES_MAX).feed
        self._answer = _Answer(request, id_seed)
        self._closed = False
        self.finished = False

    def feed(self, data: bytes) -> list[Chunk]:
        """Return the chunks whose lines `data` completes; lines that say nothing make none."""
        chunks: list[Chunk] = []
        if self._closed:
            return chunks
        decode = _line.decode
        try:
            for text in self._split(data):
                if not text or text.isspace():
                    continue
                line = decode(text)
                message = line.message
                # The common case first: a piece of text and nothing else.
                if (
                    message is not None
                    and message.content
                    and not (line.done or message.tool_calls or message.thinking)
                    and line.logprobs is None
                    and not line.error
                ):
                    chunks.append(Chunk(message.content))
                    continue
                chunk = self._answer.chunk(line)
                if chunk is None:
                    continue
                chunks.append(chunk)
                if chunk.finish_reason is not None or chunk.error is not None:
                    self._closed = True
                    self.finished = chunk.error is None
                    break
        except RecursionError:
            raise ValueError("a line is nested too deeply") from None
        return chunks


class _Answer:
    """What the chunks of one answer have in common: the tool calls so far and their ids."""

    __slots__ = ("_ids",)

    def __init__(self, request: CanonicalRequest, id_seed: str) -> None:
        self._ids = ToolCallIds(request, id_seed)

    def chunk(self, line: _Line) -> Chunk | None:
        """Return the line's chunk, None when it says nothing; ValueError when it is no answer."""
        error = bytes(line.error)
        if error not in _NOTHING:
            return Chunk(error=error_text(error))
        message = line.message
        if message is None:
            if line.response is None:
                raise ValueError("a line is neither an answer nor an error")
            message = _Message(line.response, line.thinking)
        chunk = Chunk(
            content=message.content or "",
            thinking=message.thinking or "",
            tool_calls=[self._call(call) for call in message.tool_calls or ()],
            logprobs=msgspec.Raw(_encode(line.logprobs)) if line.logprobs else None,
        )
        if line.done:
            chunk.finish_reason = self._finish_reason(line.done_reason)
            chunk.usage = _usage(line)
            return chunk
        says = chunk.content or chunk.thinking or chunk.tool_calls or chunk.logprobs
        return chunk if says else None

    def _call(self, call: _Call) -> ToolCall:
        arguments = _arguments(call.function.arguments)
        return ToolCall(self._ids.name(call.id), call.function.name, arguments)

    def _finish_reason(self, done_reason: str | None) -> FinishReason:
        """Return OpenAI's word; "load" and "unload" end an answer without a prompt."""
        if done_reason == "length":
            return "length"
        return "tool_calls" if self._ids.count else "stop"


def _arguments(raw: msgspec.Raw) -> str:
    """Return the arguments as text; look-alikes of Ollama send a string where it has an object."""
    text = bytes(raw).decode()
    if text.startswith('"'):
        text = _text.decode(text)
    return "{}" if text in {"", "null"} else text


def decode_answer(request: CanonicalRequest, body: bytes, id_seed: str = "") -> Chunk:
    """Return the answer in a body that was not streamed. Raises ValueError on what is not one."""
    line = parse(_line, body)
    message = line.message
    if (  # text and nothing else, which is the common case
        line.done
        and message is not None
        and not (message.tool_calls or message.thinking or line.error or line.logprobs)
    ):
        return Chunk(
            message.content or "",
            finish_reason="length" if line.done_reason == "length" else "stop",
            usage=_usage(line),
        )
    chunk = _Answer(request, id_seed).chunk(line)
    if chunk is None or chunk.error is not None or not line.done:
        raise ValueError("the answer is not complete")
    return chunk


def decode_vectors(body: bytes) -> Vectors:
    """Return the vectors of `/api/embed`. Raises ValueError on what is none."""
    answer = parse(_embedded, body)
    return Vectors(answer.embeddings, Usage(answer.prompt_eval_count or 0))


def _usage(line: _Line) -> Usage:
    return Usage(
        line.prompt_eval_count or 0,
        line.eval_count or 0,
        prompt_s=(line.prompt_eval_duration or 0) / NANOSECONDS,
        completion_s=(line.eval_duration or 0) / NANOSECONDS,
    )
