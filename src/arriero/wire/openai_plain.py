"""The common chat, decoded in one step: text turns, the usual sampling, nothing else.

Most requests of most clients are of this shape, and the general way (`openai_request.decode_chat`)
takes 5 µs to look at all that could be in them. Here msgspec does the looking: whatever is not
plain is not decoded at all and goes the general way, which also words all errors. A property test
holds that both ways give the same `Chat`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from arriero.wire.canonical import Chat, Message, Sampling
from arriero.wire.openai_sampling import ModelName, Penalty, Share, StreamOptions

_INT32_MAX = 2**31 - 1
_Limit = Annotated[int, Meta(ge=1, le=_INT32_MAX)]


class _Turn(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["system", "user", "assistant"]
    content: str


class _Plain(msgspec.Struct, forbid_unknown_fields=True):
    model: ModelName
    messages: Annotated[list[_Turn], Meta(min_length=1)]
    stream: bool = False
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: _Limit | None = None
    max_completion_tokens: _Limit | None = None
    top_p: Share | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    stream_options: StreamOptions | None = None


_decode = msgspec.json.Decoder(_Plain).decode


def decode_plain_chat(body: bytes) -> Chat | None:
    """Return the chat in `body` if it is plain, else None; never raises."""
    try:
        plain = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    asked = plain.stream_options
    limit = plain.max_completion_tokens
    return Chat(
        model=plain.model,
        messages=[Message(turn.role, turn.content) for turn in plain.messages],
        text_only=True,
        stream=plain.stream,
        include_usage=asked is not None and plain.stream and bool(asked.include_usage),
        sampling=Sampling(
            temperature=plain.temperature,
            top_p=plain.top_p,
            presence_penalty=plain.presence_penalty,
            frequency_penalty=plain.frequency_penalty,
            max_tokens=plain.max_tokens if limit is None else limit,
        ),
    )
