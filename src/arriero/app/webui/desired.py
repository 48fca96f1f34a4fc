"""The states that are wanted: of what there is, and what was asked for, what there should be."""

import msgspec

from arriero.app.webui.state import (
    EVERYBODY,
    NEW_GROUP,
    Document,
    Grant,
    Group,
    ModelRecord,
    OpenAI,
    State,
    in_order,
    model_id,
)

# Open WebUI fills the templates in for each request. Chats of one conversation can so be sent to
# the backend that has its prefix cached, people can be told apart behind one key, and titles and
# tags can be told from what somebody waits for.
FORWARDED = {
    "X-OpenWebUI-User-Id": "{{USER_ID}}",
    "X-OpenWebUI-Chat-Id": "{{CHAT_ID}}",
    "X-OpenWebUI-Task": "{{TASK}}",
}

# `usage` makes Open WebUI ask for token counts. Its built-in tools are 20 KB of schema with every
# chat: a model without tools refuses them, and a small context has little room beside them.
CAPABILITIES = {"usage": True, "builtin_tools": False}

GROUP_DESCRIPTION = "Chats through the gateway, before everybody's do."


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a canary is asked to be. `url` is the gateway's as Open WebUI reaches it, with /v1.

    `members` are user ids, `default` the alias that they find chosen.
    """

    url: str
    key: str
    prefix: str
    group: str
    members: tuple[str, ...]
    aliases: tuple[str, ...]
    default: str


def canary(now: State, wanted: Wanted) -> State:
    """Return the state in which the group's members, and nobody else, get the gateway's models."""
    openai, prefix = with_connection(now.openai, wanted)
    group = with_members(now.group, wanted, model_id(prefix, wanted.default))
    grant = Grant("group", group.id, "read")
    models = {record.id: record for record in now.models}
    for alias in wanted.aliases:
        name = model_id(prefix, alias)
        record = models.get(name) or ModelRecord(
            id=name, name=alias, meta={"capabilities": CAPABILITIES}
        )
        models[name] = granted(record, grant)
    return in_order(
        State(openai=openai, defaults=now.defaults, group=group, models=tuple(models.values()))
    )


def with_connection(now: OpenAI, wanted: Wanted) -> tuple[OpenAI, str]:
    """Return the connections with the gateway's among them, and its prefix.

    A connection that is there already keeps its place, its prefix and what else is set in it.
    """
    position = now.position(wanted.url)
    fresh = position is None
    if position is None:
        position = len(now.urls)
    known: Document = {
        "prefix_id": wanted.prefix,
        "connection_type": "local",
        "tags": [],
        "model_ids": [],
    }
    config = (known if fresh else now.config(position)) | {"enable": True}
    config["headers"] = {**(config.get("headers") or {}), **FORWARDED}
    keys = [now.key(n) for n in range(len(now.urls))] + ([""] if fresh else [])
    keys[position] = wanted.key
    configs = now.configs if now.enabled else resting(now)
    return (
        OpenAI(
            enabled=True,
            urls=(*now.urls, wanted.url) if fresh else now.urls,
            keys=tuple(keys),
            configs={**configs, str(position): config},
        ),
        config.get("prefix_id") or "",
    )


def resting(now: OpenAI) -> dict[str, Document]:
    """Return the settings of connections which slept, as all did, and go on sleeping one by one.

    The one switch for all of them has to be on for the gateway's sake. The address that a new Open
    WebUI comes with is OpenAI's own, and asking it would delay every list of models.
    """
    configs = {str(n): {**now.config(n), "enable": False} for n in range(len(now.urls))}
    return {**now.configs, **configs}


def with_members(now: Group | None, wanted: Wanted, default: str) -> Group:
    """Return the group with these members added and this default model, all else as it was."""
    group = now or Group(id=NEW_GROUP, name=wanted.group, description=GROUP_DESCRIPTION)
    data = group.data or {}
    config = {**(data.get("config") or {}), "default_models": [default]}
    return msgspec.structs.replace(
        group,
        data={**data, "config": config},
        members=tuple(sorted({*group.members, *wanted.members})),
    )


def granted(record: ModelRecord, grant: Grant) -> ModelRecord:
    """Return the record with this grant, too."""
    return msgspec.structs.replace(record, grants=tuple(sorted({*record.grants, grant})))


def promoted(now: State, default: str) -> State:
    """Return the state in which everybody may use these models and finds `default` chosen."""
    models = tuple(granted(record, EVERYBODY) for record in now.models)
    defaults = {**now.defaults, "DEFAULT_MODELS": default}
    return in_order(msgspec.structs.replace(now, defaults=defaults, models=models))
