"""What each command is going to do, found out by reading only: a plan, which can be shown first."""

from collections.abc import Sequence
from difflib import get_close_matches

import msgspec

from arriero.app.client import Endpoint
from arriero.app.smoke.fleet import status_page
from arriero.app.smoke.steps import STATUS_PATH
from arriero.app.webui import gatewaykey
from arriero.app.webui.api import OpenWebUI, User
from arriero.app.webui.changes import Change, difference
from arriero.app.webui.desired import Wanted, canary, promoted
from arriero.app.webui.snapshot import Snapshot
from arriero.app.webui.state import NEW_KEY, OpenAI, State, model_id
from arriero.app.webui.trouble import Trouble

HINT_CANARY = "arriero webui canary begins; --snapshot FILE names another file"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks of a canary. `members` are e-mail addresses.

    Without `aliases` all chat models of the gateway are meant, without `default` the first.
    """

    key: str
    prefix: str = "gw"
    group: str = "canary"
    members: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    default: str | None = None
    key_alias: str = "open-webui"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What would be done, and what people should know of it.

    `makes_key` is the alias of a key to be made, which `replaces_key` where we made one before.
    """

    now: State
    then: State
    changes: tuple[Change, ...]
    notes: tuple[str, ...] = ()
    default: str = ""
    prefix: str = ""
    makes_key: str | None = None
    replaces_key: bool = False


def base_url(gateway: Endpoint) -> str:
    """Return the address that stands in Open WebUI's connection."""
    return f"{gateway.url}/v1"


def plan_canary(
    webui: OpenWebUI, gateway: Endpoint, asked: Asked, snapshot: Snapshot | None
) -> Plan:
    """Find out what a canary would change."""
    url = base_url(gateway)
    if snapshot is not None and (snapshot.gateway, snapshot.group) != (url, asked.group):
        raise Trouble(
            f"a canary of {snapshot.gateway} with the group {snapshot.group} stands already",
            "arriero webui rollback first, or --snapshot FILE for a second one",
            code=2,
        )
    connections = webui.connections()  # First, as it tells who is no administrator.
    aliases = chosen(webui.verify(url, asked.key), embedding_aliases(gateway, asked.key), asked)
    default = asked.default or aliases[0]
    key, notes = choose_key(gateway, connections, asked)
    position = connections.position(url)
    known = None if position is None else connections.config(position).get("prefix_id") or ""
    prefix = asked.prefix if known is None else known
    if known is not None and known != asked.prefix:
        notes.append(f"the connection is there already and keeps its prefix, {known or 'none'}")
    now = webui.read(asked.group, [model_id(prefix, alias) for alias in aliases])
    wanted = Wanted(
        url=url,
        key=key,
        prefix=prefix,
        group=asked.group,
        members=member_ids(webui.users(), asked.members),
        aliases=aliases,
        default=default,
    )
    then = canary(now, wanted)
    notes += fallback_notes(webui.ollama_urls())
    if then.group is not None and not then.group.members:
        notes.append(f"nobody is in the group {asked.group}: --member E-MAIL")
    return Plan(
        now=now,
        then=then,
        changes=tuple(difference(now, then)),
        notes=tuple(notes),
        default=model_id(prefix, default),
        prefix=prefix,
        makes_key=asked.key_alias if key == NEW_KEY else None,
        replaces_key=snapshot is not None and snapshot.key_alias == asked.key_alias,
    )


def embedding_aliases(gateway: Endpoint, key: str) -> set[str]:
    """Return the aliases that only embed, as far as the gateway tells."""
    page = status_page(gateway.call("GET", STATUS_PATH, key=key))
    return {model.name for model in page.models if model.mode == "embedding"} if page else set()


def chosen(listed: Sequence[str], embedding: set[str], asked: Asked) -> tuple[str, ...]:
    """Return the aliases to offer: those asked for, or all that can chat."""
    wanted = [*asked.aliases, *([asked.default] if asked.default else [])]
    for alias in wanted:
        if alias not in listed:
            near = get_close_matches(alias, listed, 1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(listed) or 'none'}"
            raise Trouble(f"the gateway has no alias {alias}", hint, code=2)
    aliases = asked.aliases or tuple(alias for alias in listed if alias not in embedding)
    if not aliases:
        raise Trouble("the gateway has no alias for chats", "arriero status tells why", code=1)
    if asked.default and asked.default not in aliases:
        aliases = (*aliases, asked.default)
    return aliases


