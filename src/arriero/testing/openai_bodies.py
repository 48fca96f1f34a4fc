"""The JSON of llama.cpp's and vLLM's OpenAI-compatible servers, which differ in small ways.

llama.cpp's was taken from a running llama-server; vLLM's follows its documentation.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Literal

from arriero.testing.ollama.engine import Piece
from arriero.testing.ollama.models import SimModel

Flavour = Literal["llama.cpp", "vllm"]
_LLAMA_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    501: "not_supported_error",
    503: "unavailable_error",
}
_VLLM_TYPES: Final = {400: "BadRequestError", 401: "Unauthorized", 404: "NotFoundError"}
# An argument text is streamed in pieces of this many characters.
_ARGUMENT_CHARACTERS: Final = 8


def error_body(flavour: Flavour, status: int, text: str, **more: object) -> dict[str, Any]:
    """Return an error body."""
    if flavour == "vllm":
        kind = _VLLM_TYPES.get(status, "InternalServerError")
        return {"error": {"message": text, "type": kind, "param": None, "code": status}}
    kind = str(more.pop("type", _LLAMA_TYPES.get(status, "server_error")))
    return {"error": {"code": status, "message": text, "type": kind, **more}}


def models_body(
    flavour: Flavour, model: SimModel, context: int, created_s: float
) -> dict[str, Any]:
    """Return `/v1/models`."""
    entry = {"id": model.name, "object": "model", "created": int(created_s)}
    if flavour == "vllm":
        more = {"owned_by": "vllm", "root": model.name, "parent": None, "max_model_len": context}
        return {"object": "list", "data": [{**entry, **more}]}
    meta = {"n_ctx": context, "n_ctx_train": model.context_length, "size": model.size}
    return {"object": "list", "data": [{**entry, "owned_by": "llamacpp", "meta": meta}]}


class Writer:
    """The bodies of one answer, for chat and for plain completions."""

    def __init__(self, flavour: Flavour, request: Mapping[str, Any], *, chat: bool) -> None:
        self._flavour = flavour
        self._chat = chat
        self._head: dict[str, Any] = {}
        # llama.cpp repeats the text it continues in a whole answer, but never in a stream.
        self.repeats = ""
        options = request.get("stream_options") or {}
        self._usage = bool(options.get("include_usage")) or (not chat and flavour == "llama.cpp")

    def begin(self, answer_id: str, model: str, created_s: float) -> None:
        """Set what every body of the answer has."""
        kind = "chat.completion" if self._chat else "text_completion"
        self._head = {
            "id": answer_id,
            "object": kind,
            "created": int(created_s),
            "model": model,
        }

    def opening(self) -> list[dict[str, Any]]:
        """Return the chunk that opens a chat stream."""
        content = None if self._flavour == "llama.cpp" else ""
        return [self._chunk({"role": "assistant", "content": content})] if self._chat else []

    def chunks(self, piece: Piece) -> list[dict[str, Any]]:
        """Return the chunks of one piece."""
        if not self._chat:
            return [self._text(piece.content)]
        if piece.tool_calls:
            return [self._chunk({"tool_calls": [part]}) for part in _call_parts(piece.tool_calls)]
        if piece.thinking:
            return [self._chunk({"reasoning_content": piece.thinking})]
        return [self._chunk({"content": piece.content})]

    def last(self, piece: Piece, *, called: bool) -> list[dict[str, Any]]:
        """Return the chunks that end a stream, without `[DONE]`."""
        reason = _reason(piece, called=called)
        if not self._chat:
            finish = self._text("", reason)
            return [{**finish, **self._counts(piece)} if self._usage else finish]
        finish = self._chunk({}, reason)
        if not self._usage:
            return [finish]
        return [finish, {**finish, "choices": [], **self._counts(piece)}]

    def whole(self, pieces: list[Piece]) -> dict[str, Any]:
        """Return the answer in one piece."""
        last = pieces[-1]
        text = self.repeats + "".join(piece.content for piece in pieces)
        calls = [call for piece in pieces for call in piece.tool_calls]
        choice: dict[str, Any] = {"index": 0, "finish_reason": _reason(last, called=bool(calls))}
        if self._chat:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            thinking = "".join(piece.thinking for piece in pieces)
            if thinking:
                message["reasoning_content"] = thinking
            if calls:
                message.update(content=None, tool_calls=[_call(call) for call in calls])
            choice["message"] = message
        else:
            choice.update(text=text, logprobs=None)
        return {**self._head, "choices": [choice], **self._counts(last)}

    def _counts(self, piece: Piece) -> dict[str, Any]:
        """Return the usage; llama.cpp also tells times and what was cached, vLLM only if asked."""
        usage: dict[str, Any] = {
            "prompt_tokens": piece.prompt_tokens,
            "completion_tokens": piece.answer_tokens,
            "total_tokens": piece.prompt_tokens + piece.answer_tokens,
        }
        if self._flavour == "vllm":
            return {"usage": usage}
        usage["prompt_tokens_details"] = {"cached_tokens": piece.cached_tokens}
        timings = {
            "cache_n": piece.cached_tokens,
            "prompt_n": piece.prompt_tokens - piece.cached_tokens,
            "prompt_ms": piece.prompt_s * 1000,
            "predicted_n": piece.answer_tokens,
            "predicted_ms": piece.answer_s * 1000,
        }
        return {"usage": usage, "timings": timings}

    def _chunk(self, delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return {**self._head, "object": "chat.completion.chunk", "choices": [choice]}

    def _text(self, text: str, reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}
        return {**self._head, "choices": [choice]}


def _reason(piece: Piece, *, called: bool) -> str | None:
    return "tool_calls" if called and piece.done_reason == "stop" else piece.done_reason or None


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = json.dumps(function["arguments"], separators=(",", ":"))
    named = {"name": function["name"], "arguments": arguments}
    return {"id": call["id"], "type": "function", "function": named}


def _call_parts(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the deltas of tool calls: the name first, then the arguments piece by piece."""
    parts = []
    for index, call in enumerate(_call(each) for each in calls):
        arguments = call["function"]["arguments"]
        named = {"name": call["function"]["name"], "arguments": ""}
        parts.append({"index": index, **call, "function": named})
        for at in range(0, len(arguments), _ARGUMENT_CHARACTERS):
            piece = arguments[at : at + _ARGUMENT_CHARACTERS]
            parts.append({"index": index, "function": {"arguments": piece}})
    return parts
