"""LiteLLM's `model_list` to backends and aliases.

One entry is one model on one server. Entries with the same server share a backend, so that its
load is counted once; entries with the same `model_name` are one alias.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from arriero.config import addresses, reloads
from arriero.config import litellm_ignored as ignored
from arriero.config import litellm_keys as keys
from arriero.config.litellm_keys import Deployment
from arriero.config.litellm_provider import Server, Target, names_cloud, target
from arriero.config.reader import Place, Reader, fields_of
from arriero.config.settings import Backend, Model, Route, Timeouts
from arriero.config.tree import Entry, Node

# Keys of an entry that belong to the alias, and the field of Model that each becomes.
ALIAS_FIELDS: Final = {
    "mode": "mode",
    "num_retries": "retries",
    "num_ctx": "context",
    "keep_alive": "keep_alive",
    "max_input_tokens": "max_input_tokens",
    "max_output_tokens": "max_output_tokens",
    "supports_function_calling": "tools",
    "supports_vision": "vision",
    "supports_reasoning": "thinking",
}
# A shorter timeout than this is sooner over than many a cold load.
_COLD_LOAD_S: Final = 120.0
_OPTION_KEYS: Final = frozenset(fields_of(keys.Options))


class Defaults(msgspec.Struct, frozen=True):
    """What holds for entries that do not say otherwise; `timeout_at` is where that is said."""

    params: dict[str, Entry]
    timeout_s: float | None
    timeout_at: Place | None
    stream_timeout_s: float | None


class Fleet(msgspec.Struct, frozen=True):
    """What a model list means; `names` holds the aliases that could not be read too."""

    backends: tuple[Backend, ...]
    models: tuple[Model, ...]
    names: frozenset[str]


class _Placed(msgspec.Struct, frozen=True):
    """An entry that could be read, with its place and the places of its keys."""

    at: Place
    keys: dict[str, Entry]
    entry: Deployment
    target: Target
    timeouts: Timeouts
    options: dict[str, Any]


def read(reader: Reader, section: Entry | None, root: Node, defaults: Defaults) -> Fleet:
    """Return backends and aliases; the mistakes in others are told."""
    if section is None or not section.node.value:
        reader.error(section or root, "no models: there is nothing to serve", "fill `model_list`")
        return Fleet((), (), frozenset())
    names: set[str] = set()
    placed = []
    for node in reader.items(section.node, "model_list"):
        entry = _entry(reader, node, defaults, names)
        if entry is not None:
            placed.append(entry)
    _tell_useless_timeout(reader, placed, defaults)
    servers = list(dict.fromkeys(each.target.server for each in placed))
    derived = addresses.derive_names([server.url for server in servers])
    by_server = dict(zip(servers, derived, strict=True))
    groups: dict[str, list[_Placed]] = {}
    for each in placed:
        groups.setdefault(each.entry.model_name, []).append(each)
    models = [_model(reader, name, group, by_server) for name, group in groups.items()]
    backends = [
        Backend(name=name, url=server.url, kind=server.kind, api_key=server.api_key)
        for server, name in by_server.items()
    ]
    reloads.tell(reader, backends, models, lambda name: groups[name][0].at)
    return Fleet(tuple(backends), tuple(models), frozenset(names))


def without_ignored(
    reader: Reader, entries: Mapping[str, Entry], table: Mapping[str, str]
) -> dict[str, Entry]:
    """Return the entries that may count; those known to have no effect are told."""
    left: dict[str, Entry] = {}
    for key, entry in entries.items():
        reason = "nothing is billed" if "cost_per" in key else table.get(key)
        if key in ignored.REFUSED:
            reader.error(entry, f"`{key}` is not supported", ignored.REFUSED[key])
        elif reason is not None:
            reader.note(entry, f"`{key}` has no effect: {reason}")
        else:
            left[key] = entry
    return left


def _entry(reader: Reader, node: Node, defaults: Defaults, names: set[str]) -> _Placed | None:
    if not isinstance(node.value, dict):
        reader.error(node, "an entry must be a mapping with `model_name` and `litellm_params`")
        return None
    name = node.value.get("model_name")
    names |= {name.node.text} if name else set()
    if "litellm_params" not in node.value:
        hint = "it holds `model` and `api_base`"
        reader.error(node, "`litellm_params` is missing", hint)
        return None
    entries = defaults.params | _entries(reader, node.value)
    if names_cloud(reader, entries):
        return None
    before = len(reader.problems)
    given = reader.fields(node, entries, fields_of(Deployment), known=_OPTION_KEYS)
    chosen = {key: entry for key, entry in entries.items() if key in _OPTION_KEYS}
    options = reader.fields(node, chosen, fields_of(keys.Options))
    if any(problem.severity == "error" for problem in reader.problems[before:]):
        return None
    entry = Deployment(**given)
    where = target(reader, entries["model"].node, entry, _place(entries, "api_base", node))
    if where is None:
        return None
    timeouts = _timeouts(reader, node, entries, entry, defaults)
    return _Placed(node, entries, entry, where, timeouts, options)


def _entries(reader: Reader, outer: dict[str, Entry]) -> dict[str, Entry]:
    """Return one set of keys from the three places where an entry's keys are written."""
    params = reader.mapping(outer["litellm_params"].node, "litellm_params")
    params = without_ignored(reader, params, ignored.ENTRY)
    beside = {key: entry for key, entry in outer.items() if key not in keys.ENTRY_SECTIONS}
    beside = without_ignored(reader, beside, ignored.ENTRY)
    info = _model_info(reader, outer.get("model_info"))
    for key in params.keys() & (beside | info).keys():
        if (beside | info)[key].node.value != params[key].node.value:
            at = (beside | info)[key]
            reader.note(at, f"`{key}` has no effect: the one in `litellm_params` comes first")
    return info | beside | params


