"""Make a prompt fit the context, or say that it does not: Ollama's `truncate`."""

from collections.abc import Callable

from arriero.embedded.asked import ApiError
from arriero.embedded.template import Turn, droppable, render_chat

Encode = Callable[[str], list[int]]

TOO_LONG = "the prompt is longer than the context length currently available"


def fit_chat(
    turns: list[Turn], encode: Encode, tokens_max: int, *, truncate: bool
) -> tuple[str, list[int]]:
    """Return the prompt of a conversation as text and tokens.

    With `truncate` the oldest turns go, but never system messages or the last turn; what is too
    long even then is refused, and so is anything too long without `truncate`.
    """
    left = list(turns)
    while True:
        text = render_chat(left)
        tokens = encode(text)
        if len(tokens) <= tokens_max:
            return text, tokens
        oldest = droppable(left) if truncate else None
        if oldest is None:
            raise ApiError(400, f"{TOO_LONG}: {len(tokens)} tokens, {tokens_max} fit")
        del left[oldest]


def fit_text(tokens: list[int], tokens_max: int, keep: int, *, truncate: bool) -> list[int]:
    """Return a prompt without its middle when it is too long: its first `keep` tokens stay."""
    if len(tokens) <= tokens_max:
        return tokens
    if not truncate:
        raise ApiError(400, f"{TOO_LONG}: {len(tokens)} tokens, {tokens_max} fit")
    head = min(max(keep, 0), tokens_max // 2)
    return tokens[:head] + tokens[len(tokens) - (tokens_max - head) :]
