"""Which model options reach Ollama, and whose word counts.

From the weakest to the strongest: the alias's `options`; options a client sent on its own, when the
alias allows that; the client's sampling parameters; the alias's context and output limit. The
context is never the client's where the alias has one: differing `num_ctx` reload the model.
"""

from arriero.config.settings import Model
from arriero.wire.canonical import CanonicalRequest, Embedding, Sampling
from arriero.wire.sampling import HOST_OPTIONS, Options, put_sampling

AnyOptions = Options | Sampling
_NO_SAMPLING = Sampling()


def options(request: CanonicalRequest, model: Model) -> AnyOptions:
    """Return the `options` of a request; empty when neither side has any."""
    asked = None if isinstance(request, Embedding) else request.sampling
    if (  # nobody but the client has a say, and it reads as Ollama's options already
        asked is not None
        and asked != _NO_SAMPLING
        and not (model.options or request.model_options)
        and model.context is None
        and model.max_output_tokens is None
    ):
        return asked
    return _merged(request, model)


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


def load_options(model: Model) -> Options:
    """Return the `options` by which the model is loaded: those that every request of it has.

    Others, or the same with another value, would make the first request load it once more.
    """
    result: Options = dict(model.options)
    if model.context is not None:
        result["num_ctx"] = model.context
    return result


def keep_alive(request: CanonicalRequest, model: Model) -> int | str | None:
    """Return how long the model stays loaded: the alias's word, unless clients may choose."""
    if request.keep_alive is not None and model.client_options == "allow":
        return request.keep_alive
    return model.keep_alive
