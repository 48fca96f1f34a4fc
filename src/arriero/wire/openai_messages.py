"""Messages of a chat: roles, content in parts, images, and the history of tool calls."""

import binascii
import re

import msgspec

from arriero.base.errors import BadRequest, UnsupportedParameter
from arriero.wire.canonical import Message, Part, Role, ToolCall
from arriero.wire.openai_body import ABSENT, Fields, decode_value

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",  # only some of Ollama's templates know it, the others drop it
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_IMAGE_TYPES = {
    "image/jpeg": "image/jpeg",
    "image/jpg": "image/jpeg",
    "image/png": "image/png",
    "image/webp": "image/webp",
    "image/gif": "image/gif",
}
_IMAGE_BEGINNINGS = {  # base64 of the formats' magic numbers, for `data:;base64,`
    "/9j/": "image/jpeg",
    "iVBORw0KGgo": "image/png",
    "UklGR": "image/webp",
    "R0lGOD": "image/gif",
}
_DATA_URI = re.compile(r"data:(?P<type>[^;,]{0,64})(?:;[^;,]{0,64})?;base64,", re.IGNORECASE)


class ImageUrl(msgspec.Struct):
    """An image's address; `detail` has no like in any backend and changes no meaning."""

    url: str


class PartBody(msgspec.Struct):
    """A piece of content; which field counts is the type's business."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None


class FunctionCallBody(msgspec.Struct):
    """A call in the history. OpenAI sends arguments as a string, Ollama's clients as an object."""

    name: str
    arguments: msgspec.Raw = ABSENT


class ToolCallBody(msgspec.Struct):
    """A tool call in the history."""

    function: FunctionCallBody
    id: str | None = None
    type: str | None = None


class MessageBody(msgspec.Struct):
    """A message of any role, as clients send it."""

    role: str
    content: str | list[PartBody] | None = None
    name: str | None = None
    tool_calls: list[ToolCallBody] | None = None
    tool_call_id: str | None = None
    function_call: FunctionCallBody | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    refusal: str | None = None
    audio: msgspec.Raw = ABSENT
    images: msgspec.Raw = ABSENT


_STRING: msgspec.json.Decoder[str] = msgspec.json.Decoder(str)
_OBJECT: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(Fields)


def messages(bodies: list[MessageBody]) -> list[Message]:
    """Return the conversation in canonical form. Raises BadRequest with the message's path."""
    calls: dict[str, str] = {}  # id to function name, which Ollama wants with each result
    return [_message(body, index, calls) for index, body in enumerate(bodies)]


def _message(body: MessageBody, index: int, calls: dict[str, str]) -> Message:
    role = _ROLES.get(body.role)
    if role is None:
        at = f"messages[{index}].role"
        raise BadRequest(f"{at}: unknown role {body.role[:64]!r}", param=at)
    if body.audio is not ABSENT or body.images is not ABSENT:
        _refuse_media(body, index)
    content = body.content if isinstance(body.content, str) else _content(body.content, index)
    if role == "assistant":
        return _assistant(body, content, index, calls)
    if role == "tool":
        return _tool_result(body, content, index, calls)
    return Message(role, content)


def _refuse_media(body: MessageBody, index: int) -> None:
    for name, raw, hint in (
        ("audio", body.audio, "messages are text and images"),
        ("images", body.images, "send images as `image_url` parts of the content"),
    ):
        if bytes(raw) not in {b"", b"null", b"[]"}:
            at = f"messages[{index}].{name}"
            raise UnsupportedParameter(f"{at} is not supported", param=at, hint=hint)


def _content(parts: list[PartBody] | None, index: int) -> str | list[Part]:
    if not parts:
        return ""
    at = f"messages[{index}].content"
    pieces = [_part(part, f"{at}[{number}]") for number, part in enumerate(parts)]
    if any(piece.image_base64 for piece in pieces):
        return pieces
    # Text parts become lines, as llama.cpp and vLLM join them.
    return "\n".join(piece.text for piece in pieces)


