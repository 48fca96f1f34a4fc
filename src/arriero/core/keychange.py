"""Changes of keys: from the key that was and what is asked for to the key that is.

Every change comes with the detail of its audit entry: which fields are others now, never their
values, because metadata may hold whatever a client put there, and a secret stands in no field.

A patch is a merge patch in the sense of RFC 7396: what is left out stays, what is null is cleared.
"""

from typing import Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from arriero.base.errors import BadRequest
from arriero.config.forms import NotThisForm, duration
from arriero.core.keys import (
    SECRET_CHARS_MAX,
    SECRET_CHARS_MIN,
    SECRET_PREFIX,
    Key,
    Limits,
    OperationName,
    Role,
)

Action = Literal["create", "update", "rotate", "block", "unblock", "delete"]
T = TypeVar("T")
Wanted: TypeAlias = T | UnsetType | None

NEVER: Final = "-1"  # LiteLLM's word for a key that does not expire
DURATION_S_MAX: Final = 100 * 366 * 86_400.0
_LIMITS: Final = Limits.__struct_fields__
# What no patch names, or what would show in every entry.
_UNTOLD: Final = frozenset(
    (
        "id", "digest", "hint", "created_unix_s", "created_by", "updated_unix_s", "updated_by",
        "previous_digest", "previous_until_unix_s",
    )
)  # fmt: skip


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be changed. `lifetime_s` counts from now; None lets the key live for ever.

    `model_requests_per_minute` and `model_tokens_per_minute` are that one limit of every model:
    a model that they do not name loses it. `per_model` replaces all limits of models.
    """

    alias: Wanted[str] = UNSET
    role: Wanted[Role] = UNSET
    owner: Wanted[str] = UNSET
    models: Wanted[tuple[str, ...]] = UNSET
    operations: Wanted[tuple[OperationName, ...]] = UNSET
    priority: Wanted[str] = UNSET
    trusted: Wanted[bool] = UNSET
    blocked: Wanted[bool] = UNSET
    lifetime_s: Wanted[float] = UNSET
    requests_per_minute: Wanted[int] = UNSET
    tokens_per_minute: Wanted[int] = UNSET
    concurrent: Wanted[int] = UNSET
    tokens_per_day: Wanted[int] = UNSET
    tokens_per_month: Wanted[int] = UNSET
    per_model: Wanted[dict[str, Limits]] = UNSET
    model_requests_per_minute: Wanted[dict[str, int]] = UNSET
    model_tokens_per_minute: Wanted[dict[str, int]] = UNSET
    tags: Wanted[tuple[str, ...]] = UNSET
    metadata: Wanted[bytes] = UNSET
    labels: Wanted[dict[str, str | None]] = UNSET


class Stamp(msgspec.Struct, frozen=True):
    """Who makes a change, and when."""

    by: str  # a key's id, or "master"
    now_unix_s: float


class Drawn(msgspec.Struct, frozen=True):
    """A new secret as the key knows it; drawing it is the caller's, as chance is."""

    digest: bytes
    hint: str


class Change(msgspec.Struct, frozen=True):
    """One change of one key. `detail` is a JSON object for the audit, without secrets."""

    action: Action
    key: Key
    detail: bytes


def make(key_id: str, drawn: Drawn, patch: Patch, stamp: Stamp) -> Change:
    """Return a new key as the patch wants it."""
    blank = Key(id=key_id, digest=drawn.digest, hint=drawn.hint)
    key = msgspec.structs.replace(
        _patched(blank, patch, stamp),
        created_unix_s=stamp.now_unix_s,
        created_by=stamp.by,
    )
    return Change("create", key, _detail(blank, key))


def update(key: Key, patch: Patch, stamp: Stamp) -> Change:
    """Return the key with what the patch names changed."""
    new = _patched(key, patch, stamp)
    return Change("update", new, _detail(key, new))


def rotate(key: Key, drawn: Drawn, patch: Patch, stamp: Stamp, grace_s: float = 0.0) -> Change:
    """Return the key with another secret; the one it had works on for `grace_s` seconds.

    A secret that was still working from the rotation before ends now: a key has two at most.
    """
    changed = _patched(key, patch, stamp)
    new = msgspec.structs.replace(
        changed,
        digest=drawn.digest,
        hint=drawn.hint,
        previous_digest=key.digest if grace_s > 0 else b"",
        previous_until_unix_s=stamp.now_unix_s + grace_s if grace_s > 0 else 0.0,
    )
    return Change("rotate", new, _detail(key, new, grace_s=grace_s))


def block(key: Key, stamp: Stamp, *, blocked: bool) -> Change:
    """Return the key refused from now on, or let in again."""
    new = _patched(key, Patch(blocked=blocked), stamp)
    return Change("block" if blocked else "unblock", new, _detail(key, new))


def delete(key: Key) -> Change:
    """Return the end of a key."""
    return Change("delete", key, msgspec.json.encode({"alias": key.alias}))


