"""Log probabilities as servers of OpenAI's API write them, in the one shape we keep.

Chats have a list of tokens under `content`. Completions have parallel lists, an older shape, but
llama.cpp writes the chat's there too.
"""

from itertools import zip_longest

import msgspec


class Logprobs(msgspec.Struct, gc=False):
    """The `logprobs` of a choice, in either shape."""

    content: msgspec.Raw = msgspec.Raw(b"")
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Token(msgspec.Struct, gc=False):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _TokenChoices(msgspec.Struct, gc=False):
    token: str
    logprob: float
    bytes: list[int] | None
    top_logprobs: list[_Token]


_encode = msgspec.json.Encoder().encode


def token_logprobs(logprobs: Logprobs) -> msgspec.Raw | None:
    """Return the JSON array of tokens, None when there are none."""
    content = bytes(logprobs.content)
    if content.startswith(b"["):
        return msgspec.Raw(content) if content != b"[]" else None
    if not logprobs.tokens:
        return None
    return msgspec.Raw(_encode(_zipped(logprobs.tokens, logprobs)))


def _zipped(tokens: list[str], logprobs: Logprobs) -> list[_TokenChoices]:
    rows = zip_longest(tokens, logprobs.token_logprobs or (), logprobs.top_logprobs or ())
    return [
        # A prompt's first token has no probability.
        _TokenChoices(token, own or 0.0, None, [_Token(*item) for item in (top or {}).items()])
        for token, own, top in rows
        if token is not None
    ]