def choose_key(gateway: Endpoint, connections: OpenAI, asked: Asked) -> tuple[str, list[str]]:
    """Return the key for the connection, and what people should know of it."""
    position = connections.position(base_url(gateway))
    stored = "" if position is None else connections.key(position)
    api = gatewaykey.ask_key_api(gateway, asked.key)
    kept = stored and (stored != asked.key or not api.ready) and gatewaykey.works(gateway, stored)
    if api.ready:
        return (stored, []) if kept else (NEW_KEY, [f"key {asked.key_alias}: make at the gateway"])
    note = (
        f"{api.reason}, so the key you gave itself goes into Open WebUI; if it is the master key, "
        "whoever administers Open WebUI administers the gateway"
    )
    return (stored, [] if stored != asked.key else [note]) if kept else (asked.key, [note])


def member_ids(users: Sequence[User], emails: Sequence[str]) -> tuple[str, ...]:
    """Return the ids of the accounts with these e-mail addresses."""
    known = {user.email.lower(): user.id for user in users}
    for email in emails:
        if email.lower() not in known:
            near = get_close_matches(email.lower(), known, 1)
            hint = (
                f"did you mean {near[0]}?" if near else "Open WebUI's admin panel lists its users"
            )
            raise Trouble(f"Open WebUI has no user {email}", hint, code=2)
    return tuple(known[email.lower()] for email in emails)


def fallback_notes(ollama_urls: Sequence[str]) -> list[str]:
    """Tell what people can still use when the gateway is away."""
    if ollama_urls:
        return [f"direct Ollama stays as the fallback: {', '.join(ollama_urls)}"]
    return ["Open WebUI has no direct Ollama connection: there is no fallback"]


def plan_promote(webui: OpenWebUI, snapshot: Snapshot, default: str | None) -> Plan:
    """Find out what promoting the canary would change."""
    ids = [record.id for record in snapshot.after.models]
    now = webui.read(snapshot.group, ids)
    missing = sorted(set(ids) - {record.id for record in now.models})
    if now.openai.position(snapshot.gateway) is None or missing:
        what = ", ".join(missing) or f"the connection {snapshot.gateway}"
        raise Trouble(f"the canary is not whole: {what} is gone", HINT_CANARY, code=1)
    usual = now.group.default_models if now.group else []
    model = model_id(snapshot.prefix, default) if default else next(iter(usual), "")
    if model not in ids:
        hint = f"--model, one of {', '.join(ids)} without its prefix"
        raise Trouble(f"{model or 'no model'} is not one of the canary's", hint, code=2)
    then = promoted(now, model)
    return Plan(
        now=now,
        then=then,
        changes=tuple(difference(now, then)),
        notes=tuple(fallback_notes(webui.ollama_urls())),
        default=model,
        prefix=snapshot.prefix,
    )


def plan_rollback(webui: OpenWebUI, snapshot: Snapshot, *, force: bool) -> Plan:
    """Find out what going back to the snapshot would change."""
    ids = {record.id for state in (snapshot.before, snapshot.after) for record in state.models}
    now = webui.read(snapshot.group, ids)
    foreign = others_changes(snapshot.after, now)
    if foreign and not force:
        raise Trouble(
            "somebody else changed what would be replaced: " + "; ".join(foreign),
            "--force replaces it all the same; --dry-run --force shows how",
            code=1,
        )
    changes = difference(now, snapshot.before, backwards=True)
    return Plan(now=now, then=snapshot.before, changes=tuple(changes), prefix=snapshot.prefix)


def others_changes(left: State, now: State) -> list[str]:
    """Return what others changed in the documents that are replaced as a whole."""
    both = (
        ("the OpenAI-compatible connections", left.openai, now.openai),
        ("everybody's models", left.defaults, now.defaults),
    )
    return [what for what, old, new in both if old != new]


def standing(snapshot: Snapshot | None) -> Snapshot:
    """Return the snapshot of a canary that stands."""
    if snapshot is None or snapshot.rolled_back_unix_s is not None:
        raise Trouble("there is no canary to go on from", HINT_CANARY, code=2)
    return snapshot
