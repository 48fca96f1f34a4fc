"""Carrying plans out: the snapshot before the first change, and reading back after the last."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from arriero.app.client import Endpoint
from arriero.app.exposition import Readings, read
from arriero.app.smoke.finding import Finding
from arriero.app.webui import gatewaykey, watch
from arriero.app.webui.api import OK, OpenWebUI
from arriero.app.webui.changes import difference
from arriero.app.webui.plans import Asked, Plan, base_url
from arriero.app.webui.snapshot import FORMAT, Snapshot, save
from arriero.app.webui.state import ModelRecord, State, canonical
from arriero.app.webui.trouble import Trouble
from arriero.base.clock import Clock


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """How a canary is watched: for how long, how often, how long to wait for one answer."""

    seconds: float
    every_s: float
    timeout_s: float
    limits: watch.Limits


def begin(
    webui: OpenWebUI,
    gateway: Endpoint,
    asked: Asked,
    plan: Plan,
    snapshot: Snapshot | None,
    unix_s: float,
) -> Snapshot:
    """Return the snapshot to write before the first change of a canary.

    The state before the first canary stays what to go back to. A model that came to the gateway
    since is added as it was before it was touched.
    """
    if snapshot is None:
        return Snapshot(
            format=FORMAT,
            webui=webui.url,
            taken_unix_s=unix_s,
            group=asked.group,
            prefix=plan.prefix,
            gateway=base_url(gateway),
            before=plan.now,
            after=plan.now,
            digests=webui.digests(),
        )
    before = with_models(snapshot.before, plan.now.models, besides=snapshot.after.models)
    return msgspec.structs.replace(snapshot, before=before)


def with_models(
    before: State, records: Sequence[ModelRecord], besides: Sequence[ModelRecord]
) -> State:
    """Return the state with these records, but for those that were there already or are ours."""
    known = {record.id for record in (*before.models, *besides)}
    more = tuple(record for record in records if record.id not in known)
    return msgspec.structs.replace(before, models=(*before.models, *more))


def carry_out_canary(
    webui: OpenWebUI,
    gateway: Endpoint,
    asked: Asked,
    plan: Plan,
    begun: tuple[Path, Snapshot],
) -> Snapshot:
    """Make the changes of a canary and return the snapshot, now with what was left."""
    path, snapshot = begun
    save(path, snapshot)
    key = ""
    if plan.makes_key:
        if plan.replaces_key:  # The one we made is not in use, or was revoked.
            gatewaykey.drop(gateway, asked.key, plan.makes_key)
        key = gatewaykey.make(gateway, asked.key, plan.makes_key)
        # Only now is it ours: a key of that name which was there before is not ours to delete.
        snapshot = msgspec.structs.replace(snapshot, key_alias=plan.makes_key)
        save(path, snapshot)
    return applied(webui, plan, (path, snapshot), key)


def carry_out_promote(webui: OpenWebUI, plan: Plan, begun: tuple[Path, Snapshot]) -> Snapshot:
    """Make the changes of a promotion."""
    return applied(webui, plan, begun)


def applied(webui: OpenWebUI, plan: Plan, begun: tuple[Path, Snapshot], key: str = "") -> Snapshot:
    """Apply a plan, write down what was left also when it broke off, and look whether it is whole.

    Without that note the next command would take our own half of a change for somebody else's.
    """
    path, snapshot = begun
    ids = {record.id for state in (plan.then, snapshot.after) for record in state.models}
    try:
        webui.apply(plan.changes, key)
    finally:
        snapshot = msgspec.structs.replace(snapshot, after=webui.read(snapshot.group, ids))
        save(path, snapshot)
    absent = sorted({record.id for record in plan.then.models} - set(webui.models()))
    if absent:
        raise Trouble(
            f"Open WebUI does not list {', '.join(absent)}",
            "can it reach the gateway? arriero webui rollback goes back",
            code=1,
        )
    return snapshot


def carry_out_rollback(
    webui: OpenWebUI, plan: Plan, begun: tuple[Path, Snapshot], unix_s: float
) -> list[str]:
    """Go back to the snapshot, prove it by reading back, and return what is left to know."""
    path, snapshot = begun
    webui.apply(plan.changes)
    ids = {record.id for state in (plan.now, plan.then) for record in state.models}
    back = webui.read(snapshot.group, ids)
    if canonical(back) != canonical(snapshot.before):
        rest = "; ".join(change.words for change in difference(back, snapshot.before)) or "fields"
        raise Trouble(f"not all is as it was: {rest}", f"the snapshot stays: {path}", code=1)
    save(path, msgspec.structs.replace(snapshot, rolled_back_unix_s=unix_s))
    digests = webui.digests()
    names = {*digests, *snapshot.digests}
    differ = sorted(n for n in names if digests.get(n) != snapshot.digests.get(n))
    if differ:
        return [f"as before, but others changed meanwhile: {', '.join(differ)}"]
    return [f"as before, byte for byte: all {len(digests)} settings of Open WebUI are equal"]


def drop_key(gateway: Endpoint | None, key: str | None, alias: str) -> str:
    """Delete the key that was made for Open WebUI, and tell how that went."""
    if gateway is None or not key:
        return f"the gateway's key {alias} is still valid: --url and --key-file delete it"
    wrong = gatewaykey.drop(gateway, key, alias)
    return f"key {alias}: still valid, {wrong}" if wrong else f"key {alias}: deleted"


def watch_canary(
    webui: OpenWebUI,
    gateway: tuple[Endpoint, str],
    models: Sequence[str],
    watching: Watching,
    clock: Clock,
    tell: Callable[[str], None],
) -> list[Finding]:
    """Chat through Open WebUI for a while, each model in turn, and judge that and the counters."""
    before = readings(gateway)
    end_s = clock.now_s() + watching.seconds
    done: list[watch.Chat] = []
    while True:
        began_s = clock.now_s()
        model = models[len(done) % len(models)]
        one = watch.chat(webui.chat(model, watching.timeout_s))
        done.append(one)
        tell(f"{model}: {one.wrong or 'answered'}, {one.took_s:.2f} s")
        next_s = began_s + watching.every_s
        if next_s >= end_s:
            break
        threading.Event().wait(max(0.0, next_s - clock.now_s()))
    found = watch.chats(done, watching.limits)
    return found + watch.gateway(before, readings(gateway), watching.limits)


def readings(gateway: tuple[Endpoint, str]) -> Readings | None:
    """Return the gateway's counters now, None when it has none."""
    endpoint, key = gateway
    exchange = endpoint.call("GET", "/metrics", key=key)
    return read(exchange.body.decode(errors="replace")) if exchange.status == OK else None
