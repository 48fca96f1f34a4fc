"""Request bodies, read as Go's encoding/json reads them into Ollama's structs.

Unknown fields are ignored, null leaves a field alone, what follows the first value is ignored, and
a wrong type is refused with the same words: clients and gateways quote them.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from arriero.testing.clock import FOREVER_S

DURATION_UNITS_S: Final = {
    "ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip
_DURATION = re.compile(r"([0-9]*\.?[0-9]+|[0-9]+\.)(ns|us|\u00b5s|ms|s|m|h)")
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+|[0-9]+\.")
THINK_LEVELS: Final = ("high", "medium", "low", "max")
_LITERALS: Final = {"t": "true", "f": "false", "n": "null"}
_THINK_WORDS: Final = '"high", "medium", "low", "max", true, or false'


class BadBody(Exception):
    """The body cannot be read; the text is Go's."""


@dataclass(frozen=True, slots=True)
class Field:
    """How Go declares one field: its type's name, and the JSON kinds it takes."""

    go: str
    kinds: tuple[str, ...]
    items: "Shape | None" = None


@dataclass(frozen=True, slots=True)
class Shape:
    """A Go struct: where it stands in error texts, its fields, and its type's name."""

    name: str
    fields: dict[str, Field]
    go: str = ""


STRING: Final = Field("string", ("string",))
BOOL: Final = Field("bool", ("bool",))
INT: Final = Field("int", ("number",))
MAP: Final = Field("map[string]interface {}", ("object",))
ANY: Final = Field("any", ("string", "number", "bool", "object", "array"))
IMAGES: Final = Field("[]api.ImageData", ("array",))

_TOOL: Final = Shape(
    "Tool.tools", {"type": STRING, "function": Field("api.ToolFunction", ("object",))}, "api.Tool"
)
_MESSAGE: Final = Shape(
    "ChatRequest.messages",
    {
        "role": STRING,
        "content": STRING,
        "thinking": STRING,
        "images": IMAGES,
        "tool_calls": Field("[]api.ToolCall", ("array",)),
        "tool_name": STRING,
        "tool_call_id": STRING,
    },
    "api.Alias",
)
_COMMON: Final = {
    "model": STRING,
    "stream": BOOL,
    "format": ANY,
    "keep_alive": ANY,
    "options": MAP,
    "think": ANY,
    "truncate": BOOL,
    "shift": BOOL,
    "_debug_render_only": BOOL,
    "logprobs": BOOL,
    "top_logprobs": INT,
}
CHAT: Final = Shape(
    "ChatRequest",
    {
        **_COMMON,
        "messages": Field("[]api.Message", ("array",), _MESSAGE),
        "tools": Field("api.Tools", ("array",), _TOOL),
    },
    "api.ChatRequest",
)
GENERATE: Final = Shape(
    "GenerateRequest",
    {
        **_COMMON,
        "prompt": STRING,
        "suffix": STRING,
        "system": STRING,
        "template": STRING,
        "context": Field("[]int", ("array",)),
        "raw": BOOL,
        "images": IMAGES,
    },
    "api.GenerateRequest",
)
EMBED: Final = Shape(
    "EmbedRequest",
    {
        "model": STRING,
        "input": ANY,
        "keep_alive": ANY,
        "truncate": BOOL,
        "dimensions": INT,
        "options": MAP,
    },
    "api.EmbedRequest",
)
EMBEDDINGS: Final = Shape(
    "EmbeddingRequest",
    {"model": STRING, "prompt": STRING, "keep_alive": ANY, "options": MAP},
    "api.EmbeddingRequest",
)
SHOW: Final = Shape(
    "ShowRequest",
    {"model": STRING, "name": STRING, "system": STRING, "verbose": BOOL, "options": MAP},
    "api.ShowRequest",
)
PULL: Final = Shape(
    "PullRequest",
    {"model": STRING, "name": STRING, "insecure": BOOL, "stream": BOOL},
    "api.PullRequest",
)

FLOAT: Final = Field("float64", ("number",))
OBJECT: Final = Field("openai.StreamOptions", ("object",))
V1_CHAT: Final = Shape(
    "ChatCompletionRequest",
    {
        "model": STRING,
        "messages": Field(
            "[]openai.Message", ("array",), Shape("Message.messages", {"role": STRING})
        ),
        "stream": BOOL,
        "stream_options": OBJECT,
        "max_tokens": INT,
        "seed": INT,
        "temperature": FLOAT,
        "top_p": FLOAT,
        "frequency_penalty": FLOAT,
        "presence_penalty": FLOAT,
        "response_format": Field("openai.ResponseFormat", ("object",)),
        "tools": Field("[]api.Tool", ("array",), _TOOL),
        "reasoning": Field("openai.Reasoning", ("object",)),
        "reasoning_effort": STRING,
        "logprobs": BOOL,
        "top_logprobs": INT,
        "_debug_render_only": BOOL,
    },
    "openai.ChatCompletionRequest",
)
V1_COMPLETION: Final = Shape(
    "CompletionRequest",
    {
        "model": STRING,
        "prompt": STRING,
        "suffix": STRING,
        "stream": BOOL,
        "stream_options": OBJECT,
        "max_tokens": INT,
        "seed": INT,
        "temperature": Field("float32", ("number",)),
        "top_p": Field("float32", ("number",)),
        "_debug_render_only": BOOL,
    },
    "openai.CompletionRequest",
)
V1_EMBEDDING: Final = Shape(
    "EmbedRequest",
    {"model": STRING, "input": ANY, "dimensions": INT, "encoding_format": STRING},
    "openai.EmbedRequest",
)


