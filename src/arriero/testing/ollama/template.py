"""How a simulated model turns messages into its prompt, and back.

One chat template for all models (ChatML): a trailing assistant message is left open or closed and
followed by a new turn, as `SimModel.continues_prefill` says; real templates do either.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

_OPEN: Final = "<|im_start|>"
_CLOSE: Final = "<|im_end|>\n"
_ANSWER: Final = f"{_OPEN}assistant\n"

Message = Mapping[str, Any]


def render(
    messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = (), *, prefill: bool = True
) -> str:
    """Return the prompt; `prefill` leaves a trailing assistant message open."""
    turns = [_tools(tools)] if tools else []
    turns += [_turn(message) for message in messages]
    if prefill and messages and messages[-1].get("role") == "assistant":
        turns[-1] = turns[-1].removesuffix(_CLOSE)
    else:
        turns.append(_ANSWER)
    return "".join(turns)


def split_raw(prompt: str) -> tuple[str, str]:
    """Return the user's text and the begun answer of a rendered prompt.

    A prompt that no template made is all question.
    """
    head, mark, begun = prompt.rpartition(_ANSWER)
    if not mark:
        return prompt, ""
    question = head.rpartition(f"{_OPEN}user\n")[2]
    return question.partition(_CLOSE)[0], begun


def _turn(message: Message) -> str:
    images = "".join(f"[img-{at}]" for at in range(len(message.get("images") or ())))
    calls = message.get("tool_calls")
    called = json.dumps(calls) if calls else ""
    thoughts = message.get("thinking") or message.get("reasoning_content") or ""
    thought = f"<think>{thoughts}</think>\n" if thoughts else ""
    said = f"{images}{thought}{message.get('content', '')}{called}"
    return f"{_OPEN}{message.get('role', '')}\n{said}{_CLOSE}"


def _tools(tools: Sequence[Mapping[str, Any]]) -> str:
    return f"{_OPEN}system\n{json.dumps(list(tools))}{_CLOSE}"
