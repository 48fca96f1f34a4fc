"""The structs in which every client dialect meets every backend dialect.

A client dialect decodes bytes into `Chat`, `Completion` or `Embedding`; a backend dialect encodes
those and decodes what comes back into `Chunk` or `Vectors`. Nothing is ever translated pairwise.
None always means "the client did not say", so that a model's own defaults stay in force.
"""

from typing import ClassVar, Literal

import msgspec

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Role = Literal["system", "user", "assistant", "tool"]


class Part(msgspec.Struct, gc=False, frozen=True):
    """A piece of a message's content: text, or an image as base64 with its media type."""

    text: str = ""
    image_base64: str = ""
    image_type: str = ""


class ToolCall(msgspec.Struct, gc=False):
    """A function call by the model; `arguments` is a JSON object as text, `id` begins `call_`."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, omit_defaults=True):
    """One turn. `content` is a string when it is text only, which is the common case.

    Encoding it leaves out what is empty, so that a text turn is already what Ollama reads.
    """

    role: Role
    content: str | list[Part] = ""
    thinking: str = ""
    tool_calls: list[ToolCall] = []
    tool_call_id: str = ""
    tool_name: str = ""


def is_text_only(messages: list[Message]) -> bool:
    """Say whether all turns are text: no images, no calls of tools, no results of such."""
    return all(
        type(turn.content) is str and not turn.tool_calls and turn.role != "tool"
        for turn in messages
    )


class Tool(msgspec.Struct, gc=False):
    """A function the model may call; `parameters` is its JSON schema, unread."""

    name: str
    description: str = ""
    parameters: msgspec.Raw = msgspec.Raw(b"{}")
    strict: bool | None = None


class Sampling(msgspec.Struct, gc=False, omit_defaults=True, rename={"max_tokens": "num_predict"}):
    """How to draw tokens; None keeps the model's own default.

    On the wire it reads as Ollama's `options`, so that the first-class backend takes it as it is.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    max_tokens: int | None = None


class Chat(msgspec.Struct, kw_only=True):
    """A conversation to continue.

    `format` is raw JSON: `"json"` or a schema. `think` is a switch or a level. `ignored` names the
    parameters that were dropped by policy and are told in a response header. `model_options` are
    Ollama options a client sent on its own (num_ctx and the like), `keep_alive` likewise; the
    alias decides whether they count. `cache_key` is OpenAI's `prompt_cache_key`: requests with the
    same one probably begin alike. `text_only` is what `is_text_only` says of the messages, so
    that nobody has to look again.
    """

    model: str
    messages: list[Message]
    text_only: bool = False
    stream: bool = False
    include_usage: bool = False
    sampling: Sampling
    tools: list[Tool] = []
    tool_choice: msgspec.Raw | None = None
    parallel_tool_calls: bool | None = None
    format: msgspec.Raw | None = None
    format_name: str = ""
    think: bool | str | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    continue_final_message: bool = False
    model_options: dict[str, msgspec.Raw] = {}
    keep_alive: int | str | None = None
    user: str = ""
    cache_key: str = ""
    ignored: list[str] = []


class Completion(msgspec.Struct, kw_only=True):
    """A prompt to continue through the model's template, with an optional suffix (fill in)."""

    text_only: ClassVar[bool] = True
    model: str
    prompt: str
    suffix: str = ""
    echo: bool = False
    stream: bool = False
    include_usage: bool = False
    sampling: Sampling
    logprobs: int | None = None
    model_options: dict[str, msgspec.Raw] = {}
    keep_alive: int | str | None = None
    user: str = ""
    ignored: list[str] = []


class Embedding(msgspec.Struct, kw_only=True):
    """Texts to embed; `encoding` is how the client wants its vectors written, never streamed."""

    text_only: ClassVar[Literal[False]] = False  # as there is no text to come
    model: str
    inputs: list[str]
    stream: Literal[False] = False
    dimensions: int | None = None
    encoding: Literal["float", "base64"] = "float"
    model_options: dict[str, msgspec.Raw] = {}
    keep_alive: int | str | None = None
    user: str = ""
    ignored: list[str] = []


CanonicalRequest = Chat | Completion | Embedding


class Usage(msgspec.Struct, gc=False):
    """Token counts of one answer; `cached_tokens` are part of `prompt_tokens`.

    `cached_told` says whether the backend counts those at all: Ollama does not. `prompt_s` and
    `completion_s` are how long the backend read and wrote, 0 if it did not say.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    prompt_s: float = 0.0
    completion_s: float = 0.0
    cached_told: bool = False


class Chunk(msgspec.Struct, gc=False):
    """A piece of an answer; a whole answer is a stream of one chunk.

    `finish_reason` and `usage` stand on the last one. `error` is what a backend said instead of
    finishing. `logprobs` is a JSON array in OpenAI's per-token shape.
    """

    content: str = ""
    thinking: str = ""
    tool_calls: list[ToolCall] = []
    logprobs: msgspec.Raw | None = None
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    error: str | None = None


class Vectors(msgspec.Struct):
    """Embeddings, one list of floats for each input, in order."""

    vectors: list[list[float]]
    usage: Usage
