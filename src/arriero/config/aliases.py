"""`models:` of the gateway's own vocabulary: aliases and their routes."""

from typing import Any, Final

import msgspec

from arriero.config import suggest
from arriero.config.reader import BAD, Reader, fields_of
from arriero.config.settings import Model, Route, Timeouts
from arriero.config.tree import Entry, Node

# Keys of a model besides the fields of Model: the short form of its routes.
MODEL_KEYS: Final = ("model", "backends", "timeouts")
# Options that have a setting of their own, because they belong to the alias on every host alike.
_NOT_OPTIONS: Final = {"num_ctx": "context", "keep_alive": "keep_alive"}
_MODEL_NAME: Final = fields_of(Route)["model"].type
_BACKEND_NAME: Final = fields_of(Route)["backend"].type


class Base(msgspec.Struct, frozen=True):
    """What aliases build on: the names of all backends, and the timeouts that hold for all."""

    backends: tuple[str, ...]
    timeouts: Timeouts


def read(reader: Reader, section: Node | None, base: Base) -> list[Model]:
    """Return the aliases that could be read; the mistakes in others are told."""
    models: dict[str, Model] = {}
    lines: dict[str, int] = {}
    for node in reader.items(section, "models") if section else []:
        model = _model(reader, node, base)
        if model is None:
            continue
        if model.name in models:
            first = lines[model.name]
            message = f"model `{model.name}` is given twice; the first is in line {first}"
            reader.error(node, message, "list all its backends in one place")
        models.setdefault(model.name, model)
        lines.setdefault(model.name, node.line)
    return list(models.values())


def _model(reader: Reader, node: Node, base: Base) -> Model | None:
    if not isinstance(node.value, dict):
        reader.error(node, "a model must be a mapping", 'write {name: llama3, model: "llama3:8b"}')
        return None
    entries = node.value
    given = reader.fields(node, entries, fields_of(Model, "routes"), known=MODEL_KEYS)
    check_options(reader, entries.get("options"))
    model = reader.value(entries["model"].node, _MODEL_NAME, "model") if "model" in entries else ""
    timeouts = _timeouts(reader, entries, base.timeouts)
    default = Route(backend="", model=model or given.get("name", ""), timeouts=timeouts)
    routes = _routes(reader, entries.get("backends"), default, base)
    return Model(routes=routes, **given) if "name" in given else None


def check_options(reader: Reader, entry: Entry | None) -> None:
    """Tell options that have a setting of their own."""
    if entry is None or not isinstance(entry.node.value, dict):
        return
    for name, setting in _NOT_OPTIONS.items():
        if name in entry.node.value:
            at = entry.node.value[name]
            reader.error(at, f"`{name}` is not an option here", f"set `{setting}` of the model")


def _timeouts(reader: Reader, entries: dict[str, Entry], base: Timeouts) -> Timeouts:
    entry = entries.get("timeouts")
    if entry is None:
        return base
    given = reader.fields(entry, reader.mapping(entry.node, "timeouts"), fields_of(Timeouts))
    return msgspec.structs.replace(base, **given)


def _routes(reader: Reader, entry: Entry | None, default: Route, base: Base) -> tuple[Route, ...]:
    if entry is None:
        return tuple(msgspec.structs.replace(default, backend=name) for name in base.backends)
    if entry.node.value in (None, []):
        reader.error(
            entry,
            "no backends: the model could never be served",
            "remove the line to run it on all of them",
        )
        return ()
    routes: dict[tuple[str, str], Route] = {}
    for item in reader.items(entry.node, "backends"):
        route = _route(reader, item, default, base)
        if route is None:
            continue
        if (route.backend, route.model) in routes:
            reader.error(item, f"backend `{route.backend}` is listed twice", "use `weight`")
        routes[route.backend, route.model] = route
    return tuple(routes.values())


def _route(reader: Reader, item: Node, default: Route, base: Base) -> Route | None:
    """Return one route, written as a backend's name or as a mapping with more to say."""
    at = item
    if isinstance(item.value, dict):
        given: dict[str, Any] = reader.fields(
            item,
            item.value,
            fields_of(Route, "timeouts"),
            known=("timeouts",),
            defaults={"model": default.model},
        )
        given["timeouts"] = _timeouts(reader, item.value, default.timeouts)
        at = item.value["backend"].node if "backend" in item.value else item
    else:
        name = reader.value(item, _BACKEND_NAME, "backends")
        given = {} if name is BAD else {"backend": name}
    backend = given.get("backend")
    if backend is None:
        return None
    if backend not in base.backends:
        hint = suggest.hint(backend, base.backends)
        reader.error(at, f"there is no backend `{backend}`", hint)
        return None
    return msgspec.structs.replace(default, **given)
