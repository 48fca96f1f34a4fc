"""Canonical requests as bodies for Ollama's native API.

Fields: https://github.com/ollama/ollama/blob/main/docs/api.md. What the client did not say is left
out, so that the model's own parameters stay in force; Ollama's OpenAI path forces temperature and
top_p to 1 instead. `raw`, `template`, `system` and `_debug_render_only` are never sent: they are
levers on the prompt that belong to the host's owner.

`truncate: false` makes Ollama refuse a prompt that does not fit, where it would drop the oldest
messages without a word. `/api/chat` and `/api/generate` know it since 0.12.6; older ones ignore it,
and cut. `shift`, which lets the context slide on while the answer is written, is never sent: it
belongs to the loading of the model, and another value would load it anew.
"""

import msgspec

from arriero.config.settings import Model
from arriero.wire.canonical import Chat, Completion, Embedding, Message, Tool
from arriero.wire.ollama_messages import TurnBody, turns
from arriero.wire.ollama_options import AnyOptions, keep_alive, options


class _Function(msgspec.Struct, gc=False, omit_defaults=True):
    name: str
    parameters: msgspec.Raw
    description: str = ""


class _Tool(msgspec.Struct, gc=False):
    type: str
    function: _Function


class _ChatBody(msgspec.Struct, gc=False, omit_defaults=True):
    model: str
    messages: list[Message] | list[Message | TurnBody]
    stream: bool  # always said: Ollama streams when it is not
    options: AnyOptions = {}
    tools: list[_Tool] = []
    format: msgspec.Raw | None = None
    think: bool | str | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    keep_alive: int | str | None = None
    truncate: bool = True


class _GenerateBody(msgspec.Struct, gc=False, omit_defaults=True):
    model: str
    prompt: str
    stream: bool
    suffix: str = ""
    options: AnyOptions = {}
    logprobs: bool = False
    top_logprobs: int = 0
    keep_alive: int | str | None = None
    truncate: bool = True


class _EmbedBody(msgspec.Struct, gc=False, omit_defaults=True):
    model: str
    input: list[str]
    truncate: bool
    dimensions: int | None = None
    options: AnyOptions = {}
    keep_alive: int | str | None = None


_encode = msgspec.json.Encoder().encode


def chat_body(chat: Chat, upstream_model: str, model: Model) -> bytes:
    """Return the body of `POST /api/chat`. Raises BadRequest on tool calls that are not JSON."""
    return _encode(
        _ChatBody(
            upstream_model,
            chat.messages if chat.text_only else turns(chat.messages),
            chat.stream,
            options(chat, model),
            _tools(chat) if chat.tools else [],
            chat.format,
            chat.think,
            chat.logprobs,
            chat.top_logprobs,
            keep_alive(chat, model),
            model.overflow == "truncate",
        )
    )


def generate_body(completion: Completion, upstream_model: str, model: Model) -> bytes:
    """Return the body of `POST /api/generate`, which puts the prompt through the template."""
    return _encode(
        _GenerateBody(
            upstream_model,
            completion.prompt,
            completion.stream,
            completion.suffix,
            options(completion, model),
            completion.logprobs is not None,
            completion.logprobs or 0,
            keep_alive(completion, model),
            model.overflow == "truncate",
        )
    )


def embed_body(embedding: Embedding, upstream_model: str, model: Model) -> bytes:
    """Return the body of `POST /api/embed`."""
    return _encode(
        _EmbedBody(
            upstream_model,
            embedding.inputs,
            truncate=model.overflow == "truncate",
            dimensions=embedding.dimensions,
            options=options(embedding, model),
            keep_alive=keep_alive(embedding, model),
        )
    )


def _tools(chat: Chat) -> list[_Tool]:
    # Ollama does not know tool_choice; "none" is the one value that leaving tools out honours.
    if chat.tool_choice is not None and bytes(chat.tool_choice) == b'"none"':
        return []
    return [_tool(tool) for tool in chat.tools]


def _tool(tool: Tool) -> _Tool:
    return _Tool("function", _Function(tool.name, tool.parameters, tool.description))