def _model_info(reader: Reader, entry: Entry | None) -> dict[str, Entry]:
    """Return the keys of model_info that count; it may hold any others, as in LiteLLM."""
    if entry is None:
        return {}
    entries = reader.mapping(entry.node, "model_info")
    entries = without_ignored(reader, entries, ignored.MODEL_INFO)
    right = {*ALIAS_FIELDS, "timeout", "request_timeout", "stream_timeout", "weight"}
    for key in entries.keys() - right:
        reader.note(entries[key], f"`{key}` has no effect: it describes and changes nothing")
    return {key: entry for key, entry in entries.items() if key in right}


def _timeouts(
    reader: Reader, node: Node, entries: dict[str, Entry], entry: Deployment, defaults: Defaults
) -> Timeouts:
    """Return an entry's timeouts: LiteLLM's one figure is a limit on silence, not on the whole."""
    base = Timeouts()
    own = entry.timeout if entry.timeout is not None else entry.request_timeout
    whole = own if own is not None else defaults.timeout_s
    stream = entry.stream_timeout if entry.stream_timeout is not None else defaults.stream_timeout_s
    silence = whole if stream is None else stream
    if silence is not None and silence < _COLD_LOAD_S:
        key = "timeout" if entry.timeout is not None else "request_timeout"
        key = "stream_timeout" if entry.stream_timeout is not None else key
        at = defaults.timeout_at or node if own is None and stream is None else node
        reader.note(
            _place(entries, key, at),
            f"{silence:g} s may be less than a model takes to load",
            f"while it is not loaded, {base.load_s:g} s are granted on top",
        )
    return msgspec.structs.replace(
        base,
        first_token_s=base.first_token_s if silence is None else silence,
        inter_token_s=base.inter_token_s if silence is None else silence,
        response_s=base.response_s if whole is None else whole,
        total_s=max(base.total_s, whole or 0.0, silence or 0.0),
    )


def _tell_useless_timeout(reader: Reader, placed: list[_Placed], defaults: Defaults) -> None:
    own = [each.entry.timeout or each.entry.request_timeout for each in placed]
    if defaults.timeout_at is not None and placed and all(own):
        message = "this timeout has no effect: every entry of `model_list` sets its own"
        reader.note(defaults.timeout_at, message)


def _model(reader: Reader, name: str, group: list[_Placed], by_server: dict[Server, str]) -> Model:
    """Return one alias from its entries, after telling what they do not agree on."""
    said = {key: [getattr(each.entry, key) for each in group] for key in ALIAS_FIELDS}
    settings = {
        field: _agreed(reader, group, key, said[key]) for key, field in ALIAS_FIELDS.items()
    }
    names = dict.fromkeys(key for each in group for key in each.options)
    options = {
        key: _agreed(reader, group, key, [each.options.get(key) for each in group]) for key in names
    }
    return Model(
        name=name,
        routes=_routes(reader, group, by_server),
        options=_in_the_backends_words(group, options),
        **settings,
    )


def _agreed(reader: Reader, group: list[_Placed], key: str, values: list[Any]) -> Any:
    """Return the one value that entries of an alias give to `key`, or None."""
    given = [(each, value) for each, value in zip(group, values, strict=True) if value is not None]
    for other, value in given[1:]:
        first, agreed = given[0]
        if value != agreed:
            line = first.keys[key].line
            message = f"`{key}` differs from line {line}, and belongs to the alias as a whole"
            hint = "give all entries of one `model_name` the same value"
            reader.error(other.keys[key].node, message, hint)
    return given[0][1] if given else None


def _routes(
    reader: Reader, group: list[_Placed], by_server: dict[Server, str]
) -> tuple[Route, ...]:
    routes: dict[tuple[str, str], Route] = {}
    for each in group:
        backend, model = by_server[each.target.server], each.target.model
        weight = 1.0 if each.entry.weight is None else each.entry.weight
        if (backend, model) in routes:
            message = f"`{each.entry.model_name}` has the same model on this server already"
            reader.note(each.at, message, "it counts once; use `weight` for a larger share")
            continue
        routes[backend, model] = Route(
            backend=backend,
            model=model,
            weight=weight,
            slots=each.entry.max_parallel_requests,
            timeouts=each.timeouts,
        )
    return tuple(routes.values())


def _in_the_backends_words(group: list[_Placed], options: dict[str, Any]) -> dict[str, Any]:
    """Return an alias's options as its backends call them: max_tokens is Ollama's num_predict."""
    ollama = all(each.target.server.kind == "ollama" for each in group)
    limit = "num_predict" if ollama else "max_tokens"
    renamed = {"max_tokens": limit, "max_completion_tokens": limit}
    return {renamed.get(key, key): value for key, value in options.items() if value is not None}


def _place(entries: Mapping[str, Entry], key: str, otherwise: Place) -> Place:
    return entries[key].node if key in entries else otherwise
