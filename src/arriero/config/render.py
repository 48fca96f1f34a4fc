"""The configuration in force, as YAML in the gateway's own vocabulary.

All defaults are written out and secrets are stars. Loading it again gives the same settings but
for the secrets; a test holds that.
"""

from collections import Counter
from typing import Any, Final

import msgspec
import yaml

from arriero.config.settings import Config, Model, Route, Secret, Timeouts

MASK: Final = "***"


def effective(config: Config) -> str:
    """Return the configuration as YAML."""
    return yaml.safe_dump(
        effective_data(config), sort_keys=False, allow_unicode=True, width=100, indent=2
    )


def effective_data(config: Config) -> dict[str, Any]:
    """Return the configuration as plain data, in the keys of the gateway's own vocabulary."""
    timeouts = _common_timeouts(config)
    data: dict[str, Any] = _plain(config)
    del data["digest"]
    models = [_model(model, timeouts) for model in config.models]
    return data | {"models": models, "timeouts": _plain(timeouts)}


def _common_timeouts(config: Config) -> Timeouts:
    """Return the timeouts that most routes have, which then stand once for all."""
    counts = Counter(route.timeouts for model in config.models for route in model.routes)
    return counts.most_common(1)[0][0] if counts else Timeouts()


def _model(model: Model, timeouts: Timeouts) -> dict[str, Any]:
    """Return one alias, its routes in the shortest form that says all."""
    data: dict[str, Any] = _plain(model)
    del data["routes"]
    first = model.routes[0]
    placed: dict[str, Any] = {"name": data.pop("name")}
    if all(route == _plain_route(route.backend, first) for route in model.routes):
        placed |= {"model": first.model, "backends": [route.backend for route in model.routes]}
        placed |= {"timeouts": _plain(first.timeouts)} if first.timeouts != timeouts else {}
    else:
        placed["backends"] = [_route(route, timeouts) for route in model.routes]
    return placed | data


def _plain_route(backend: str, like: Route) -> Route:
    return Route(backend=backend, model=like.model, timeouts=like.timeouts)


def _route(route: Route, timeouts: Timeouts) -> dict[str, Any]:
    data: dict[str, Any] = _plain(route)
    if route.timeouts == timeouts:
        del data["timeouts"]
    return data


def _plain(value: Any) -> Any:
    """Return a setting as YAML writes it; what is not set is left out."""
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, msgspec.Struct):
        pairs = ((name, getattr(value, name)) for name in value.__struct_fields__)
        return {name: _plain(each) for name, each in pairs if each is not None}
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
