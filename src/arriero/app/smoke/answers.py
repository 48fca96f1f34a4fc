"""What a good answer of an OpenAI-compatible gateway looks like, one judgement a function.

The shapes are those of OpenAI's API reference (chat/object, chat/streaming, embeddings/object,
models/list); fields that no client relies on are not asked for.
"""

from collections.abc import Collection
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from arriero.app.client import BODY_BYTES_MAX, Exchange
from arriero.app.smoke.finding import Finding, failed, passed, unmeasured
from arriero.wire.sse import EventSplitter

OK = 200
UNAUTHORIZED = 401
FORBIDDEN = 403
NOT_FOUND = 404

T = TypeVar("T")


class ErrorDetail(msgspec.Struct):
    """The inside of OpenAI's error object."""

    message: str
    type: str
    code: str | int | None
    param: str | None = None


class ErrorBody(msgspec.Struct):
    """OpenAI's error object."""

    error: ErrorDetail


class Usage(msgspec.Struct):
    """Token counts; embeddings have no completion."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0


class Text(msgspec.Struct):
    """A message or a delta; thinking models may spend a short answer on thinking."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None

    def any(self) -> str:
        """Return whatever text there is."""
        return self.content or self.reasoning_content or self.reasoning or ""


class Choice(msgspec.Struct):
    """One answer, whole."""

    message: Text
    finish_reason: str


class Chat(msgspec.Struct):
    """A whole chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: Annotated[list[Choice], Meta(min_length=1)]
    usage: Usage


class ChunkChoice(msgspec.Struct):
    """One answer's next piece."""

    delta: Text
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """One event of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"]
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None


class Embedding(msgspec.Struct):
    """One vector."""

    embedding: Annotated[list[float], Meta(min_length=1)]


class Embeddings(msgspec.Struct):
    """An answer of /v1/embeddings."""

    data: Annotated[list[Embedding], Meta(min_length=1)]
    model: str
    usage: Usage


class Model(msgspec.Struct):
    """One line of the model list."""

    id: str


class Models(msgspec.Struct):
    """An answer of /v1/models."""

    object: Literal["list"]
    data: list[Model]


def complaint(exchange: Exchange, status: int) -> str | None:
    """Return what is wrong with the status, in the server's own words where it has some."""
    if exchange.error:
        return exchange.error
    if exchange.status == status:
        return None
    said = _decode(exchange.body, ErrorBody)
    words = f": {said.error.message}" if isinstance(said, ErrorBody) else ""
    return f"HTTP {exchange.status}{words}"


def _decode(body: bytes, shape: type[T]) -> T | str:
    """Return the decoded body, or what is wrong with it."""
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as wrong:
        return str(wrong)


def expected(step: str, exchange: Exchange, status: int, detail: str, hint: str) -> Finding:
    """Judge a status alone."""
    wrong = complaint(exchange, status)
    return failed(step, wrong, hint) if wrong else passed(step, detail)


def refused(step: str, exchange: Exchange, status: int) -> Finding:
    """Judge a refusal: the status, and OpenAI's error object that SDKs turn into an exception."""
    if exchange.error:
        return failed(step, exchange.error)
    if exchange.status == OK:
        return failed(
            step,
            "the request was answered",
            "anybody who reaches the port can use the models: set a master key"
            if status == UNAUTHORIZED
            else None,
        )
    wrong = complaint(exchange, status)
    if wrong:
        return failed(step, f"{wrong}, where {status} is right")
    shape = _decode(exchange.body, ErrorBody)
    if isinstance(shape, str):
        return failed(step, f"{status}, but not in OpenAI's error shape: {shape}")
    return passed(step, f"{status} {shape.error.code or shape.error.type}")


def listed(exchange: Exchange) -> list[str]:
    """Return the aliases of a model list, none of a wrong answer."""
    models = _decode(exchange.body, Models) if exchange.status == OK else ""
    return [model.id for model in models.data] if isinstance(models, Models) else []


def models(step: str, exchange: Exchange, wanted: Collection[str]) -> Finding:
    """Judge the model list: at least one alias, and all that are wanted."""
    wrong = complaint(exchange, OK)
    shape = _decode(exchange.body, Models)
    if wrong or isinstance(shape, str):
        return failed(step, wrong or f"not a model list: {shape}")
    aliases = listed(exchange)
    if not aliases:
        return failed(
            step, "the list is empty", "no alias has a route; look at the gateway's configuration"
        )
    missing = [alias for alias in wanted if alias not in aliases]
    if missing:
        return failed(
            step,
            f"missing: {', '.join(missing)}; listed: {', '.join(aliases)}",
            "compare the aliases asked for with the configuration",
        )
    return passed(step, ", ".join(aliases))


