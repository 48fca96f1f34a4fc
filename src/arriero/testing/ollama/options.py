"""`options`: the names Ollama knows, their types and defaults, and which of them reload a model.

Source: api/types.go (Options, Runner, FromMap, DefaultOptions).
"""

from collections.abc import Mapping
from typing import Any, Final

LOAD_TIME: Final[dict[str, Any]] = {
    "num_ctx": 0,
    "num_batch": 512,
    "num_gpu": -1,
    "main_gpu": None,
    "use_mmap": None,
    "num_thread": 0,
    "draft_num_predict": 0,
}
DEFAULTS: Final[dict[str, Any]] = {
    **LOAD_TIME,
    "num_keep": 4,
    "seed": -1,
    "num_predict": -1,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "temperature": 0.8,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "stop": [],
}
_FLOATS: Final = frozenset(name for name, value in DEFAULTS.items() if isinstance(value, float))
_NUM_CTX_MIN: Final = 4
# A vision model gets at least this much context (server/sched.go, getRunner).
VISION_NUM_CTX_MIN: Final = 2048
# Open-ended generation is bounded to this many contexts (llm/llama_server.go, boundedNumPredict).
OPEN_ENDED_CONTEXTS: Final = 10


class BadOption(Exception):
    """A known option has a wrong type; Ollama answers 500 with these words."""


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults overridden by each layer in turn; unknown names are ignored."""
    options = dict(DEFAULTS)
    for layer in layers:
        for name, value in layer.items():
            if name in DEFAULTS and value is not None:
                options[name] = _checked(name, value)
    return options


def num_ctx(asked: int, default: int, trained: int, *, vision: bool) -> int:
    """Return the context a model is loaded with."""
    context = max(asked or default, _NUM_CTX_MIN)
    if vision:
        context = max(context, VISION_NUM_CTX_MIN)
    return min(context, trained) if trained else context


def predict_limit(num_predict: int, context: int) -> int:
    """Return how many tokens may be generated."""
    limit = OPEN_ENDED_CONTEXTS * context
    # 0 is left out of the runner's request, and so means the default.
    return limit if num_predict <= 0 else min(num_predict, limit)


def _checked(name: str, value: object) -> object:
    if name == "stop":
        return _checked_stop(value)
    if name == "use_mmap":
        if not isinstance(value, bool):
            raise BadOption('option "use_mmap" must be of type boolean')
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        kind = "float32" if name in _FLOATS else "integer"
        raise BadOption(f'option "{name}" must be of type {kind}')
    return float(value) if name in _FLOATS else int(value)


def _checked_stop(value: object) -> list[str]:
    if not isinstance(value, list):
        raise BadOption('option "stop" must be of type array')
    if not all(isinstance(item, str) for item in value):
        raise BadOption('option "stop" must be of an array of strings')
    return value
