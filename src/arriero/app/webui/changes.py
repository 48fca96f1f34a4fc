"""The difference of two states as a list of calls of the admin API, told in words without a key."""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from arriero.app.webui.state import (
    EVERYBODY,
    Document,
    Grant,
    Group,
    ModelRecord,
    OpenAI,
    State,
)


class Change(Struct, frozen=True):
    """One call: a method, a path, a body, and what it does in words.

    `makes_group` marks the call whose answer tells the id of the new group.
    """

    words: str
    method: str
    path: str
    body: Any = None
    makes_group: bool = False


def difference(now: State, then: State, *, backwards: bool = False) -> list[Change]:
    """Return the calls that make `then` of `now`; none when they are equal.

    Forwards the connection comes first and the general default last, so that nobody finds a model
    chosen that is not there yet; backwards is the other way round, for the same reason.
    """
    steps = [_openai(now.openai, then.openai), _group(now.group, then.group), _models(now, then)]
    changes = [change for step in steps for change in step]
    changes += _defaults(now.defaults, then.defaults)
    changes += _gone_group(now.group, then.group)
    return changes[::-1] if backwards else changes


def _openai(now: OpenAI, then: OpenAI) -> Iterator[Change]:
    if now == then:
        return
    body = {
        "ENABLE_OPENAI_API": then.enabled,
        "OPENAI_API_BASE_URLS": list(then.urls),
        "OPENAI_API_KEYS": list(then.keys),
        "OPENAI_API_CONFIGS": then.configs,
    }
    words = "; ".join(_connection_words(now, then))
    yield Change(f"connections: {words}", "POST", "/openai/config/update", body)


def _connection_words(now: OpenAI, then: OpenAI) -> Iterator[str]:
    if bool(now.enabled) != bool(then.enabled):
        yield f"switch OpenAI-compatible connections {'on' if then.enabled else 'off'}"
    for n, url in enumerate(then.urls):
        if n >= len(now.urls):
            prefix = then.config(n).get("prefix_id") or "none"
            yield f"add {url} (prefix {prefix})"
        elif changed := _connection_fields(now, then, n):
            yield f"{url}: change {', '.join(changed)}"
    for url in now.urls[len(then.urls) :]:
        yield f"remove {url}"


def _connection_fields(now: OpenAI, then: OpenAI, n: int) -> list[str]:
    """Return the names of what differs in a connection, never the values: one is the key."""
    old, new = now.config(n), then.config(n)
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    if now.urls[n] != then.urls[n]:
        names.insert(0, "address")
    return names + (["key"] if now.key(n) != then.key(n) else [])


def _group(now: Group | None, then: Group | None) -> Iterator[Change]:
    if then is None:
        return
    form = {
        "name": then.name,
        "description": then.description,
        "parent_group_id": then.parent_group_id,
        "permissions": then.permissions,
        "data": then.data,
    }
    default = ", ".join(then.default_models) or "none"
    if now is None:
        words = f"group {then.name}: create, with default model {default}"
        yield Change(words, "POST", "/api/v1/groups/create", form, makes_group=True)
    elif (now.data, now.permissions, now.description) != (
        then.data,
        then.permissions,
        then.description,
    ):
        words = f"group {then.name}: set default model {default}"
        yield Change(words, "POST", f"/api/v1/groups/id/{then.id}/update", form)
    before = set(now.members) if now else set()
    for verb, ids in (("add", set(then.members) - before), ("remove", before - set(then.members))):
        if ids:
            words = f"group {then.name}: {verb} {_count(len(ids), 'member')}"
            path = f"/api/v1/groups/id/{then.id}/users/{verb}"
            yield Change(words, "POST", path, {"user_ids": sorted(ids)})


def _gone_group(now: Group | None, then: Group | None) -> Iterator[Change]:
    if now is not None and then is None:
        yield Change(f"group {now.name}: delete", "DELETE", f"/api/v1/groups/id/{now.id}/delete")


def _models(now: State, then: State) -> Iterator[Change]:
    for record in then.models:
        before = now.model(record.id)
        if before is None:
            words = f"model {record.id}: create, for {_who(record.grants, then)}"
            yield Change(words, "POST", "/api/v1/models/create", _form(record))
        elif before.grants != record.grants:
            body = {"id": record.id, "name": record.name, "access_grants": _grants(record)}
            words = f"model {record.id}: grant to {_who(record.grants, then)}"
            yield Change(words, "POST", "/api/v1/models/model/access/update", body)
    for record in now.models:
        if then.model(record.id) is None:
            body = {"id": record.id}
            yield Change(f"model {record.id}: forget", "POST", "/api/v1/models/model/delete", body)


def _form(record: ModelRecord) -> Document:
    return {
        "id": record.id,
        "name": record.name,
        "base_model_id": record.base_model_id,
        "params": record.params,
        "meta": record.meta,
        "is_active": record.is_active,
        "access_grants": _grants(record),
    }


def _grants(record: ModelRecord) -> list[Document]:
    return [
        {
            "principal_type": g.principal_type,
            "principal_id": g.principal_id,
            "permission": g.permission,
        }
        for g in record.grants
    ]


def _who(grants: tuple[Grant, ...], state: State) -> str:
    if EVERYBODY in grants:
        return "everybody"
    group = state.group
    names = [
        f"group {group.name}" if group and g.principal_id == group.id else g.principal_type
        for g in grants
    ]
    return ", ".join(sorted(set(names))) or "admins only"


def _defaults(now: Document, then: Document) -> Iterator[Change]:
    if now != then:
        words = f"everybody's default model: {then.get('DEFAULT_MODELS') or 'none'}"
        yield Change(words, "POST", "/api/v1/configs/models", then)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
