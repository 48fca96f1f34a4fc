"""Aliases that would have a host load the same model anew, again and again.

Ollama keeps a model loaded with one set of load-time options. A request with others, first of all
another `num_ctx`, unloads it and loads it anew, which takes seconds to minutes and loses every
prompt cache. Two aliases of one model on one host must therefore agree, or are best told.
"""

from collections.abc import Callable, Iterable
from typing import Final

from arriero.config.reader import Place, Reader
from arriero.config.settings import Backend, Model, OptionValue

# Besides `num_ctx`, which is `context` here (Ollama's api/types.go, Runner).
LOAD_OPTIONS: Final = (
    "draft_num_predict", "main_gpu", "num_batch", "num_gpu", "num_thread", "use_mmap",
)  # fmt: skip

_Loading = tuple[int | None, tuple[OptionValue | None, ...]]


def tell(
    reader: Reader,
    backends: Iterable[Backend],
    models: Iterable[Model],
    place_of: Callable[[str], Place],
) -> None:
    """Note each alias that loads a model otherwise than an alias before it does."""
    ollama = {backend.name for backend in backends if backend.kind == "ollama"}
    first: dict[tuple[str, str], Model] = {}
    for model in models:
        others = {
            first.setdefault((route.backend, _tagged(route.model)), model).name: route
            for route in model.routes
            if route.backend in ollama
        }
        for name, route in others.items():
            other = first[route.backend, _tagged(route.model)]
            if _loading(other) != _loading(model):
                reader.note(
                    place_of(model.name),
                    f"`{model.name}` and `{name}` load `{route.model}` on backend "
                    f"`{route.backend}` differently ({_difference(model, other)}): requests for "
                    "one unload it for the other",
                    "give both the same `context` and load-time options, or different backends",
                )


def _tagged(model: str) -> str:
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def _loading(model: Model) -> _Loading:
    return model.context, tuple(model.options.get(name) for name in LOAD_OPTIONS)


def _difference(one: Model, other: Model) -> str:
    if one.context != other.context:
        return f"`context` {_shown(one.context)} and {_shown(other.context)}"
    name = next(name for name in LOAD_OPTIONS if one.options.get(name) != other.options.get(name))
    return f"`{name}` {_shown(one.options.get(name))} and {_shown(other.options.get(name))}"


def _shown(value: OptionValue | None) -> str:
    return "not given" if value is None else str(value)