def check_secret(secret: str, param: str) -> str:
    """Return a secret that somebody brings, if it may be one. Raises BadRequest, without it."""
    if (
        not secret.startswith(SECRET_PREFIX)
        or not SECRET_CHARS_MIN <= len(secret) <= SECRET_CHARS_MAX
        or not secret.isascii()
        or not secret.isprintable()
        or " " in secret
    ):
        raise BadRequest(
            f"{param}: an own key begins with `{SECRET_PREFIX}` and has {SECRET_CHARS_MIN} to "
            f"{SECRET_CHARS_MAX} printable ASCII characters without blanks",
            param=param,
            hint="leave it out, and one with 256 random bits is made",
        )
    return secret


def lifetime(text: str | None, param: str = "duration") -> float | None:
    """Return the seconds of `30s`, `30m`, `30h`, `30d`; None for ever (`-1` or null).

    Raises BadRequest.
    """
    if text is None or text == NEVER:
        return None
    seconds = seconds_of(text, param)
    if seconds <= 0:
        raise BadRequest(f"{param} has to be more than nothing", param=param, hint="such as `30d`")
    return seconds


def seconds_of(text: str, param: str) -> float:
    """Return the seconds of a duration. Raises BadRequest."""
    try:
        seconds = duration(text)
    except NotThisForm as wrong:
        raise BadRequest(
            f"{param} has to be {wrong.expected}", param=param, hint="such as `30s`, `12h`, `30d`"
        ) from None
    if seconds > DURATION_S_MAX:
        raise BadRequest(
            f"{param} is longer than a hundred years", param=param, hint="`-1` never ends"
        )
    return seconds


def _patched(key: Key, patch: Patch, stamp: Stamp) -> Key:
    _check_alias(patch.alias)
    lifetime_s = patch.lifetime_s
    expires_unix_s = key.expires_unix_s
    if not isinstance(lifetime_s, UnsetType):
        expires_unix_s = 0.0 if lifetime_s is None else stamp.now_unix_s + lifetime_s
    return Key(
        id=key.id,
        digest=key.digest,
        hint=key.hint,
        alias=_either(patch.alias, key.alias, ""),
        role=_either(patch.role, key.role, "user"),
        owner=_either(patch.owner, key.owner, ""),
        models=_either(patch.models, key.models, ()),
        operations=_either(patch.operations, key.operations, ()),
        priority=_either(patch.priority, key.priority, ""),
        trusted=_either(patch.trusted, key.trusted, default=False),
        blocked=_either(patch.blocked, key.blocked, default=False),
        expires_unix_s=expires_unix_s,
        limits=_limits(key.limits, patch),
        per_model=_per_model(key.per_model, patch),
        tags=_either(patch.tags, key.tags, ()),
        metadata=_either(patch.metadata, key.metadata, b""),
        labels=_labels(key.labels, patch.labels),
        created_unix_s=key.created_unix_s,
        created_by=key.created_by,
        updated_unix_s=stamp.now_unix_s,
        updated_by=stamp.by,
        previous_digest=key.previous_digest,
        previous_until_unix_s=key.previous_until_unix_s,
    )


def _either(wanted: Wanted[T], old: T, default: T) -> T:
    if isinstance(wanted, UnsetType):
        return old
    return default if wanted is None else wanted


def _limits(old: Limits | None, patch: Patch) -> Limits | None:
    """Return the limits with those of the patch changed, None when there are none."""
    wanted = {name: getattr(patch, name) for name in _LIMITS}
    given = {name: value for name, value in wanted.items() if value is not UNSET}
    return _or_none(msgspec.structs.replace(old or Limits(), **given))


def _per_model(old: dict[str, Limits] | None, patch: Patch) -> dict[str, Limits] | None:
    found = dict(_either(patch.per_model, old or {}, {}))
    for name, wanted in (
        ("requests_per_minute", patch.model_requests_per_minute),
        ("tokens_per_minute", patch.model_tokens_per_minute),
    ):
        if isinstance(wanted, UnsetType):
            continue
        values = wanted or {}
        for model in found.keys() | values.keys():
            changed = {name: values.get(model)}
            found[model] = msgspec.structs.replace(found.get(model, Limits()), **changed)
    return {model: limits for model, limits in found.items() if _or_none(limits)} or None


def _or_none(limits: Limits) -> Limits | None:
    return None if limits == Limits() else limits


def _labels(
    old: dict[str, str] | None, wanted: Wanted[dict[str, str | None]]
) -> dict[str, str] | None:
    if isinstance(wanted, UnsetType):
        return old
    merged = {**(old or {}), **(wanted or {})} if wanted is not None else {}
    return {name: value for name, value in merged.items() if value} or None


def _check_alias(alias: Wanted[str]) -> None:
    """Refuse what somebody may take for a secret: aliases stand in answers, logs and the audit."""
    if not isinstance(alias, str):
        return
    if alias.startswith(SECRET_PREFIX):
        raise BadRequest(
            f"an alias does not begin with `{SECRET_PREFIX}`, as secrets do",
            param="key_alias",
            hint="a name for people, such as `open-webui`",
        )
    if not alias.isprintable() or alias != alias.strip():
        raise BadRequest(
            "an alias has no line breaks, and no blanks at its ends", param="key_alias"
        )


def _detail(old: Key, new: Key, **more: object) -> bytes:
    changed = [
        name
        for name in Key.__struct_fields__
        if name not in _UNTOLD and getattr(old, name) != getattr(new, name)
    ]
    return msgspec.json.encode({"alias": new.alias, "fields": changed, **more})
