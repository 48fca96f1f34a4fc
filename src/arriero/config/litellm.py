"""LiteLLM's `config.yaml`: `model_list`, `router_settings`, `general_settings`, ...

Read so that the file means here what its author meant it to: keys count where LiteLLM documents
them and also where it would silently drop them (beside `litellm_params`), what has no effect is a
note with its line, and what LiteLLM would swallow misspelt is an error.
"""

from typing import Any, Final

import msgspec

from arriero.config import litellm_ignored as ignored
from arriero.config import litellm_keys as keys
from arriero.config import litellm_models, masterkey, suggest
from arriero.config.litellm_models import Defaults
from arriero.config.reader import BAD, Place, Reader, fields_of
from arriero.config.settings import Access, Config, Log, Model, Routing, Server
from arriero.config.tree import Entry, Node

KEYS: Final = frozenset(keys.SECTIONS)
_MEGABYTE: Final = 1_048_576
_ALIAS: Final = fields_of(Model)["name"].type


def read(reader: Reader, root: Node, outside: masterkey.Outside) -> Config | None:
    """Return the configuration, or None when mistakes were told."""
    top = reader.mapping(root, "the file")
    _check_top(reader, top)
    reader.environ = {**outside.environ, **_variables(reader, top)}
    router = _section(reader, top, "router_settings", keys.RouterSettings, ignored.ROUTER)
    general = _section(reader, top, "general_settings", keys.GeneralSettings, ignored.GENERAL)
    settings = _section(reader, top, "litellm_settings", keys.LitellmSettings, ignored.LITELLM)
    access = _access(reader, root, general, settings, outside)
    defaults = _defaults(reader, router, settings)
    fleet = litellm_models.read(reader, top.get("model_list"), root, defaults)
    more = _group_aliases(reader, router.entries.get("model_group_alias"), fleet)
    if any(problem.severity == "error" for problem in reader.problems):
        return None
    return Config(
        backends=fleet.backends,
        models=(*fleet.models, *more),
        server=_server(general),
        routing=_routing(reader, router, settings),
        access=access,
        log=Log(level="debug") if settings.given.get("set_verbose") else Log(),
    )


class _Section(msgspec.Struct, frozen=True):
    """A section's entries, and the values among them that count."""

    place: Place | None
    entries: dict[str, Entry]
    given: dict[str, Any]


def _section(
    reader: Reader,
    top: dict[str, Entry],
    name: str,
    cls: type[msgspec.Struct],
    table: dict[str, str],
) -> _Section:
    entry = top.get(name)
    if entry is None:
        return _Section(None, {}, {})
    entries = litellm_models.without_ignored(reader, reader.mapping(entry.node, name), table)
    known = keys.ROUTER_KEYS if cls is keys.RouterSettings else ()
    return _Section(entry, entries, reader.fields(entry, entries, fields_of(cls), known=known))


def _check_top(reader: Reader, top: dict[str, Entry]) -> None:
    for key, entry in litellm_models.without_ignored(reader, top, ignored.TOP).items():
        if key not in KEYS:
            reader.unknown(entry, key, KEYS)


def _variables(reader: Reader, top: dict[str, Entry]) -> dict[str, str]:
    """Return `environment_variables`, which count before the process's own as in LiteLLM."""
    entry = top.get("environment_variables")
    found: dict[str, str] = {}
    entries = reader.mapping(entry.node, "environment_variables") if entry else {}
    for name, each in entries.items():
        if isinstance(each.node.value, (list, dict)):
            reader.error(each.node, f"`{name}` must be a single value")
            continue
        value = reader.resolved(each.node)
        if value is not BAD:
            found[name] = value.text
    return found


def _access(
    reader: Reader, root: Node, general: _Section, settings: _Section, outside: masterkey.Outside
) -> Access:
    entry = general.entries.get("master_key")
    default = Access()
    access = Access(
        metrics_public=settings.given.get("require_auth_for_metrics_endpoint") is False,
        user_header=general.given.get("user_header_name") or default.user_header,
    )
    if entry is not None and "master_key" not in general.given:
        return access
    given = general.given.get("master_key")
    place: Place = entry.node if entry else general.place or root
    key = masterkey.find(reader, outside, place, given=given, file=None)
    return msgspec.structs.replace(access, master_key=key)


