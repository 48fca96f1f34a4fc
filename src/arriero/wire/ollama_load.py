"""Requests that load a model and generate nothing.

Ollama loads a model for a request without a prompt and answers `"done_reason": "load"`. A model
that only embeds does not generate; it loads for an empty list of inputs (server/routes.go,
GenerateHandler and EmbedHandler).
"""

import msgspec

from arriero.config.settings import Model
from arriero.wire.ollama_options import load_options
from arriero.wire.sampling import Options

FOREVER = -1


class _LoadBody(msgspec.Struct, gc=False, omit_defaults=True):
    model: str
    stream: bool
    options: Options = {}
    keep_alive: int | str | None = None


class _EmbedLoadBody(msgspec.Struct, gc=False, omit_defaults=True):
    model: str
    input: list[str]
    options: Options = {}
    keep_alive: int | str | None = None


_encode = msgspec.json.Encoder().encode


def load_request(
    upstream_model: str, model: Model, *, embeds: bool, keep: bool
) -> tuple[bytes, bytes]:
    """Return the path and the body that load `upstream_model` as the alias's requests need it.

    `embeds` is for a model that only embeds. What is to be kept stays loaded for ever, unless the
    alias says how long.
    """
    keep_alive = model.keep_alive
    if keep_alive is None and keep:
        keep_alive = FOREVER
    options = load_options(model)
    if embeds:
        body = _encode(_EmbedLoadBody(upstream_model, [], options, keep_alive))
        return b"/api/embed", body
    return b"/api/generate", _encode(_LoadBody(upstream_model, False, options, keep_alive))  # noqa: FBT003 - a field of the body