def _part(part: PartBody, at: str) -> Part:
    if part.type == "text":
        return Part(text=_needed(part.text, f"{at}.text"))
    if part.type == "refusal":
        return Part(text=_needed(part.refusal, f"{at}.refusal"))
    if part.type == "image_url":
        image = part.image_url
        url = image.url if isinstance(image, ImageUrl) else image
        return _image(_needed(url, f"{at}.image_url"), f"{at}.image_url.url")
    raise UnsupportedParameter(
        f"{at}: content of type {part.type[:64]!r} is not supported",
        param=f"{at}.type",
        hint="send `text` or `image_url` parts",
    )


def _needed(text: str | None, at: str) -> str:
    if text is None:
        raise BadRequest(f"{at} is required", param=at)
    return text


def _image(url: str, at: str) -> Part:
    head = _DATA_URI.match(url)
    if head is None:
        raise BadRequest(
            f"{at}: only base64 data: URIs are taken",
            param=at,
            hint="this gateway fetches no addresses; send data:image/png;base64,...",
        )
    data = url[head.end() :]
    kind = _image_type(head["type"].lower(), data)
    if kind is None:
        raise BadRequest(f"{at}: the image has to be JPEG, PNG, WebP or GIF", param=at)
    try:
        size = len(binascii.a2b_base64(data, strict_mode=True))
    except ValueError as error:  # binascii.Error is one, and non-ASCII text raises it plainly
        raise BadRequest(f"{at}: bad base64: {error}", param=at) from None
    if not size:
        raise BadRequest(f"{at}: the image is empty", param=at)
    return Part(image_base64=data, image_type=kind)


def _image_type(named: str, data: str) -> str | None:
    if named:
        return _IMAGE_TYPES.get(named)
    for beginning, kind in _IMAGE_BEGINNINGS.items():
        if data.startswith(beginning):
            return kind
    return None


def _assistant(
    body: MessageBody, content: str | list[Part], index: int, calls: dict[str, str]
) -> Message:
    message = Message("assistant", content or body.refusal or "")
    message.thinking = body.reasoning_content or body.reasoning or body.thinking or ""
    at = f"messages[{index}]"
    for number, call in enumerate(body.tool_calls or ()):
        where = f"{at}.tool_calls[{number}]"
        if call.type not in {None, "function"}:
            raise UnsupportedParameter(
                f"{where}: calls of type {call.type[:64]!r} are not supported",
                param=f"{where}.type",
            )
        one = _tool_call(call.function, call.id or f"call_{index}_{number}", f"{where}.function")
        message.tool_calls.append(one)
    if body.function_call is not None:
        old = _tool_call(body.function_call, f"call_{index}", f"{at}.function_call")
        message.tool_calls.append(old)
    for one in message.tool_calls:
        calls[one.id] = one.name
    return message


def _tool_call(function: FunctionCallBody, call_id: str, at: str) -> ToolCall:
    return ToolCall(call_id, function.name, _arguments(function.arguments, f"{at}.arguments"))


def _arguments(raw: msgspec.Raw, at: str) -> str:
    """Return a call's arguments as the text of a JSON object; nothing at all means `{}`."""
    if bytes(raw) in {b"", b"null"}:
        return "{}"
    text = decode_value(_STRING, raw, at).strip() if raw_is_string(raw) else bytes(raw).decode()
    try:
        _OBJECT.decode(text or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadRequest(f"{at}: expected a JSON object, written as a string", param=at) from None
    return text or "{}"


def raw_is_string(raw: msgspec.Raw) -> bool:
    """Return whether a raw value is a JSON string."""
    return bytes(raw).startswith(b'"')


def _tool_result(
    body: MessageBody, content: str | list[Part], index: int, calls: dict[str, str]
) -> Message:
    call_id = body.tool_call_id or _last_call_of(body.name, calls)
    name = body.name or calls.get(call_id, "")
    if not call_id and not name:
        at = f"messages[{index}].tool_call_id"
        raise BadRequest(f"{at} is required", param=at, hint="it names the call that is answered")
    return Message("tool", content, tool_call_id=call_id, tool_name=name)


def _last_call_of(name: str | None, calls: dict[str, str]) -> str:
    """Return the last call of a function: results of the role `function` bear no id."""
    for call_id, called in reversed(calls.items()):
        if called == name:
            return call_id
    return ""
