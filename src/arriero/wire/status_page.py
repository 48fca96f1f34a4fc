"""The document of `GET /arriero/status`: the fleet as the gateway sees it at this moment.

It stands behind the key like everything else, and names no backend's address.
"""

import msgspec


class BackendStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One backend. `served` counts every lease given since the gateway started.

    `models` is None until its inventory was read once.
    """

    name: str
    kind: str
    state: str
    in_flight: int
    served: int
    version: str | None = None
    models: tuple[str, ...] | None = None
    loaded: tuple[str, ...] = ()


class TargetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One way to serve an alias; `available` tells whether it would be asked now.

    `state` is `absent`, `unknown`, `installed`, `loading` or `loaded`.
    """

    backend: str
    model: str
    available: bool
    state: str = "unknown"


class ModelStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One alias, and what it can be routed to; `mode` is `embedding` where it only embeds."""

    name: str
    mode: str | None = None
    targets: tuple[TargetStatus, ...] = ()


class QueueStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How many requests wait for a slot, by the priority class they came with."""

    interactive: int = 0
    default: int = 0
    embedding: int = 0
    background: int = 0


class StatusPage(msgspec.Struct, frozen=True, kw_only=True):
    """The whole page.

    `config_digest` is the SHA-256 of the configuration that is in force. `connections` are the
    clients', `leftovers` the requests whose client left while a backend was still at them.
    """

    version: str
    config_digest: str
    uptime_s: float
    ready: bool
    connections: int = 0
    leftovers: int = 0
    queue: QueueStatus = QueueStatus()
    backends: tuple[BackendStatus, ...]
    models: tuple[ModelStatus, ...]
