"""What a simulated model answers: thinking, text or a tool call, and where it stops."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from arriero.testing.ollama.models import SimModel, Turn
from arriero.testing.text import prose, tokens

THINKING_WORDS: Final = {"low": 6, "medium": 12, "high": 24, "max": 48}
_DEPTH_MAX: Final = 8

Schema = Mapping[str, Any]


@dataclass(slots=True)
class Answer:
    """The tokens to come. `stopped` says that a stop string or the text's own end came first."""

    thinking: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    done_reason: str = "stop"

    @property
    def length(self) -> int:
        """How many tokens it takes to generate."""
        # A call's tokens are generated too, though none of them is seen.
        calls = len(tokens(json.dumps(self.tool_calls))) if self.tool_calls else 0
        return len(self.thinking) + len(self.content) + calls

    @property
    def generated(self) -> int:
        """What `eval_count` says: the token that ends an answer is counted, too."""
        return self.length + (self.done_reason == "stop")


@dataclass(frozen=True, slots=True)
class Ask:
    """What the answer depends on. `begun` is the trailing assistant text to be continued."""

    turn: Turn
    begun: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    think: bool | str = False
    format: object = None
    after_tool: str | None = None


def compose(model: SimModel, ask: Ask, stop: Sequence[str], limit: int) -> Answer:
    """Return the model's answer, cut at `stop` strings and after `limit` tokens."""
    answer = Answer()
    call = _tool_call(ask)
    if ask.think and not ask.begun:
        answer.thinking = _thinking(model, ask)
    if call is not None:
        answer.tool_calls = [call]
    else:
        answer.content = tokens(_until_stop(_text(model, ask), stop))
    _cut(answer, limit)
    return answer


def from_schema(schema: object, seed: str, depth: int = 0) -> object:
    """Return a value that fits a JSON schema: required properties, first enum, typed scalars."""
    if not isinstance(schema, Mapping) or depth > _DEPTH_MAX:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if schema.get(several):
            return from_schema(schema[several][0], seed, depth + 1)
    return _typed(schema, seed, depth)


def _typed(schema: Schema, seed: str, depth: int) -> object:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "null"
    if kind == "object":
        properties = schema.get("properties") or {}
        names = schema.get("required") or list(properties)
        return {
            name: from_schema(properties.get(name, {}), f"{seed}.{name}", depth + 1)
            for name in names
        }
    if kind == "array":
        count = max(1, int(schema.get("minItems", 1)))
        return [from_schema(schema.get("items", {}), seed, depth + 1) for _ in range(count)]
    return {
        "string": prose(seed, 2),
        "integer": int(schema.get("minimum", 7)),
        "number": float(schema.get("minimum", 7.5)),
        "boolean": True,
    }.get(str(kind))


def _text(model: SimModel, ask: Ask) -> str:
    seed = f"{model.digest}|{ask.turn.text}"
    if ask.format == "json":
        return json.dumps({"answer": prose(seed, 4), "ok": True})
    if isinstance(ask.format, Mapping):
        return json.dumps(from_schema(ask.format, seed))
    if ask.after_tool is not None:
        return f"The tool says: {ask.after_tool}"
    whole = model.say(ask.turn)
    if ask.begun:
        # Continuing what the same question would have answered gives exactly the rest of it;
        # a prefill of the caller's own making gets the answer after it.
        return whole.removeprefix(ask.begun)
    return whole


def _thinking(model: SimModel, ask: Ask) -> list[str]:
    level = ask.think if isinstance(ask.think, str) else "medium"
    return tokens(prose(f"thinking|{model.digest}|{ask.turn.text}", THINKING_WORDS[level]))


def _tool_call(ask: Ask) -> dict[str, Any] | None:
    if ask.after_tool is not None or ask.begun:
        return None
    wanted = ask.turn.text.lower()
    for tool in ask.tools:
        function = tool.get("function") or {}
        name = str(function.get("name", ""))
        if name and (name.lower() in wanted or name.lower().replace("_", " ") in wanted):
            arguments = from_schema(function.get("parameters") or {}, name)
            call_id = f"call_{hashlib.sha256(f'{name}|{wanted}'.encode()).hexdigest()[:8]}"
            function = {"index": 0, "name": name, "arguments": arguments or {}}
            return {"id": call_id, "function": function}
    return None


def _until_stop(text: str, stop: Sequence[str]) -> str:
    ends = [at for at in (text.find(mark) for mark in stop if mark) if at >= 0]
    return text[: min(ends)] if ends else text


def _cut(answer: Answer, limit: int) -> None:
    if answer.generated <= limit:
        return
    answer.done_reason = "length"
    answer.tool_calls = []
    answer.thinking = answer.thinking[:limit]
    answer.content = answer.content[: limit - len(answer.thinking)]
