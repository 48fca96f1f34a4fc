"""Keys as the API shows them: LiteLLM's row of a key, without its secret, and our own fields.

What LiteLLM keeps and we do not is there with the value it has when nothing is set, so that a
client that reads it finds it: no prices are counted, so nothing was spent and no budget is set.
"""

from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from arriero.admin.fields import ROUTES
from arriero.core.keys import Key, Limits, OperationName, Role

Status = Literal["active", "expired", "revoked"]
_NO_LIMITS = Limits()


class KeyInfo(msgspec.Struct, kw_only=True):
    """A key, without what its holder has. Times are RFC 3339 in UTC."""

    token_id: str
    key_name: str
    key_alias: str | None
    status: Status
    blocked: bool
    expires: str | None
    models: tuple[str, ...]
    user_id: str | None
    team_id: str | None
    organization_id: str | None
    project_id: str | None
    agent_id: str | None
    metadata: msgspec.Raw
    tags: tuple[str, ...]
    max_parallel_requests: int | None
    rpm_limit: int | None
    tpm_limit: int | None
    tpd_limit: int | None
    tokens_per_month: int | None
    model_rpm_limit: dict[str, int]
    model_tpm_limit: dict[str, int]
    model_limits: dict[str, Limits]
    allowed_routes: tuple[str, ...]
    key_type: str
    role: Role
    operations: tuple[OperationName, ...]
    priority: str
    trusted: bool
    previous_until: str | None
    created_at: str | None
    created_by: str | None
    updated_at: str | None
    updated_by: str | None
    # What only LiteLLM has.
    spend: float = 0.0
    max_budget: float | None = None
    soft_budget: float | None = None
    budget_id: str | None = None
    budget_duration: str | None = None
    budget_reset_at: str | None = None
    model_max_budget: dict[str, Any] = {}
    model_spend: dict[str, Any] = {}
    litellm_budget_table: dict[str, Any] | None = None
    aliases: dict[str, Any] = {}
    config: dict[str, Any] = {}
    permissions: dict[str, Any] = {}
    allowed_cache_controls: tuple[str, ...] = ()
    last_active: str | None = None


class KeyObject(KeyInfo, kw_only=True):
    """The same with the key's id under LiteLLM's name for it."""

    token: str


class MadeKey(KeyObject, kw_only=True):
    """A key with its secret, which is shown this once."""

    key: str


class UpdatedKey(KeyObject, kw_only=True):
    """A key after a change; `key` is what the caller named it by."""

    key: str


def status_of(key: Key, now_unix_s: float) -> Status:
    """Return LiteLLM's word for how a key is."""
    if key.blocked:
        return "revoked"
    return "expired" if key.is_expired(now_unix_s) else "active"


def fields_of(key: Key, now_unix_s: float) -> dict[str, Any]:
    """Return the fields of a `KeyInfo`."""
    labels, limits = key.labels or {}, key.limits or _NO_LIMITS
    per_model = key.per_model or {}
    return {
        "token_id": key.id,
        "key_name": key.hint,
        "key_alias": key.alias or None,
        "status": status_of(key, now_unix_s),
        "blocked": key.blocked,
        "expires": rfc3339(key.expires_unix_s),
        "models": key.models,
        "user_id": key.owner or None,
        "team_id": labels.get("team_id"),
        "organization_id": labels.get("organization_id"),
        "project_id": labels.get("project_id"),
        "agent_id": labels.get("agent_id"),
        "metadata": msgspec.Raw(key.metadata or b"{}"),
        "tags": key.tags,
        "max_parallel_requests": limits.concurrent,
        "rpm_limit": limits.requests_per_minute,
        "tpm_limit": limits.tokens_per_minute,
        "tpd_limit": limits.tokens_per_day,
        "tokens_per_month": limits.tokens_per_month,
        "model_rpm_limit": _one_limit(per_model, "requests_per_minute"),
        "model_tpm_limit": _one_limit(per_model, "tokens_per_minute"),
        "model_limits": per_model,
        "allowed_routes": tuple(ROUTES[operation] for operation in key.operations),
        "key_type": {"user": "llm_api", "admin": "management"}.get(key.role, key.role),
        "role": key.role,
        "operations": key.operations,
        "priority": key.priority,
        "trusted": key.trusted,
        "previous_until": rfc3339(
            key.previous_until_unix_s if key.previous_until_unix_s > now_unix_s else 0.0
        ),
        "created_at": rfc3339(key.created_unix_s),
        "created_by": key.created_by or None,
        "updated_at": rfc3339(key.updated_unix_s),
        "updated_by": key.updated_by or None,
    }


def rfc3339(unix_s: float) -> str | None:
    """Return a moment as text, None for 0."""
    if unix_s <= 0:
        return None
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _one_limit(per_model: dict[str, Limits], name: str) -> dict[str, int]:
    found = {model: getattr(limits, name) for model, limits in per_model.items()}
    return {model: value for model, value in found.items() if value is not None}
