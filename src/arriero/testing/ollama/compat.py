"""`/v1`: OpenAI's dialect as Ollama rewrites it to and from its own (openai/, middleware/).

Its losses are kept on purpose, so that they can be seen: options that cannot be set, temperature
and top_p forced to 1 when absent, fields silently dropped, and an error in mid-stream that becomes
an empty chunk of no model and an end without `finish_reason` or `[DONE]`.
"""

import base64
import json
import struct
import zlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from arriero.testing.http import Reply
from arriero.testing.ollama.outlet import Outlet, encode
from arriero.testing.ollama.state import Refused

_ERROR_TYPES: Final = {400: "invalid_request_error", 404: "not_found_error"}
_EFFORTS: Final[dict[str, bool | str]] = {
    "none": False, "minimal": "low", "low": "low", "medium": "medium", "high": "high",
    "xhigh": "max", "ultra": "max", "max": "max",
}  # fmt: skip
_IMAGE_PREFIXES: Final = (
    "data:;base64,",
    *(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp")),
)
_NO_TIME: Final = "1970-01-01T00:00:00Z"  # an error line has no timestamp
_IDS: Final = 999  # Ollama's ids are random below this: they collide


def v1_error(status: int, text: str) -> bytes:
    """Return an error body in OpenAI's shape."""
    kind = _ERROR_TYPES.get(status, "api_error")
    return encode({"error": {"message": text, "type": kind, "param": None, "code": None}}) + b"\n"


class V1Outlet(Outlet):
    """What the chat, completion and embedding outlets of `/v1` have in common."""

    content_type = "text/event-stream"

    def error(self, status: int, text: str) -> None:
        """Refuse the request in OpenAI's shape."""
        self.reply.send(status, v1_error(status, text), "application/json")


class ChatOutlet(V1Outlet):
    """`/v1/chat/completions`."""

    def __init__(self, reply: Reply, request: Mapping[str, Any]) -> None:
        super().__init__(reply)
        self._id = f"chatcmpl-{zlib.crc32(encode(request)) % _IDS}"
        self._usage = bool((request.get("stream_options") or {}).get("include_usage"))
        self._first = True
        self._called = False
        self._created = 0

    def whole(self, value: dict[str, Any]) -> None:
        """Answer in one piece."""
        message = value.get("message", {})
        own: dict[str, Any] = {
            "role": message.get("role", ""), "content": message.get("content", "")
        }  # fmt: skip
        if message.get("thinking"):
            own["reasoning"] = message["thinking"]
        if message.get("tool_calls"):
            own["tool_calls"] = _calls(message["tool_calls"])
        choice = {"index": 0, "message": own, "finish_reason": _reason(value, own)}
        answer = {
            **self._envelope("chat.completion", value),
            "choices": [{**choice, **_logprobs(value)}],
            "usage": _usage(value),
        }
        if "_debug_info" in value:
            answer["_debug_info"] = value["_debug_info"]
        self.reply.send(200, encode(answer) + b"\n", "application/json")

    def translate(self, value: dict[str, Any]) -> bytes:
        """Return the events of one native piece; of an error only an empty chunk remains."""
        events = []
        message = value.get("message", {})
        empty = not (message.get("content") or message.get("thinking") or message.get("tool_calls"))
        if not (value.get("done") and not self._first and empty):
            events += [self._chunk(value, delta) for delta in self._deltas(message)]
        if value.get("done"):
            finish = self._chunk(value, {})
            finish["choices"][0]["finish_reason"] = _reason(value, {"tool_calls": self._called})
            events.append(finish)
            if self._usage:
                events.append({**finish, "choices": [], "usage": _usage(value)})
        sent = b"".join(b"data: %b\n\n" % encode(event) for event in events)
        return sent + b"data: [DONE]\n\n" if value.get("done") else sent

    def _deltas(self, message: Mapping[str, Any]) -> list[dict[str, Any]]:
        role = {"role": "assistant"} if self._first else {}
        self._first = False
        thinking = {"reasoning": message["thinking"]} if message.get("thinking") else {}
        rest: dict[str, Any] = {"content": message.get("content", "")}
        if message.get("tool_calls"):
            rest["tool_calls"] = _calls(message["tool_calls"])
            self._called = True
        if thinking and (rest["content"] or "tool_calls" in rest):
            return [{**role, **thinking}, rest]
        return [{**role, **rest, **thinking}]

    def _chunk(self, value: Mapping[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": None, **_logprobs(value)}
        return {**self._envelope("chat.completion.chunk", value), "choices": [choice]}

    def _envelope(self, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
        self._created = self._created or _unix(value)
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": value.get("model", ""),
            "system_fingerprint": "fp_ollama",
        }


class CompletionOutlet(V1Outlet):
    """`/v1/completions`."""

    def __init__(self, reply: Reply, request: Mapping[str, Any]) -> None:
        super().__init__(reply)
        self._created = 0
        self._id = f"cmpl-{zlib.crc32(encode(request)) % _IDS}"
        self._usage = bool((request.get("stream_options") or {}).get("include_usage"))

    def whole(self, value: dict[str, Any]) -> None:
        """Answer in one piece."""
        answer = {**self._piece(value), "usage": _usage(value)}
        self.reply.send(200, encode(answer) + b"\n", "application/json")

    def translate(self, value: dict[str, Any]) -> bytes:
        """Return the events of one native piece."""
        piece = self._piece(value)
        if self._usage:
            piece["usage"] = _usage({})
        events = [piece]
        if value.get("done") and self._usage:
            events.append({**piece, "choices": [], "usage": _usage(value)})
        sent = b"".join(b"data: %b\n\n" % encode(event) for event in events)
        return sent + b"data: [DONE]\n\n" if value.get("done") else sent

    def _piece(self, value: Mapping[str, Any]) -> dict[str, Any]:
        self._created = self._created or _unix(value)
        reason = value.get("done_reason") or None
        choice = {"text": value.get("response", ""), "index": 0, "finish_reason": reason}
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": value.get("model", ""),
            "system_fingerprint": "fp_ollama",
            "choices": [choice],
        }


class EmbeddingOutlet(V1Outlet):
    """`/v1/embeddings`."""

    def __init__(self, reply: Reply, request: Mapping[str, Any]) -> None:
        super().__init__(reply)
        self._model = str(request.get("model", ""))
        self._base64 = str(request.get("encoding_format", "")).lower() == "base64"

    def whole(self, value: dict[str, Any]) -> None:
        """Answer in one piece."""
        counted = value.get("prompt_eval_count", 0)
        data = [
            {"object": "embedding", "embedding": self._vector(vector), "index": at}
            for at, vector in enumerate(value["embeddings"])
        ]
        usage = {"prompt_tokens": counted, "total_tokens": counted}
        answer = {"object": "list", "data": data, "model": self._model, "usage": usage}
        self.reply.send(200, encode(answer) + b"\n", "application/json")

    def _vector(self, values: list[float]) -> list[float] | str:
        if not self._base64:
            return values
        return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def chat_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `/api/chat` request of a `/v1/chat/completions` one; raises Refused."""
    if not request.get("messages"):
        raise Refused(400, "[] is too short - 'messages'")
    native: dict[str, Any] = {
        "model": request.get("model", ""),
        "messages": [part for message in request["messages"] for part in _messages(message)],
        "stream": bool(request.get("stream", False)),
        "options": _options(request, ("frequency_penalty", "presence_penalty")),
        "tools": request.get("tools") or [],
        "logprobs": bool(request.get("logprobs", False)),
        "top_logprobs": request.get("top_logprobs", 0),
        "_debug_render_only": bool(request.get("_debug_render_only", False)),
    }
    shape = _format(request.get("response_format") or {})
    if shape is not None:
        native["format"] = shape
    effort = (request.get("reasoning") or {}).get("effort") or request.get("reasoning_effort")
    if effort:
        native["think"] = _think(effort)
    return native


def completion_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `/api/generate` request of a `/v1/completions` one; raises Refused."""
    stop = request.get("stop")
    if isinstance(stop, list) and not all(isinstance(item, str) for item in stop):
        raise Refused(400, "invalid type for 'stop' field: float64")
    options = _options(request, ())
    for penalty in ("frequency_penalty", "presence_penalty"):
        options[penalty] = request.get(penalty) or 0.0
    return {
        "model": request.get("model", ""),
        "prompt": request.get("prompt", ""),
        "suffix": request.get("suffix", ""),
        "stream": bool(request.get("stream", False)),
        "options": options,
        "_debug_render_only": bool(request.get("_debug_render_only", False)),
    }


def embed_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `/api/embed` request of a `/v1/embeddings` one; raises Refused."""
    encoding = str(request.get("encoding_format", ""))
    if encoding and encoding.lower() not in {"float", "base64"}:
        allowed = "Supported values: ['float', 'base64']."
        raise Refused(400, f"Invalid value for 'encoding_format' = {encoding}. {allowed}")
    value = request.get("input")
    if value is None or value == []:
        raise Refused(400, "invalid input")
    return {
        "model": request.get("model", ""),
        "input": [""] if value == "" else value,
        "dimensions": request.get("dimensions", 0),
    }


def _options(request: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    temperature, top_p = request.get("temperature"), request.get("top_p")
    options: dict[str, Any] = {
        "temperature": 1.0 if temperature is None else temperature,
        "top_p": 1.0 if top_p is None else top_p,
    }
    stop = request.get("stop")
    if isinstance(stop, str):
        options["stop"] = [stop]
    elif isinstance(stop, list):
        options["stop"] = [item for item in stop if isinstance(item, str)]
    if request.get("max_tokens") is not None:
        options["num_predict"] = request["max_tokens"]
    for name in ("seed", *names):
        if request.get(name) is not None:
            options[name] = request[name]
    return options


def _think(effort: str) -> bool | str:
    if effort not in _EFFORTS:
        words = ", ".join(
            f'"{word}"' for word in ("minimal", "low", "medium", "high", "xhigh", "ultra", "max")
        )
        raise Refused(400, f'invalid reasoning value: "{effort}" (must be {words}, or "none")')
    return _EFFORTS[effort]


def _format(response_format: Mapping[str, Any]) -> object:
    kind = str(response_format.get("type", "")).strip().lower()
    if kind == "json_object":
        return "json"
    if kind == "json_schema":
        return (response_format.get("json_schema") or {}).get("schema")
    return None


def _messages(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the native messages of one: a list of parts becomes one message a part."""
    role, content = message.get("role", ""), message.get("content")
    calls = [_native_call(call) for call in message.get("tool_calls") or ()]
    rest = {
        "thinking": message.get("reasoning"),
        "tool_calls": calls,
        "tool_call_id": message.get("tool_call_id"),
    }
    base: dict[str, Any] = {"role": role, **{name: value for name, value in rest.items() if value}}
    if isinstance(content, str):
        return [{**base, "content": content}]
    if isinstance(content, list):
        return [_part(role, part) for part in content]
    if "tool_calls" not in message:
        kind = "<nil>" if content is None else "float64"
        raise Refused(400, f"invalid message content type: {kind}")
    return [{**base, "content": ""}]


def _part(role: str, part: object) -> dict[str, Any]:
    if isinstance(part, Mapping) and part.get("type") == "text":
        text = part.get("text")
        if isinstance(text, str):
            return {"role": role, "content": text}
    if isinstance(part, Mapping) and part.get("type") == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        if isinstance(url, str):
            return {"role": role, "content": "", "images": [_image(url)]}
    raise Refused(400, "invalid message format")


def _image(url: str) -> str:
    if url.startswith(("http://", "https://")):
        text = "image URLs are not currently supported, please use base64 encoded data instead"
        raise Refused(400, text)
    for prefix in _IMAGE_PREFIXES:
        if url.startswith(prefix):
            return url.removeprefix(prefix)
    raise Refused(400, "invalid image input")


def _native_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        arguments = json.loads(str(function.get("arguments", "")))
    except json.JSONDecodeError:
        raise Refused(400, "invalid tool call arguments") from None
    named = {"name": function.get("name", ""), "arguments": arguments}
    return {"id": call.get("id", ""), "function": named}


def _calls(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "id": call.get("id", ""),
            "index": call["function"].get("index", 0),
            "type": "function",
            "function": {
                "name": call["function"]["name"],
                "arguments": json.dumps(call["function"]["arguments"], separators=(",", ":")),
            },
        }
        for call in calls
    ]


def _reason(value: Mapping[str, Any], message: Mapping[str, Any]) -> str | None:
    reason = value.get("done_reason") or None
    return "tool_calls" if reason == "stop" and message.get("tool_calls") else reason


def _logprobs(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"logprobs": {"content": value["logprobs"]}} if value.get("logprobs") else {}


def _usage(value: Mapping[str, Any]) -> dict[str, int]:
    prompt, answer = value.get("prompt_eval_count", 0), value.get("eval_count", 0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "total_tokens": prompt + answer,
    }


def _unix(value: Mapping[str, Any]) -> int:
    return int(datetime.fromisoformat(value.get("created_at", _NO_TIME)).timestamp())
