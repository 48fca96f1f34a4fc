"""Which model options reach Ollama, and whose word counts.

From the weakest to the strongest: the alias's `options`; options a client sent on its own, when the
alias allows that; the client's sampling parameters; the alias's context and output limit. The
context is never the client's where the alias has one: differing `num_ctx` reload the model.
"""

import msgspec

from arriero.config.settings import Model, OptionValue
from arriero.wire.canonical import CanonicalRequest, Embedding, Sampling

Options = dict[str, OptionValue | list[str] | msgspec.Raw]

# Load-time options decide over the host's hardware and reload the model; a client's never count.
HOST_OPTIONS = frozenset(
    {
        "draft_num_predict", "low_vram", "main_gpu", "num_batch", "num_gpu", "num_thread", "numa",
        "use_mlock", "use_mmap",
    }
)  # fmt: skip

# Ollama's names for the canonical ones. OpenAI's penalties are these and never repeat_penalty,
# which multiplies instead of adding.
_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "seed", "stop", "presence_penalty",
    "frequency_penalty", "repeat_penalty",
)  # fmt: skip

_integer = msgspec.json.Decoder(int)


def options(request: CanonicalRequest, model: Model) -> Options:
    """Return the `options` of a request; empty when neither side has any."""
    result: Options = dict(model.options)
    if request.model_options and model.client_options == "allow":
        result.update(
            (name, value)
            for name, value in request.model_options.items()
            if name not in HOST_OPTIONS
        )
    if not isinstance(request, Embedding):
        _draw(result, request.sampling, model.max_output_tokens)
    if model.context is not None:
        result["num_ctx"] = model.context
    return result


def keep_alive(request: CanonicalRequest, model: Model) -> int | str | None:
    """Return how long the model stays loaded: the alias's word, unless clients may choose."""
    if request.keep_alive is not None and model.client_options == "allow":
        return request.keep_alive
    return model.keep_alive


def _draw(result: Options, sampling: Sampling, max_output_tokens: int | None) -> None:
    for name in _SAMPLING:
        value = getattr(sampling, name)
        if value is not None:
            result[name] = value
    if sampling.max_tokens is not None:
        result["num_predict"] = sampling.max_tokens
    if max_output_tokens is not None:
        result["num_predict"] = _capped(result.get("num_predict"), max_output_tokens)


def _capped(wish: object, tokens_max: int) -> int:
    """Return the lower of the two; Ollama reads a negative wish as "no end"."""
    if isinstance(wish, msgspec.Raw):
        try:
            wish = _integer.decode(wish)
        except ValueError:
            return tokens_max
    return min(wish, tokens_max) if isinstance(wish, int) and wish >= 0 else tokens_max
