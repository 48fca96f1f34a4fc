"""Prompts that are longer than the context: refused, and never cut in silence.

Theory. Ollama drops the oldest messages of a prompt that does not fit, and says nothing. It is
told not to (`truncate: false`), and the host, which alone can count tokens, refuses what is too
long. That is the rule, and it is exact. What is here only spares a prompt that is *clearly* too
long the way to the host: the queue, the slot, and perhaps a model's load.

How many tokens a prompt has is estimated from its bytes, by what prompts of that model were
counted to have so far: a moving average, because a tokeniser's tokens per byte depend on the
language and the kind of text more than on the prompt. The estimate may be wrong by a factor of
two before a prompt that fits is refused (`SURELY`), and `tests/core/test_overflow.py` holds that.

Short prompts teach nothing, because the template weighs more in them than the text does. Nor do
prompts with images, whose bytes are not text. Before 0.30 Ollama counts only what was not cached;
such a count makes the average too low, which errs to the side of asking the host.
"""

import msgspec

from arriero.base.errors import ContextLengthExceeded
from arriero.wire.canonical import CanonicalRequest, Chat, Completion

SAMPLE_BYTES_MIN = 2_048  # of text; shorter prompts are mostly template
SURELY = 2.0  # by how much an estimate must exceed the context before it is believed
MODELS_MAX = 4_096
_PRIOR = 0.2  # tokens a byte; English has 0.22 to 0.25, code and most other languages more
_WEIGHT = 0.1  # of one more sample
_LOWEST, _HIGHEST = 0.01, 2.0  # tokens a byte; what is outside was counted otherwise


class TokenRatios:
    """How many tokens a byte of text makes, learnt by model."""

    __slots__ = ("_of",)

    def __init__(self) -> None:
        self._of: dict[str, float] = {}

    def learn(self, model: str, text_bytes: int, tokens: int) -> None:
        """Take in what a backend counted for a prompt of `text_bytes`."""
        if text_bytes < SAMPLE_BYTES_MIN:
            return
        ratio = tokens / text_bytes
        if not _LOWEST <= ratio <= _HIGHEST:
            return
        known = self._of.get(model)
        if known is None:
            if len(self._of) < MODELS_MAX:
                self._of[model] = ratio
        else:
            self._of[model] = known + _WEIGHT * (ratio - known)

    def tokens(self, model: str, text_bytes: int) -> int:
        """Return the tokens that `text_bytes` of text are likely to be."""
        return int(text_bytes * self._of.get(model, _PRIOR))


class Limit(msgspec.Struct, frozen=True):
    """What an alias takes: its context in tokens (0: not known), and the operator's own limit."""

    context: int = 0
    input_tokens_max: int = 0


def is_suspect(model: str, body_bytes: int, limit: Limit, ratios: TokenRatios) -> bool:
    """Say whether a body of this size is worth a closer look; JSON is never below its text."""
    tokens = ratios.tokens(model, body_bytes)
    return 0 < limit.input_tokens_max < tokens or 0 < SURELY * limit.context < tokens


def check(request: CanonicalRequest, model: str, limit: Limit, ratios: TokenRatios) -> None:
    """Refuse a prompt that is clearly too long. Raises ContextLengthExceeded.

    `limit.input_tokens_max` is a promise of the configuration that no host keeps, so there the
    estimate counts as it is.
    """
    for text_bytes in _inputs_bytes(request):
        needed = ratios.tokens(model, text_bytes)
        if limit.input_tokens_max and needed > limit.input_tokens_max:
            raise exceeded(needed, limit.input_tokens_max, estimated=True, param=param_of(request))
        if limit.context and needed > SURELY * limit.context:
            raise exceeded(needed, limit.context, estimated=True, param=param_of(request))


def exceeded(
    needed: int, available: int, *, estimated: bool = False, param: str = "messages"
) -> ContextLengthExceeded:
    """Return the refusal, with both figures, in words that clients look for."""
    about = "about " if estimated else ""
    return ContextLengthExceeded(
        f"This model's maximum context length is {available} tokens, "
        f"and the prompt has {about}{needed}.",
        param=param,
        hint="shorten the conversation or begin a new one"
        if param == "messages"
        else "send less text, or divide it",
    )


def estimate(request: CanonicalRequest, model: str, ratios: TokenRatios) -> int:
    """Return about how many tokens the longest text has that has to fit on its own."""
    return ratios.tokens(model, max(_inputs_bytes(request), default=0))


def text_bytes(request: CanonicalRequest) -> int:
    """Return about how many bytes of text a prompt has; 0 when images make that meaningless."""
    return sum(_inputs_bytes(request))


def _inputs_bytes(request: CanonicalRequest) -> list[int]:
    """Return the size of each text that has to fit the context on its own."""
    if isinstance(request, Chat):
        return [_chat_bytes(request)]
    if isinstance(request, Completion):
        return [len(request.prompt.encode()) + len(request.suffix.encode())]
    return [len(text.encode()) for text in request.inputs]


def _chat_bytes(chat: Chat) -> int:
    total = sum(len(tool.parameters) + len(tool.description) for tool in chat.tools)
    for message in chat.messages:
        content = message.content
        if isinstance(content, str):
            total += len(content.encode())
        elif any(part.image_base64 for part in content):
            return 0
        else:
            total += sum(len(part.text.encode()) for part in content)
        total += sum(len(call.arguments) for call in message.tool_calls)
    return total


def param_of(request: CanonicalRequest) -> str:
    """Return the parameter that holds the text."""
    if isinstance(request, Chat):
        return "messages"
    return "prompt" if isinstance(request, Completion) else "input"
