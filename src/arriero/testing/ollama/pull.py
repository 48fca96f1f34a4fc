"""POST `/api/pull`: a model of the registry comes onto the host (docs/api.md, "Pull a Model")."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from arriero.testing.ollama.models import SimModel
from arriero.testing.ollama.names import InvalidName, ModelRequired, parse
from arriero.testing.ollama.outlet import Outlet
from arriero.testing.ollama.state import Host, Refused

NOT_THERE: Final = "pull model manifest: file does not exist"
SUCCESS: Final = {"status": "success"}


async def pull(host: Host, request: Mapping[str, Any], outlet: Outlet) -> None:
    """Install a model that the registry has, telling how far it is unless told not to; Refused."""
    model = host.registry.get(_key(request))
    if model is not None:
        host.pull(model)
    if request.get("stream") is False:
        if model is None:
            raise Refused(500, NOT_THERE)
        outlet.whole(SUCCESS)
        return
    for line in _progress(model):
        await outlet.line(line)
    outlet.end()


def _key(request: Mapping[str, Any]) -> str:
    try:
        return parse(str(request.get("model") or request.get("name") or "")).key
    except (ModelRequired, InvalidName):
        raise Refused(400, "invalid model name") from None


def _progress(model: SimModel | None) -> Iterator[dict[str, Any]]:
    yield {"status": "pulling manifest"}
    if model is None:
        # The status was sent long ago, so that clients have to look for this.
        yield {"error": NOT_THERE}
        return
    layer = {"digest": f"sha256:{model.digest}", "total": model.size}
    for completed in (0, model.size):
        yield {"status": f"pulling {model.digest[:12]}", **layer, "completed": completed}
    yield {"status": "verifying sha256 digest"}
    yield {"status": "writing manifest"}
    yield SUCCESS
