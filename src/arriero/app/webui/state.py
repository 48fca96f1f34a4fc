"""What Open WebUI has of the things a canary touches, and nothing else.

The shapes are those of its admin API (0.12): `/openai/config`, `/api/v1/configs/models`,
`/api/v1/groups/id/ID/export`, `/api/v1/models/all`. Whatever stands in them that we do not know is
kept as it is, because most calls replace a whole document.
"""

from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct, field

# Stand for what is only known once it has been made; `changes` are carried out with the real ones.
NEW_GROUP = "new:group"
NEW_KEY = "new:key"

Document = dict[str, Any]


class OpenAI(Struct, frozen=True):
    """The OpenAI-compatible connections: three lists side by side, which are replaced together."""

    enabled: bool | None = field(name="ENABLE_OPENAI_API", default=None)
    urls: tuple[str, ...] = field(name="OPENAI_API_BASE_URLS", default=())
    keys: tuple[str, ...] = field(name="OPENAI_API_KEYS", default=())
    configs: dict[str, Document] = field(name="OPENAI_API_CONFIGS", default_factory=dict)

    def position(self, url: str) -> int | None:
        """Return where the connection to this address stands."""
        same = [n for n, known in enumerate(self.urls) if known.rstrip("/") == url.rstrip("/")]
        return same[0] if same else None

    def key(self, position: int) -> str:
        """Return a connection's key, which may be missing in an old configuration."""
        return self.keys[position] if position < len(self.keys) else ""

    def config(self, position: int) -> Document:
        """Return a connection's settings; none are as good as empty ones."""
        return self.configs.get(str(position), {})


class Grant(Struct, frozen=True, order=True):
    """Who may use a model: a `user` or a `group`; the user `*` is everybody."""

    principal_type: str
    principal_id: str
    permission: str


EVERYBODY = Grant("user", "*", "read")


class Group(Struct, frozen=True, kw_only=True):
    """A group; its own default models stand in `data.config.default_models`."""

    id: str
    name: str
    description: str = ""
    parent_group_id: str | None = None
    permissions: Document | None = None
    data: Document | None = None
    members: tuple[str, ...] = field(name="user_ids", default=())

    @property
    def default_models(self) -> list[str]:
        """The models that a member finds chosen, before all general defaults."""
        return ((self.data or {}).get("config") or {}).get("default_models") or []


class ModelRecord(Struct, frozen=True, kw_only=True):
    """What Open WebUI remembers of a model; without a record only admins see it."""

    id: str
    name: str
    base_model_id: str | None = None
    params: Document = {}
    meta: Document = {}
    is_active: bool = True
    grants: tuple[Grant, ...] = field(name="access_grants", default=())


class State(Struct, frozen=True, kw_only=True):
    """All of it at one moment. `defaults` has the five fields of `/api/v1/configs/models`."""

    openai: OpenAI
    defaults: Document
    group: Group | None = None
    models: tuple[ModelRecord, ...] = ()

    def model(self, model_id: str) -> ModelRecord | None:
        """Return the record of a model."""
        return next((record for record in self.models if record.id == model_id), None)

    @property
    def default_model(self) -> str:
        """The model that people without a group of their own find chosen; several have commas."""
        return self.defaults.get("DEFAULT_MODELS") or ""


def canonical(state: State) -> bytes:
    """Return the state as bytes that are equal when the states are."""
    return msgspec.json.encode(in_order(state), order="sorted")


def in_order(state: State) -> State:
    """Return the state with its sets, which the API gives in any order, in one order."""
    group = state.group
    if group is not None:
        group = msgspec.structs.replace(group, members=tuple(sorted(group.members)))
    models = tuple(
        msgspec.structs.replace(record, grants=tuple(sorted(record.grants)))
        for record in sorted(state.models, key=lambda record: record.id)
    )
    return msgspec.structs.replace(state, group=group, models=models)


def model_id(prefix: str, alias: str) -> str:
    """Return the name that Open WebUI gives an alias of a connection with this `prefix_id`."""
    return f"{prefix}.{alias}" if prefix else alias


def only(models: Collection[ModelRecord], ids: Collection[str]) -> tuple[ModelRecord, ...]:
    """Return the records of these models."""
    return tuple(record for record in models if record.id in ids)