def _defaults(reader: Reader, router: _Section, settings: _Section) -> Defaults:
    """Return what holds for entries that do not say otherwise."""
    entry = router.entries.get("default_litellm_params")
    params = reader.mapping(entry.node, "default_litellm_params") if entry else {}
    timeout_at = router.entries.get("timeout") or settings.entries.get("request_timeout")
    if "timeout" in router.given and "request_timeout" in settings.given:
        at = settings.entries["request_timeout"]
        reader.note(at, "`request_timeout` has no effect: `router_settings.timeout` comes first")
    return Defaults(
        params=litellm_models.without_ignored(reader, params, ignored.ENTRY),
        timeout_s=router.given.get("timeout", settings.given.get("request_timeout")),
        timeout_at=timeout_at,
        stream_timeout_s=router.given.get("stream_timeout"),
    )


def _group_aliases(reader: Reader, entry: Entry | None, fleet: litellm_models.Fleet) -> list[Model]:
    """Return the second names of `model_group_alias`, each a model of its own."""
    models = {model.name: model for model in fleet.models}
    named: list[Model] = []
    for alias, each in (reader.mapping(entry.node, "model_group_alias") if entry else {}).items():
        node = each.node
        if isinstance(node.value, dict) and "model" in node.value:
            if "hidden" in node.value:
                at = node.value["hidden"]
                reader.note(at, "`hidden` has no effect: every alias is listed")
            node = node.value["model"].node
        target = reader.value(node, _ALIAS, "model_group_alias")
        if target is BAD:
            continue
        if alias in fleet.names:
            message = f"alias `{alias}` is already the name of a model of `model_list`"
            reader.error(each, message, "rename one of them")
        elif target not in fleet.names:
            hint = suggest.hint(target, fleet.names)
            reader.error(node, f"there is no model `{target}` in `model_list`", hint)
        elif target in models:
            named.append(msgspec.structs.replace(models[target], name=alias))
    return named


def _routing(reader: Reader, router: _Section, settings: _Section) -> Routing:
    default = Routing()
    retries = router.given.get("num_retries")
    retries = settings.given.get("num_retries") if retries is None else retries
    retries = default.retries if retries is None else retries
    _check_retry_policy(reader, router.entries.get("retry_policy"), retries)
    failures = default.failures_max
    if router.given.get("allowed_fails") is not None:
        failures = router.given["allowed_fails"] + 1
        message = f"a host is left out after {failures} HTTP errors in a row, not in a minute"
        reader.note(router.entries["allowed_fails"], message)
    ejection_s = router.given.get("cooldown_time") or default.ejection_s
    return Routing(
        # A file that says nothing means what is nearest to LiteLLM, not what is best here.
        strategy=router.given.get("routing_strategy") or "least-busy",
        retries=retries,
        failures_max=failures,
        ejection_s=ejection_s,
        ejection_max_s=max(ejection_s, default.ejection_max_s),
    )


def _check_retry_policy(reader: Reader, entry: Entry | None, retries: int) -> None:
    if entry is None or entry.node.value is None:
        return
    if isinstance(entry.node.value, dict):
        said = "retries are counted together, whatever the failure"
    elif entry.node.value == "simple":
        said = "LiteLLM has no policy of that name, and ignores it"
    else:
        hint = "remove the line, or set `num_retries`"
        reader.error(entry.node, "`retry_policy` must be a mapping, or `simple`", hint)
        return
    hint = f"the default holds: up to {retries} retries, each on another host"
    reader.note(entry.node, f"`retry_policy` has no effect: {said}", hint)


def _server(general: _Section) -> Server:
    megabytes = general.given.get("max_request_size_mb")
    return Server() if megabytes is None else Server(body_bytes_max=int(megabytes * _MEGABYTE))
