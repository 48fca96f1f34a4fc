"""Conversations as Ollama reads them.

A text turn is sent as it stands; a new one is made only where the shapes differ: images stand
beside the text, tool calls carry their arguments as an object, a tool's answer names its function.
"""

import msgspec

from arriero.base.errors import BadRequest
from arriero.wire.canonical import Message, Part, ToolCall, is_text_only
from arriero.wire.parsing import parse


class _Call(msgspec.Struct, gc=False):
    name: str
    arguments: msgspec.Raw


class _ToolCall(msgspec.Struct, gc=False, omit_defaults=True):
    function: _Call
    id: str = ""


class TurnBody(msgspec.Struct, gc=False, omit_defaults=True):
    """One element of `messages` in `/api/chat`."""

    role: str
    content: str = ""
    thinking: str = ""
    images: list[str] = []
    tool_calls: list[_ToolCall] = []
    tool_call_id: str = ""
    tool_name: str = ""


_object = msgspec.json.Decoder(dict[str, msgspec.Raw])


def turns(messages: list[Message]) -> list[Message] | list[Message | TurnBody]:
    """Return what stands for `messages` in the body: the very list when all are plain text.

    A trailing assistant turn stays the last one: Ollama continues it. Raises BadRequest when a
    tool call's arguments are not a JSON object.
    """
    return messages if is_text_only(messages) else _converted(messages)


def _converted(messages: list[Message]) -> list[Message | TurnBody]:
    called: dict[str, str] = {}  # tool call id -> function name
    result: list[Message | TurnBody] = []
    for message in messages:
        called.update((call.id, call.name) for call in message.tool_calls)
        result.append(_turn(message, called))
    return result


def _turn(message: Message, called: dict[str, str]) -> TurnBody:
    text, images = _flatten(message.content)
    return TurnBody(
        role=message.role,
        content=text,
        thinking=message.thinking,
        images=images,
        tool_calls=[_tool_call(call) for call in message.tool_calls],
        tool_call_id=message.tool_call_id,
        tool_name=message.tool_name or called.get(message.tool_call_id, ""),
    )


def _flatten(content: str | list[Part]) -> tuple[str, list[str]]:
    """Return the text and the images; pieces of text are lines, as llama.cpp and vLLM join them."""
    if isinstance(content, str):
        return content, []
    text = "\n".join(part.text for part in content if part.text)
    return text, [part.image_base64 for part in content if part.image_base64]


def _tool_call(call: ToolCall) -> _ToolCall:
    arguments = call.arguments.strip() or "{}"
    try:
        parse(_object, arguments)
    except ValueError:
        raise BadRequest(
            f"The arguments of the tool call {call.id!r} are not a JSON object.", param="messages"
        ) from None
    return _ToolCall(_Call(call.name, msgspec.Raw(arguments.encode())), call.id)
