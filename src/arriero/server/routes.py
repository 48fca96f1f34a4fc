"""What each path is: an operation on a model, or a view of the gateway."""

import re
from enum import Enum

import msgspec

from arriero.base.errors import ClientError, MethodNotAllowed, UnknownRoute
from arriero.core.access import KEY_API
from arriero.server.operations import CHAT, COMPLETION, EMBEDDING, Operation
from arriero.server.request import Request


class View(Enum):
    """What the gateway tells about itself."""

    MODELS = "models"
    MODEL = "model"
    LIVELINESS = "liveliness"
    READINESS = "readiness"
    METRICS = "metrics"
    STATUS = "status"
    KEY_API = "key_api"


class Route(msgspec.Struct, frozen=True):
    """One path: either an operation on a model, or a view."""

    name: str
    methods: frozenset[bytes]
    operation: Operation | None = None
    view: View | None = None
    public: bool = False
    argument: str = ""  # the rest of a path that names a model

    @property
    def inner(self) -> bool:
        """Whether it tells about the gateway, and not about models."""
        return self.view in (View.METRICS, View.STATUS)

    @property
    def operation_name(self) -> str:
        """What a key must be for."""
        return "models" if self.view is View.MODEL else self.name


_POST = frozenset((b"POST",))
_GET = frozenset((b"GET", b"HEAD"))
_CHAT = Route("chat", _POST, operation=CHAT)
_COMPLETION = Route("completion", _POST, operation=COMPLETION)
_EMBEDDING = Route("embedding", _POST, operation=EMBEDDING)
_MODELS = Route("models", _GET, view=View.MODELS)
# Each of its calls is judged by itself (`admin/`), methods and roles included.
_KEY_API = Route(KEY_API, _GET | _POST, view=View.KEY_API)
_LIVELINESS = Route("liveliness", _GET, view=View.LIVELINESS, public=True)
_READINESS = Route("readiness", _GET, view=View.READINESS, public=True)

_ROUTES: dict[str, Route] = {
    "/v1/chat/completions": _CHAT,
    "/chat/completions": _CHAT,
    "/v1/completions": _COMPLETION,
    "/completions": _COMPLETION,
    "/v1/embeddings": _EMBEDDING,
    "/embeddings": _EMBEDDING,
    "/v1/models": _MODELS,
    "/models": _MODELS,
    "/health/liveliness": _LIVELINESS,
    "/health/liveness": _LIVELINESS,
    "/health/readiness": _READINESS,
    "/metrics": Route("metrics", _GET, view=View.METRICS),
    "/arriero/status": Route("status", _GET, view=View.STATUS),
    "/key/generate": _KEY_API,
    "/key/info": _KEY_API,
    "/v2/key/info": _KEY_API,
    "/key/update": _KEY_API,
    "/key/delete": _KEY_API,
    "/key/list": _KEY_API,
    "/key/regenerate": _KEY_API,
    "/key/block": _KEY_API,
    "/key/unblock": _KEY_API,
    "/usage": _KEY_API,
    "/usage/requests": _KEY_API,
    "/audit": _KEY_API,
    "/openapi.json": _KEY_API,
}
_BY_TARGET = {path.encode(): (route, path) for path, route in _ROUTES.items()}
_MODEL_PREFIXES = ("/v1/models/", "/models/")
# LiteLLM has paths with a key in them, and logs have no place for secrets.
_REGENERATE = re.compile(r"/key/[^/]+/regenerate/?")
_SECRET = re.compile(r"(?<=/)sk-[^/]*")


def find_route(request: Request) -> tuple[Route | None, str]:
    """Return the route of a request's target, or None, and its path as it may be shown."""
    found = _BY_TARGET.get(request.target)  # nearly all requests name their path plainly
    if found is not None:
        return found
    path = request.path
    return route_of(path), _shown(path)


def _shown(path: str) -> str:
    if _REGENERATE.fullmatch(path):
        return "/key/***/regenerate"
    return _SECRET.sub("sk-***", path) if "sk-" in path else path


def route_of(path: str) -> Route | None:
    """Return the route of a path, or None. A trailing slash is forgiven."""
    route = _ROUTES.get(path)
    if route is not None:
        return route
    if _REGENERATE.fullmatch(path):
        return _KEY_API
    for prefix in _MODEL_PREFIXES:
        if path.startswith(prefix) and len(path) > len(prefix):
            return Route("model", _GET, view=View.MODEL, argument=path[len(prefix) :])
    return _ROUTES.get(path.rstrip("/"))


def no_route(route: Route | None, path: str, method: bytes) -> ClientError:
    """Return the error for a path that is none, or a method that does not fit it."""
    if route is None:
        return UnknownRoute(
            f"there is nothing at {path[:200]}", hint="the API lives under /v1, as OpenAI's does"
        )
    allowed = ", ".join(sorted(one.decode() for one in route.methods))
    return MethodNotAllowed(f"{method.decode('latin-1')} is not allowed here", allow=allowed)
