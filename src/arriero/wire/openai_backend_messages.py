"""Conversations as servers of OpenAI's API read them."""

import msgspec

from arriero.wire.canonical import Message, Part, ToolCall


class _ImageUrl(msgspec.Struct, gc=False):
    url: str


class _TextPart(msgspec.Struct, gc=False, tag="text", tag_field="type"):
    text: str


class _ImagePart(msgspec.Struct, gc=False, tag="image_url", tag_field="type"):
    image_url: _ImageUrl


class _Function(msgspec.Struct, gc=False):
    name: str
    arguments: str


class _ToolCall(msgspec.Struct, gc=False, tag="function", tag_field="type"):
    id: str
    function: _Function


class TurnBody(msgspec.Struct, gc=False, omit_defaults=True):
    """One element of `messages`. `content` is always there: templates stumble over its absence."""

    role: str
    content: str | list[_TextPart | _ImagePart]
    reasoning_content: str = ""
    tool_calls: list[_ToolCall] = []
    tool_call_id: str = ""


def turns(messages: list[Message]) -> list[Message] | list[TurnBody]:
    """Return what stands for `messages` in the body: the very list when all are plain text."""
    if all(map(_is_plain, messages)):
        return messages
    return [_turn(message) for message in messages]


def _is_plain(message: Message) -> bool:
    return bool(
        message.content
        and isinstance(message.content, str)
        and not (message.thinking or message.tool_calls)
        and message.role != "tool"
    )


def _turn(message: Message) -> TurnBody:
    content = message.content
    return TurnBody(
        role=message.role,
        content=content if isinstance(content, str) else [_part(part) for part in content],
        reasoning_content=message.thinking,
        tool_calls=[_tool_call(call) for call in message.tool_calls],
        tool_call_id=message.tool_call_id,
    )


def _part(part: Part) -> _TextPart | _ImagePart:
    if not part.image_base64:
        return _TextPart(part.text)
    image_type = part.image_type or "image/jpeg"
    return _ImagePart(_ImageUrl(f"data:{image_type};base64,{part.image_base64}"))


def _tool_call(call: ToolCall) -> _ToolCall:
    return _ToolCall(call.id, _Function(call.name, call.arguments or "{}"))
