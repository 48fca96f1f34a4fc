"""Which model options reach Ollama, and whose word counts.

From the weakest to the strongest: the alias's `options`; options a client sent on its own, when the
alias allows that; the client's sampling parameters; the alias's context and output limit. The
context is never the client's where the alias has one: differing `num_ctx` reload the model.
"""

import msgspec

from arriero.config.settings import Model
from arriero.wire.canonical import CanonicalRequest, Embedding, Sampling
from arriero.wire.sampling import HOST_OPTIONS, Options, put_sampling


class _WithContext(Sampling, gc=False, omit_defaults=True, rename={"max_tokens": "num_predict"}):
    num_ctx: int | None = None


AnyOptions = Options | Sampling
_NO_SAMPLING = Sampling()
_NO_LIMIT = 2**53


def options(request: CanonicalRequest, model: Model) -> AnyOptions:
    """Return the `options` of a request; empty when neither side has any."""
    if model.options or request.model_options:
        return _merged(request, model)
    if isinstance(request, Embedding):
        return {} if model.context is None else {"num_ctx": model.context}
    sampling = request.sampling
    if model.context is None and model.max_output_tokens is None:
        return sampling if sampling != _NO_SAMPLING else {}
    options = _WithContext(**msgspec.structs.asdict(sampling))
    options.num_ctx = model.context
    if model.max_output_tokens is not None:
        options.max_tokens = min(options.max_tokens or _NO_LIMIT, model.max_output_tokens)
    return options


def _merged(request: CanonicalRequest, model: Model) -> Options:
    result: Options = dict(model.options)
    if model.client_options == "allow":
        result.update(
            (name, value)
            for name, value in request.model_options.items()
            if name not in HOST_OPTIONS
        )
    if not isinstance(request, Embedding):
        put_sampling(result, request.sampling, "num_predict", model.max_output_tokens)
    if model.context is not None:
        result["num_ctx"] = model.context
    return result


def keep_alive(request: CanonicalRequest, model: Model) -> int | str | None:
    """Return how long the model stays loaded: the alias's word, unless clients may choose."""
    if request.keep_alive is not None and model.client_options == "allow":
        return request.keep_alive
    return model.keep_alive
