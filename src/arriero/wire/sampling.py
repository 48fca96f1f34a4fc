"""How tokens are drawn, written into a backend's body; the names are the same everywhere.

OpenAI's two penalties keep their names at every backend. They are never written as repeat_penalty,
which multiplies where they add.
"""

import msgspec

from arriero.config.settings import OptionValue
from arriero.wire.canonical import Sampling
from arriero.wire.parsing import parse

Options = dict[str, OptionValue | list[str] | msgspec.Raw]

# Options that decide over a host's hardware or reload its model: a client's never count.
HOST_OPTIONS = frozenset(
    {
        "draft_num_predict", "low_vram", "main_gpu", "num_batch", "num_gpu", "num_thread", "numa",
        "use_mlock", "use_mmap",
    }
)  # fmt: skip

SAMPLING_NAMES = (
    "temperature", "top_p", "top_k", "min_p", "seed", "stop", "presence_penalty",
    "frequency_penalty", "repeat_penalty",
)  # fmt: skip

_integer = msgspec.json.Decoder(int)


def put_sampling(
    target: Options, sampling: Sampling, limit_name: str, output_tokens_max: int | None
) -> None:
    """Write what the client said into `target`, over what stands there.

    `limit_name` is what the backend calls the number of tokens to write; whoever wished for it, it
    never exceeds `output_tokens_max`.
    """
    for name in SAMPLING_NAMES:
        value = getattr(sampling, name)
        if value is not None:
            target[name] = value
    if sampling.max_tokens is not None:
        target[limit_name] = sampling.max_tokens
    if output_tokens_max is not None:
        target[limit_name] = _capped(target.get(limit_name), output_tokens_max)


def _capped(wish: object, tokens_max: int) -> int:
    """Return the lower of the two; a negative wish means "no end" to Ollama and llama.cpp."""
    if isinstance(wish, msgspec.Raw):
        try:
            wish = parse(_integer, bytes(wish))
        except ValueError:
            return tokens_max
    return min(wish, tokens_max) if isinstance(wish, int) and wish >= 0 else tokens_max
