"""Where Open WebUI stands between direct Ollama and the gateway."""

import msgspec

from arriero.app.webui.api import OpenWebUI
from arriero.app.webui.snapshot import Snapshot
from arriero.app.webui.state import EVERYBODY, State


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """A model of the gateway's, and who may use it."""

    id: str
    everybody: bool
    groups: int


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What `arriero webui status` tells; `phase` is `none`, `canary` or `promoted`."""

    webui: str
    version: str
    phase: str
    gateway: str | None = None
    prefix: str | None = None
    group: str | None = None
    members: int = 0
    group_default: str | None = None
    default: str | None = None
    models: tuple[Offered, ...] = ()
    fallback: tuple[str, ...] = ()
    snapshot_unix_s: float | None = None


def overview(webui: OpenWebUI, snapshot: Snapshot | None) -> Overview:
    """Read where it stands."""
    version = webui.version()
    if snapshot is None or snapshot.rolled_back_unix_s is not None:
        return Overview(
            webui=webui.url, version=version, phase="none", fallback=webui.ollama_urls()
        )
    ids = [record.id for record in snapshot.after.models]
    state = webui.read(snapshot.group, ids)
    group = state.group
    return Overview(
        webui=webui.url,
        version=version,
        phase=phase(state, snapshot),
        gateway=snapshot.gateway,
        prefix=snapshot.prefix,
        group=group.name if group else None,
        members=len(group.members) if group else 0,
        group_default=", ".join(group.default_models) if group else None,
        default=state.default_model or None,
        models=tuple(
            Offered(
                id=record.id,
                everybody=EVERYBODY in record.grants,
                groups=sum(grant.principal_type == "group" for grant in record.grants),
            )
            for record in state.models
        ),
        fallback=webui.ollama_urls(),
        snapshot_unix_s=snapshot.taken_unix_s,
    )


def phase(state: State, snapshot: Snapshot) -> str:
    """Return how far the move has come, by what Open WebUI has, not by what we once did."""
    position = state.openai.position(snapshot.gateway)
    if position is None or not state.openai.enabled:
        return "none"
    ours = {record.id for record in state.models if EVERYBODY in record.grants}
    return "promoted" if ours & set(state.default_model.split(",")) else "canary"