def decode(body: bytes, shape: Shape, *, empty: str = "missing request body") -> dict[str, Any]:
    """Return the body as a dict without nulls; raises BadBody with Go's words."""
    value = _parse(body, empty)
    if not isinstance(value, dict):
        raise BadBody(f"json: cannot unmarshal {_kind(value)} into Go value of type {shape.go}")
    _check(value, shape, shape.name)
    return {key: item for key, item in value.items() if item is not None}


def duration_s(value: object) -> float:
    """Read `keep_alive`: seconds or "5m"; below zero is for ever. Raises BadBody."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        go = {"bool": "bool", "object": "map[string]interface {}", "array": "[]interface {}"}
        raise BadBody(f"Unsupported type: '{go[_kind(value)]}'")
    seconds = _parse_duration_s(value) if isinstance(value, str) else float(value)
    return FOREVER_S if seconds < 0 else seconds


def think_value(value: object) -> bool | str:
    """Read `think`; raises BadBody."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value not in THINK_LEVELS:
            raise BadBody(f'invalid think value: "{value}" (must be {_THINK_WORDS})')
        return value
    raise BadBody(f"think must be a boolean or string ({_THINK_WORDS})")


def _parse_duration_s(text: str) -> float:
    sign, rest = (-1.0, text[1:]) if text[:1] == "-" else (1.0, text.removeprefix("+"))
    if rest == "0":
        return 0.0
    parts = _DURATION.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        raise BadBody(f'time: {_duration_fault(rest)} duration "{text}"')
    return sign * sum(float(number) * DURATION_UNITS_S[unit] for number, unit in parts)


def _duration_fault(text: str) -> str:
    bare = _NUMBER.sub("", text, count=1) if _NUMBER.match(text) else None
    if bare is None:
        return "invalid"
    if not bare:
        return "missing unit in"
    unit = re.match(r"[^0-9.]+", bare)
    return f'unknown unit "{unit.group()}" in' if unit else "invalid"


def _check(value: dict[str, Any], shape: Shape, where: str) -> None:
    for key, item in value.items():
        field = shape.fields.get(key)
        if field is None or item is None:
            continue
        if _kind(item) not in field.kinds:
            raise BadBody(_mismatch(item, f"{where}.{key}", field.go))
        if field is INT and isinstance(item, float):
            raise BadBody(_mismatch(item, f"{where}.{key}", field.go))
        if field.items is not None:
            _check_items(item, field.items, where, key)


def _check_items(values: list[Any], shape: Shape, where: str, key: str) -> None:
    for item in values:
        if not isinstance(item, dict):
            raise BadBody(_mismatch(item, f"{where}.{key}", shape.go))
        _check(item, shape, shape.name)


def _mismatch(item: object, where: str, go: str) -> str:
    kind = f"number {item}" if isinstance(item, float) and go == "int" else _kind(item)
    return f"json: cannot unmarshal {kind} into Go struct field {where} of type {go}"


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


def _parse(body: bytes, empty: str) -> Any:
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise BadBody(empty)
    try:
        return json.JSONDecoder(strict=False).raw_decode(text)[0]
    except json.JSONDecodeError as error:
        raise BadBody(_syntax(error, text)) from None


def _syntax(error: json.JSONDecodeError, text: str) -> str:
    if error.pos >= len(text) or error.msg.startswith("Unterminated"):
        return "unexpected EOF"
    at = text[error.pos]
    literal = _LITERALS.get(at)
    if literal is not None and error.msg.startswith("Expecting value"):
        return _syntax_of_literal(literal, text[error.pos :])
    looking = "looking for beginning of value"
    if "property name" in error.msg:
        looking = "looking for beginning of object key string"
    elif "':'" in error.msg:
        looking = "after object key"
    elif "','" in error.msg:
        inside = "array element" if text.startswith("[") else "object key:value pair"
        looking = f"after {inside}"
    quoted = {"'": "\\\\'"}.get(at, at)
    return f"invalid character '{quoted}' {looking}"


def _syntax_of_literal(literal: str, text: str) -> str:
    for expected, found in zip(literal, text, strict=False):
        if expected != found:
            return f"invalid character '{found}' in literal {literal} (expecting '{expected}')"
    return "unexpected EOF"