def chat(step: str, exchange: Exchange, alias: str) -> Finding:
    """Judge one whole chat completion."""
    wrong = complaint(exchange, OK)
    if wrong:
        return failed(step, wrong)
    answer = _decode(exchange.body, Chat)
    if isinstance(answer, str):
        return failed(step, f"not a chat completion: {answer}")
    if answer.model != alias:
        return failed(step, f"answers as {answer.model!r} instead of the alias")
    text = answer.choices[0].message.any()
    if not text.strip() and not answer.usage.completion_tokens:
        return failed(step, "an empty answer")
    return passed(step, f"{_quote(text)} {_spent(answer.usage)} in {exchange.took_s:.2f} s")


def stream(step: str, exchange: Exchange, alias: str) -> Finding:
    """Judge one streamed chat completion: whole, of one id, with usage, ended by `[DONE]`."""
    wrong = complaint(exchange, OK)
    if wrong:
        return failed(step, wrong)
    kind = exchange.headers.get("content-type", "none")
    if not kind.startswith("text/event-stream"):
        return failed(step, f"content type {kind} instead of text/event-stream")
    events = EventSplitter(BODY_BYTES_MAX).feed(exchange.body)
    chunks: list[Chunk] = []
    for event in events:
        if event == b"[DONE]":
            break
        chunk = _decode(event, Chunk)
        if isinstance(chunk, str):
            error = _decode(event, ErrorBody)
            said = chunk if isinstance(error, str) else error.error.message
            return failed(step, f"after {len(chunks)} chunks: {said}")
        chunks.append(chunk)
    wrong = _stream_complaint(chunks, alias, done=events[-1:] == [b"[DONE]"])
    if wrong:
        return failed(step, wrong)
    text = "".join(choice.delta.any() for chunk in chunks for choice in chunk.choices)
    usage = next(chunk.usage for chunk in reversed(chunks) if chunk.usage)
    return passed(step, f"{_quote(text)} {_spent(usage)} in {exchange.took_s:.2f} s")


def _stream_complaint(chunks: list[Chunk], alias: str, *, done: bool) -> str | None:
    if not chunks:
        return "no chunk at all"
    ids = {chunk.id for chunk in chunks}
    names = {chunk.model for chunk in chunks}
    finished = [c for chunk in chunks for c in chunk.choices if c.finish_reason]
    rules = [
        (done, "the last event is not [DONE]"),
        (len(ids) == 1, f"{len(ids)} different ids in one answer"),
        (names == {alias}, f"answers as {', '.join(sorted(names))} instead of the alias"),
        (len(finished) == 1, f"{len(finished)} chunks with a finish_reason, where 1 is right"),
        (any(chunk.usage for chunk in chunks), "no usage, though include_usage was set"),
    ]
    return next((wrong for holds, wrong in rules if not holds), None)


def embeddings(step: str, exchange: Exchange, alias: str) -> Finding:
    """Judge one embedding."""
    wrong = complaint(exchange, OK)
    if wrong:
        return failed(step, wrong)
    answer = _decode(exchange.body, Embeddings)
    if isinstance(answer, str):
        return failed(step, f"not an embedding: {answer}")
    if answer.model != alias:
        return failed(step, f"answers as {answer.model!r} instead of the alias")
    vector = answer.data[0].embedding
    if not any(vector):
        return failed(step, "a vector of zeros")
    return passed(step, f"{len(vector)} dimensions in {exchange.took_s:.2f} s")


def metrics(step: str, exchange: Exchange, *, public: bool) -> Finding:
    """Judge `/metrics` without a key: refused, unless it is meant to be public."""
    if exchange.error:
        return failed(step, exchange.error)
    if exchange.status == NOT_FOUND:
        return unmeasured(step, "this gateway has no /metrics")
    if public:
        return expected(step, exchange, OK, "public, as asked for", "is it meant to be public?")
    if exchange.status == OK:
        return failed(
            step,
            "answered without a key",
            "it tells aliases and load; put it behind the key, or give --public-metrics",
        )
    # Scrapers read the status alone, so no shape of the error is asked for.
    if exchange.status in (UNAUTHORIZED, FORBIDDEN):
        return passed(step, f"{exchange.status} without a key")
    return failed(step, f"HTTP {exchange.status}, where {UNAUTHORIZED} is right")


def _quote(text: str) -> str:
    words = " ".join(text.split())
    return f'"{words[:37]}..."' if len(words) > 40 else f'"{words}"'  # noqa: PLR2004 - a table's column


def _spent(usage: Usage) -> str:
    return f"({usage.prompt_tokens}+{usage.completion_tokens} tokens)"
