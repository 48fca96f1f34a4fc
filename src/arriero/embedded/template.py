"""ChatML as SmolLM2's own template writes it, and what a trailing assistant message does.

The template is a few lines, so it is written here as code instead of carrying a Jinja engine. A
last message by the assistant is left open and continued, as Ollama does on the paths that can:
that is what lets a gateway resume a stream that broke.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

DEFAULT_SYSTEM: Final = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"


class Turn(msgspec.Struct, frozen=True):
    """One message of a conversation."""

    role: str
    content: str


def render_chat(turns: Sequence[Turn]) -> str:
    """Return the prompt for a conversation, ready for the assistant to go on."""
    given = list(turns)
    if not given or given[0].role != "system":
        given.insert(0, Turn("system", DEFAULT_SYSTEM))
    if given[-1].role == "assistant":
        return _closed(given[:-1]) + _opened("assistant") + given[-1].content
    return _closed(given) + _opened("assistant")


def droppable(turns: Sequence[Turn]) -> int | None:
    """Return the index of the oldest turn that may go when a prompt is too long.

    System messages and the last turn always stay (Ollama's rule for `truncate`).
    """
    for index, turn in enumerate(turns[:-1]):
        if turn.role != "system":
            return index
    return None


def _closed(turns: Iterable[Turn]) -> str:
    return "".join(f"{_opened(turn.role)}{turn.content}{END}\n" for turn in turns)


def _opened(role: str) -> str:
    return f"{START}{role}\n"
