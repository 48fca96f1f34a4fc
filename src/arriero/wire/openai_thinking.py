"""The five ways in which clients ask a model to think, or not to."""

import msgspec

from arriero.base.errors import BadRequest
from arriero.wire.openai_body import Fields, Leftovers, decode_value, note_ignored
from arriero.wire.openai_sampling import TextBody

# Ollama's levels are low, medium, high and max; its own translation of OpenAI's is followed.
_LEVELS: dict[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "max",
    "ultra": "max",
    "max": "max",
}
_SWITCHES = {"enabled": True, "adaptive": True, "disabled": False}
_KWARGS = ("enable_thinking", "thinking")
_BOOL: msgspec.json.Decoder[bool | None] = msgspec.json.Decoder(bool | None)


class ReasoningBody(msgspec.Struct):
    """`reasoning` as in OpenAI's Responses and in OpenRouter's chat."""

    effort: str | None = None
    enabled: bool | None = None


class ThinkingBody(msgspec.Struct):
    """`thinking` as Anthropic's and DeepSeek's clients send it."""

    type: str


class ThinkingFields(TextBody, kw_only=True):
    """All of them; the first that says something counts, from `think` down."""

    think: bool | str | None = None
    reasoning_effort: str | None = None
    reasoning: ReasoningBody | None = None
    thinking: ThinkingBody | None = None
    enable_thinking: bool | None = None
    chat_template_kwargs: Fields | None = None


def thinking(body: ThinkingFields, leftovers: Leftovers) -> bool | str | None:
    """Return a switch, a level, or None where the client did not say. Raises BadRequest."""
    found = [
        body.think if isinstance(body.think, bool) else _level(body.think, "think"),
        _level(body.reasoning_effort, "reasoning_effort"),
        *_reasoning(body.reasoning),
        _switch(body.thinking),
        body.enable_thinking,
        _template_switch(body.chat_template_kwargs, leftovers),
    ]
    return next((one for one in found if one is not None), None)


def _reasoning(body: ReasoningBody | None) -> tuple[bool | str | None, ...]:
    return () if body is None else (_level(body.effort, "reasoning.effort"), body.enabled)


def _level(effort: str | None, param: str) -> bool | str | None:
    if effort is None:
        return None
    if effort not in _LEVELS:
        raise BadRequest(
            f"{param}: unknown level {effort[:64]!r}", param=param, hint=", ".join(_LEVELS)
        )
    return _LEVELS[effort]


def _switch(body: ThinkingBody | None) -> bool | None:
    if body is None:
        return None
    if body.type not in _SWITCHES:
        raise BadRequest(
            f"thinking.type: unknown value {body.type[:64]!r}",
            param="thinking.type",
            hint=", ".join(_SWITCHES),
        )
    return _SWITCHES[body.type]


def _template_switch(kwargs: Fields | None, leftovers: Leftovers) -> bool | None:
    found: bool | None = None
    for name, raw in (kwargs or {}).items():
        at = f"chat_template_kwargs.{name}"
        if name in _KWARGS:
            found = decode_value(_BOOL, raw, at)
        else:
            note_ignored(leftovers.ignored, at)
    return found
