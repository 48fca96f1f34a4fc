"""What a call of the key API may say about a key, in LiteLLM's words and a few of ours.

The names and shapes are those of LiteLLM's `GenerateKeyRequest` and `UpdateKeyRequest`
(litellm/proxy/_types.py, 1.106). A field of LiteLLM's that we do not have is refused when losing it
silently would change what its sender meant; what means nothing there (null, zero, empty) is let
through, because clients send whole objects with all defaults. docs/keys.md has the table, and a
test holds the two together.
"""

import re
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from arriero.base.errors import BadRequest
from arriero.core.keychange import Patch, lifetime
from arriero.core.keys import Limits, OperationName, Role

T = TypeVar("T")
_SECRET = re.compile(r"sk-\S+")
Wanted: TypeAlias = T | UnsetType | None

METADATA_BYTES_MAX: Final = 16_384
Name = Annotated[str, Meta(max_length=255)]
Word = Annotated[str, Meta(max_length=32)]
Secret = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]
Parallel = Annotated[int, Meta(ge=1, le=1_000_000)]
Names = Annotated[tuple[Name, ...], Meta(max_length=256)]
Tags = Annotated[tuple[Name, ...], Meta(max_length=64)]
Priority = Literal["interactive", "default", "embedding", "background", ""]

# What other systems call the team and the rest: shown back, and without meaning here.
LABELS: Final = ("team_id", "organization_id", "project_id", "agent_id")
# What LiteLLM has and we do not, with what to do instead.
_TOKENS = "there are no prices here: limit tokens by tpd_limit or tokens_per_month"
_ALIASES = "write the models' names into `models`, aliases into the configuration"
_FILTERS = "nothing is filtered here; leave it out"
_SERVED = "nothing of that kind is served here; leave it out"
_RESERVED = "reserved is the request's own max_tokens, or a usual answer's length"
REFUSED: Final[dict[str, str]] = {
    "max_budget": _TOKENS,
    "soft_budget": _TOKENS,
    "budget_duration": _TOKENS,
    "budget_id": _TOKENS,
    "budget_limits": _TOKENS,
    "budget_fallbacks": _TOKENS,
    "end_user_budget_id": _TOKENS,
    "model_max_budget": _TOKENS,
    "temp_budget_increase": _TOKENS,
    "temp_budget_expiry": _TOKENS,
    "throttle_on_budget_exceeded": _TOKENS,
    "spend": "usage is counted in tokens, and cannot be set: GET /usage",
    "aliases": _ALIASES,
    "config": "there is no configuration by key; leave it out",
    "router_settings": "there is no configuration by key; leave it out",
    "access_group_ids": _ALIASES,
    "permissions": "`role`, `models` and `operations` say what a key may do",
    "object_permission": _SERVED,
    "allowed_vector_store_indexes": _SERVED,
    "allowed_passthrough_routes": _SERVED,
    "denied_passthrough_routes": _SERVED,
    "allowed_cache_controls": "answers are not cached here; leave it out",
    "enable_prompt_caching": "model servers keep their own prefix caches; leave it out",
    "guardrails": _FILTERS,
    "disable_global_guardrails": _FILTERS,
    "policies": _FILTERS,
    "prompts": _FILTERS,
    "enforced_params": _FILTERS,
    "mcp_rpm_limit": _SERVED,
    "tag_rpm_limit": "limits are by key and by model: rpm_limit, model_rpm_limit",
    "default_estimated_output_tokens": _RESERVED,
    "default_estimated_output_tokens_per_model": _RESERVED,
    "auto_rotate": "have a timer call /key/regenerate with grace_period",
    "rotation_interval": "have a timer call /key/regenerate with grace_period",
    "send_invite_email": "no mail is sent from here; leave it out",
    "new_master_key": "set access.master_key in the configuration and reload",
}
# Where one value is what happens here anyway.
HARMLESS: Final[dict[str, object]] = {
    "rpm_limit_type": "best_effort_throughput",
    "tpm_limit_type": "best_effort_throughput",
}

_KEY_TYPES: Final[dict[str, tuple[Role, tuple[OperationName, ...]]]] = {
    "default": ("user", ()),
    "llm_api": ("user", ()),
    "management": ("admin", ("models",)),  # LiteLLM's may use no model either
    "read_only": ("read_only", ()),
}
ROUTES: Final[dict[OperationName, str]] = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "embedding": "/v1/embeddings",
    "models": "/v1/models",
}
_OPERATIONS = {path: operation for operation, path in ROUTES.items()}


