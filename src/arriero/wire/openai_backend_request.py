"""Canonical requests as bodies for llama.cpp, vLLM and other servers of OpenAI's API.

References: OpenAI's API, llama.cpp tools/server/README.md, vLLM's OpenAI-compatible server. top_k,
min_p, repeat_penalty and chat_template_kwargs are extensions that both of these read. A model's
`context` and `keep_alive` have no counterpart: such a server has loaded its model once and for all.
"""

from typing import Literal

import msgspec

from arriero.config.settings import Model
from arriero.wire.canonical import Chat, Completion, Embedding, Tool
from arriero.wire.openai_backend_messages import turns
from arriero.wire.sampling import HOST_OPTIONS, SAMPLING_NAMES, Options, put_sampling

# What of a client's own Ollama options means the same here; all else could be any field of a body.
_CLIENT_OPTIONS = frozenset({*SAMPLING_NAMES, "typical_p", "repeat_last_n"})
# An alias's options that are Ollama's alone.
_OLLAMA_ONLY = HOST_OPTIONS | {"num_ctx", "num_keep"}


class _Function(msgspec.Struct, gc=False, omit_defaults=True):
    name: str
    parameters: msgspec.Raw
    description: str = ""
    strict: bool | None = None


class _Tool(msgspec.Struct, gc=False):
    type: Literal["function"]
    function: _Function


class _Schema(msgspec.Struct, gc=False):
    name: str
    schema: msgspec.Raw
    strict: bool


Body = dict[str, object]

_encode = msgspec.json.Encoder().encode


def chat_body(chat: Chat, upstream_model: str, model: Model) -> bytes:
    """Return the body of `POST /v1/chat/completions`."""
    body = _begin(chat, upstream_model, model)
    body["messages"] = turns(chat.messages)
    _put(
        body,
        tools=[_tool(tool) for tool in chat.tools] or None,
        tool_choice=chat.tool_choice if chat.tools else None,
        parallel_tool_calls=chat.parallel_tool_calls if chat.tools else None,
        response_format=_response_format(chat),
        logprobs=chat.logprobs or None,
        top_logprobs=chat.top_logprobs or None,
        prompt_cache_key=chat.cache_key or None,
    )
    _put_think(body, chat.think)
    if chat.continue_final_message:
        body["continue_final_message"] = True
        body["add_generation_prompt"] = False
    return _encode(body)


def completion_body(completion: Completion, upstream_model: str, model: Model) -> bytes:
    """Return the body of `POST /v1/completions`; `echo` is the client dialect's to do."""
    body = _begin(completion, upstream_model, model)
    body["prompt"] = completion.prompt
    _put(body, suffix=completion.suffix or None, logprobs=completion.logprobs)
    return _encode(body)


def embedding_body(embedding: Embedding, upstream_model: str) -> bytes:
    """Return the body of `POST /v1/embeddings`, in floats: not every server knows base64."""
    body: Body = {"model": upstream_model, "input": embedding.inputs}
    _put(body, dimensions=embedding.dimensions)
    return _encode(body)


def _begin(request: Chat | Completion, upstream_model: str, model: Model) -> Body:
    drawn = _alias_options(model)
    if request.model_options and model.client_options == "allow":
        drawn.update((k, v) for k, v in request.model_options.items() if k in _CLIENT_OPTIONS)
    put_sampling(drawn, request.sampling, "max_tokens", model.max_output_tokens)
    if "repeat_penalty" in drawn:
        drawn["repetition_penalty"] = drawn["repeat_penalty"]  # vLLM's name for it
    body: Body = {**drawn, "model": upstream_model}
    if request.stream:
        body["stream"] = True
        body["stream_options"] = {"include_usage": True}  # accounting needs it, asked or not
    return body


def _alias_options(model: Model) -> Options:
    """Return the alias's options as fields of a body."""
    found: Options = {k: v for k, v in model.options.items() if k not in _OLLAMA_ONLY}
    if "num_predict" in found:
        found["max_tokens"] = found.pop("num_predict")
    return found


def _put(body: Body, **fields: object) -> None:
    for name, value in fields.items():
        if value is not None:
            body[name] = value


def _put_think(body: Body, think: bool | str | None) -> None:  # noqa: FBT001  # the field's type
    if isinstance(think, str):
        # "max" is Ollama's level above OpenAI's three, and vLLM refuses a level it does not know.
        body["reasoning_effort"] = "high" if think == "max" else think
    elif think is not None:
        body["chat_template_kwargs"] = {"enable_thinking": think}


def _tool(tool: Tool) -> _Tool:
    function = _Function(tool.name, tool.parameters, tool.description, tool.strict)
    return _Tool("function", function)


def _response_format(chat: Chat) -> Body | None:
    if chat.format is None:
        return None
    if bytes(chat.format) == b'"json"':
        return {"type": "json_object"}
    schema = _Schema(chat.format_name or "answer", chat.format, strict=True)
    return {"type": "json_schema", "json_schema": schema}
