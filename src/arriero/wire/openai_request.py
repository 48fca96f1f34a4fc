"""Requests in OpenAI's form: bytes to `Chat`, `Completion` and `Embedding`.

Sources: OpenAI's API reference (chat completions, completions, embeddings) and the extensions of
Ollama, llama.cpp and vLLM that clients send to any server that calls itself compatible. What
becomes of each parameter is decided in `openai_params` and shown in docs/parameters.md.

Whatever the bytes, the outcome is a struct or a BadRequest whose `param` is OpenAI's path of the
offending value. A whole chat of three messages takes about 5 µs, one with 19 KB of tools 35.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from arriero.base.errors import BadRequest, UnsupportedParameter
from arriero.wire.canonical import (
    Chat,
    Completion,
    Embedding,
    Message,
    Tool,
    is_text_only,
)
from arriero.wire.openai_body import ABSENT, BodySchema
from arriero.wire.openai_messages import MessageBody, messages
from arriero.wire.openai_plain import decode_plain_chat
from arriero.wire.openai_sampling import (
    KeepAlive,
    ModelName,
    TextBody,
    UserName,
    Whole,
    client_options,
    integer,
    keep_alive,
    sampling,
)
from arriero.wire.openai_thinking import ThinkingFields, thinking
from arriero.wire.openai_tools import FunctionBody, ToolBody, functions, tool_choice, tools

EMBEDDING_INPUTS_MAX = 2048  # OpenAI's own limit
_TOP_LOGPROBS_MAX = 20
_LEGACY_LOGPROBS_MAX = 5

_JSON = msgspec.Raw(b'"json"')
_TOKENS_HINT = (
    "send text, not token ids, which differ between models; "
    "LangChain's OpenAIEmbeddings does with check_embedding_ctx_length=False"
)
Texts = str | list[str | int | list[int]]


class JsonSchema(msgspec.Struct):
    """The schema of a structured answer."""

    name: str = ""
    schema: msgspec.Raw = ABSENT


class ResponseFormat(msgspec.Struct):
    """`text`, `json_object` or `json_schema`."""

    type: str
    json_schema: JsonSchema | None = None


class ChatBody(ThinkingFields, kw_only=True):
    """The known fields of a chat completion."""

    messages: Annotated[list[MessageBody], Meta(min_length=1)]
    tools: list[ToolBody] | None = None
    tool_choice: msgspec.Raw = ABSENT
    parallel_tool_calls: bool | None = None
    functions: list[FunctionBody] | None = None
    function_call: msgspec.Raw = ABSENT
    response_format: ResponseFormat | None = None
    format: msgspec.Raw = ABSENT
    logprobs: bool | None = None
    top_logprobs: Whole | None = None
    continue_final_message: bool | None = None
    add_generation_prompt: bool | None = None
    prompt_cache_key: str | None = None


class CompletionBody(TextBody, kw_only=True):
    """The known fields of a completion."""

    prompt: Texts
    suffix: str | None = None
    echo: bool | None = None
    logprobs: Whole | None = None


class EmbeddingBody(msgspec.Struct, kw_only=True):
    """The known fields of an embeddings request."""

    model: ModelName
    input: Texts
    dimensions: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    encoding_format: Literal["float", "base64"] | None = None
    options: msgspec.Raw = ABSENT
    keep_alive: KeepAlive | None = None
    user: UserName | None = None


_CHAT = BodySchema("chat", ChatBody)
_COMPLETION = BodySchema("completion", CompletionBody)
_EMBEDDING = BodySchema("embedding", EmbeddingBody)


def decode_chat(body: bytes) -> Chat:
    """Decode the body of `POST /v1/chat/completions`. Raises BadRequest, and nothing else."""
    return decode_plain_chat(body) or decode_any_chat(body)


def decode_any_chat(body: bytes) -> Chat:
    """Decode a chat the general way. Raises BadRequest, and nothing else."""
    fields, leftovers = _CHAT.decode(body)
    conversation = messages(fields.messages)
    offered, choice = _offer(fields)
    chat = Chat(
        model=fields.model,
        messages=conversation,
        text_only=is_text_only(conversation),
        stream=bool(fields.stream),
        include_usage=fields.usage_wanted,
        sampling=sampling(fields, leftovers),
        tools=offered,
        tool_choice=choice,
        parallel_tool_calls=fields.parallel_tool_calls if offered else None,
        think=thinking(fields, leftovers),
        logprobs=bool(fields.logprobs),
        top_logprobs=_top_logprobs(fields),
        continue_final_message=_continues(fields, conversation),
        keep_alive=keep_alive(fields.keep_alive),
        user=fields.safety_identifier or fields.user or "",
        cache_key=fields.prompt_cache_key or "",
        model_options=leftovers.options,
        ignored=leftovers.ignored,
    )
    _set_format(chat, fields)
    return chat


def decode_completion(body: bytes) -> Completion:
    """Decode the body of `POST /v1/completions`. Raises BadRequest, and nothing else."""
    fields, leftovers = _COMPLETION.decode(body)
    logprobs = fields.logprobs
    if logprobs is not None:
        logprobs = _within(logprobs, _LEGACY_LOGPROBS_MAX, "logprobs")
        if fields.echo:
            raise UnsupportedParameter(
                "echo together with logprobs is not supported",
                param="echo",
                hint="no backend returns the probabilities of a prompt",
            )
    return Completion(
        model=fields.model,
        prompt=_one_prompt(fields.prompt),
        suffix=fields.suffix or "",
        echo=bool(fields.echo),
        stream=bool(fields.stream),
        include_usage=fields.usage_wanted,
        sampling=sampling(fields, leftovers),
        logprobs=logprobs,
        keep_alive=keep_alive(fields.keep_alive),
        user=fields.safety_identifier or fields.user or "",
        model_options=leftovers.options,
        ignored=leftovers.ignored,
    )


def decode_embedding(body: bytes) -> Embedding:
    """Decode the body of `POST /v1/embeddings`. Raises BadRequest, and nothing else."""
    fields, leftovers = _EMBEDDING.decode(body)
    client_options(fields.options, leftovers)
    return Embedding(
        model=fields.model,
        inputs=_inputs(fields.input),
        dimensions=fields.dimensions,
        encoding=fields.encoding_format or "float",
        keep_alive=keep_alive(fields.keep_alive),
        user=fields.user or "",
        model_options=leftovers.options,
        ignored=leftovers.ignored,
    )


def _offer(fields: ChatBody) -> tuple[list[Tool], msgspec.Raw | None]:
    """Return the tools on offer and the choice among them; `none` takes the offer back."""
    if fields.tools and fields.functions:
        raise BadRequest(
            "functions cannot be sent together with tools", param="functions", hint="send tools"
        )
    offered = tools(fields.tools or []) or functions(fields.functions or [])
    choice = tool_choice(fields.tool_choice, offered, "tool_choice")
    if choice is None:
        choice = tool_choice(fields.function_call, offered, "function_call")
    if not offered or (choice is not None and bytes(choice) == b'"none"'):
        return [], None
    return offered, choice


def _top_logprobs(fields: ChatBody) -> int:
    if not fields.top_logprobs:
        return 0
    if not fields.logprobs:
        raise BadRequest("top_logprobs needs logprobs to be true", param="top_logprobs")
    return _within(fields.top_logprobs, _TOP_LOGPROBS_MAX, "top_logprobs")


def _within(value: float, most: int, param: str) -> int:
    if not 0 <= value <= most:
        raise BadRequest(f"{param}: expected 0 to {most}, got {value}", param=param)
    return integer(value, param)


def _continues(fields: ChatBody, conversation: list[Message]) -> bool:
    """Return whether the last message is to be continued.

    vLLM and llama.cpp have two switches for it, of which `add_generation_prompt` alone is the
    template's; Open WebUI's "continue" sends both.
    """
    asked, opened = fields.continue_final_message, fields.add_generation_prompt
    by_assistant = conversation[-1].role == "assistant"
    if not asked:
        return asked is None and opened is False and by_assistant
    if opened:
        raise BadRequest(
            "continue_final_message and add_generation_prompt cannot both be true",
            param="add_generation_prompt",
        )
    if not by_assistant:
        raise BadRequest(
            "continue_final_message needs a last message by the assistant",
            param="continue_final_message",
        )
    return True


def _set_format(chat: Chat, fields: ChatBody) -> None:
    wanted = fields.response_format
    if wanted is None:
        _set_ollama_format(chat, bytes(fields.format))
    elif wanted.type == "json_object":
        chat.format = _JSON
    elif wanted.type == "json_schema":
        schema = wanted.json_schema or JsonSchema()
        if not bytes(schema.schema).startswith(b"{"):
            at = "response_format.json_schema.schema"
            raise BadRequest(f"{at}: expected a JSON schema, an object", param=at)
        chat.format, chat.format_name = schema.schema, schema.name
    elif wanted.type != "text":
        raise UnsupportedParameter(
            f"response_format.type: {wanted.type[:64]!r} is not supported",
            param="response_format.type",
            hint="text, json_object or json_schema",
        )


def _set_ollama_format(chat: Chat, raw: bytes) -> None:
    if raw == bytes(_JSON) or raw.startswith(b"{"):
        chat.format = msgspec.Raw(raw)
    elif raw not in {b"", b"null", b'""'}:
        raise BadRequest('format: expected "json" or a JSON schema', param="format")


def _one_prompt(prompt: Texts) -> str:
    if isinstance(prompt, str):
        return prompt
    texts = _strings(prompt, "prompt")
    if len(texts) != 1:
        raise UnsupportedParameter(
            f"prompt: expected one string, got {len(texts)}",
            param="prompt",
            hint="send one request for each prompt",
        )
    return texts[0]


def _inputs(given: Texts) -> list[str]:
    texts = [given] if isinstance(given, str) else _strings(given, "input")
    if not 0 < len(texts) <= EMBEDDING_INPUTS_MAX:
        raise BadRequest(
            f"input: expected 1 to {EMBEDDING_INPUTS_MAX} strings, got {len(texts)}",
            param="input",
        )
    for index, text in enumerate(texts):
        if not text:
            at = "input" if isinstance(given, str) else f"input[{index}]"
            raise BadRequest(f"{at}: a string to embed cannot be empty", param=at)
    return texts


def _strings(given: list[str | int | list[int]], param: str) -> list[str]:
    texts = [one for one in given if isinstance(one, str)]
    if len(texts) != len(given):
        raise BadRequest(f"{param}: token arrays are not taken", param=param, hint=_TOKENS_HINT)
    return texts