class KeyFields(msgspec.Struct, frozen=True, kw_only=True):
    """What a key can be given; a field left out stays as it is, and null clears it."""

    key_alias: Wanted[Name] = UNSET
    duration: Wanted[Word] = UNSET
    models: Wanted[Names] = UNSET
    user_id: Wanted[Name] = UNSET
    metadata: Wanted[dict[str, Any]] = UNSET
    tags: Wanted[Tags] = UNSET
    blocked: Wanted[bool] = UNSET
    max_parallel_requests: Wanted[Parallel] = UNSET
    rpm_limit: Wanted[Count] = UNSET
    tpm_limit: Wanted[Count] = UNSET
    tpd_limit: Wanted[Count] = UNSET
    model_rpm_limit: Wanted[dict[Name, Count]] = UNSET
    model_tpm_limit: Wanted[dict[Name, Count]] = UNSET
    allowed_routes: Wanted[Tags] = UNSET
    key_type: Wanted[Literal["default", "llm_api", "management", "read_only"]] = UNSET
    team_id: Wanted[Name] = UNSET
    organization_id: Wanted[Name] = UNSET
    project_id: Wanted[Name] = UNSET
    agent_id: Wanted[Name] = UNSET
    # Ours.
    role: Wanted[Role] = UNSET
    operations: Wanted[tuple[OperationName, ...]] = UNSET
    priority: Wanted[Priority] = UNSET
    trusted: Wanted[bool] = UNSET
    tokens_per_month: Wanted[Count] = UNSET
    model_limits: Wanted[dict[Name, Limits]] = UNSET


OURS: Final = ("role", "operations", "priority", "trusted", "tokens_per_month", "model_limits")


class GenerateRequest(KeyFields, frozen=True, kw_only=True):
    """A key to be made; `key` is a secret of one's own."""

    key: Secret | None = None


class UpdateRequest(KeyFields, frozen=True, kw_only=True):
    """What to change of a key, which is named by `key` or else by `key_alias`."""

    key: Secret | None = None


class RegenerateRequest(KeyFields, frozen=True, kw_only=True):
    """A new secret for a key, and perhaps other changes; the old one works for `grace_period`."""

    key: Secret | None = None
    new_key: Secret | None = None
    grace_period: Word | None = None


def masked(text: str) -> str:
    """Return somebody's word as an error may repeat it: short, and without what may be a secret."""
    return _SECRET.sub("sk-***", text[:100])


def patch_of(fields: KeyFields) -> Patch:
    """Return the change that the fields ask for. Raises BadRequest."""
    role, operations = _role(fields), _operations(fields)
    duration = fields.duration
    return Patch(
        alias=fields.key_alias,
        role=role[0] if role else fields.role,
        owner=fields.user_id,
        models=fields.models,
        operations=role[1] if role and operations is UNSET else operations,
        priority=fields.priority,
        trusted=fields.trusted,
        blocked=fields.blocked,
        lifetime_s=duration if isinstance(duration, UnsetType) else lifetime(duration),
        requests_per_minute=fields.rpm_limit,
        tokens_per_minute=fields.tpm_limit,
        concurrent=fields.max_parallel_requests,
        tokens_per_day=fields.tpd_limit,
        tokens_per_month=fields.tokens_per_month,
        per_model=fields.model_limits,
        model_requests_per_minute=fields.model_rpm_limit,
        model_tokens_per_minute=fields.model_tpm_limit,
        tags=fields.tags,
        metadata=_metadata(fields.metadata),
        labels=_labels(fields),
    )


def _role(fields: KeyFields) -> tuple[Role, tuple[OperationName, ...]] | None:
    """Return what LiteLLM's word for a kind of key means, None without one."""
    if not isinstance(fields.key_type, str):
        return None
    if isinstance(fields.role, str):
        raise BadRequest(
            "key_type and role say the same in two ways", param="key_type", hint="send one of them"
        )
    return _KEY_TYPES[fields.key_type]


def _operations(fields: KeyFields) -> Wanted[tuple[OperationName, ...]]:
    routes = fields.allowed_routes
    if isinstance(routes, UnsetType):
        return fields.operations
    found: list[OperationName] = []
    for route in routes or ():
        if route in ("llm_api_routes", "openai_routes"):
            return ()
        operation = _OPERATIONS.get(route) or _OPERATIONS.get(f"/v1{route}")
        if operation is None:
            raise BadRequest(
                f"allowed_routes: {masked(route)!r} is no route of models",
                param="allowed_routes",
                hint=f"some of {', '.join(_OPERATIONS)}; for others, `role`",
            )
        if operation not in found:
            found.append(operation)
    return tuple(found)


def _metadata(value: Wanted[dict[str, Any]]) -> Wanted[bytes]:
    if isinstance(value, UnsetType):
        return UNSET
    encoded = msgspec.json.encode(value) if value else b""
    if len(encoded) > METADATA_BYTES_MAX:
        raise BadRequest(
            f"metadata is larger than {METADATA_BYTES_MAX} bytes",
            param="metadata",
            hint="keep an id",
        )
    return encoded


def _labels(fields: KeyFields) -> Wanted[dict[str, str | None]]:
    given = {name: getattr(fields, name) for name in LABELS}
    return {name: value for name, value in given.items() if value is not UNSET} or UNSET
