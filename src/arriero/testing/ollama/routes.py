"""Which path goes where, and how a request meets its fault."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from arriero.testing.faults import Fault
from arriero.testing.host import named_model
from arriero.testing.http import Reply, Request
from arriero.testing.ollama import compat, decode, inventory
from arriero.testing.ollama.chat import chat, generate
from arriero.testing.ollama.decode import BadBody, Shape
from arriero.testing.ollama.embed import embed, embeddings
from arriero.testing.ollama.engine import CRASHED, Cut, RunnerFailed, SilentEnd
from arriero.testing.ollama.job import BUSY
from arriero.testing.ollama.outlet import Outlet
from arriero.testing.ollama.pull import pull
from arriero.testing.ollama.state import Host, Refused

Inference = Callable[[Host, Mapping[str, Any], Outlet, Fault | None], Awaitable[None]]
Management = Callable[[Host, Mapping[str, Any], Outlet], Awaitable[None]]

NATIVE: Final[dict[str, tuple[Shape, Inference]]] = {
    "/api/chat": (decode.CHAT, chat),
    "/api/generate": (decode.GENERATE, generate),
    "/api/embed": (decode.EMBED, embed),
    "/api/embeddings": (decode.EMBEDDINGS, embeddings),
}
GETS: Final[dict[str, Callable[[Host, Reply], None]]] = {
    "/": lambda _host, reply: reply.text(200, "Ollama is running"),
    "/api/version": inventory.version,
    "/api/status": inventory.status,
    "/api/tags": inventory.tags,
    "/api/ps": inventory.running,
    "/v1/models": inventory.list_v1,
}
HEADS: Final = frozenset({"/", "/api/version", "/api/tags"})
MANAGEMENT: Final[dict[str, tuple[Shape, Management]]] = {"/api/pull": (decode.PULL, pull)}
V1: Final = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
INFERENCE: Final = frozenset(NATIVE) | V1
RETRIEVE: Final = "/v1/models/"


async def answer(host: Host, request: Request, reply: Reply, fault: Fault | None) -> None:
    """Answer one request of a client."""
    methods = _methods(request.path)
    if not methods:
        await _unrouted(request, reply)
    elif request.method not in methods:
        reply.text(405, "405 method not allowed", {"Allow": ", ".join(methods)})
    elif request.method in {"GET", "HEAD"}:
        _inventory(host, request, reply)
    elif request.path == "/api/show":
        _show(host, request, reply)
    elif request.path in MANAGEMENT:
        await _manage(host, request, reply)
    else:
        await _infer(host, request, reply, fault)


def refuse_with(fault: Fault, request: Request, reply: Reply) -> None:
    """Answer with the HTTP error of a STATUS fault, in Ollama's words unless it has its own."""
    usual = {404: f"model '{named_model(request.body)}' not found", 503: BUSY}
    outlet = compat.V1Outlet(reply) if request.path.startswith("/v1/") else Outlet(reply)
    outlet.error(fault.status, fault.text or usual.get(fault.status, CRASHED))


def _methods(path: str) -> tuple[str, ...]:
    if path in GETS:
        return ("HEAD", "GET") if path in HEADS else ("GET",)
    if path in INFERENCE or path in MANAGEMENT or path == "/api/show":
        return ("POST",)
    name = path.removeprefix(RETRIEVE)
    return ("GET",) if name != path and name and "/" not in name else ()


async def _unrouted(request: Request, reply: Reply) -> None:
    bare = request.path.rstrip("/")
    if request.path.endswith("/") and _methods(bare):
        status = 301 if request.method == "GET" else 307
        reply.send(status, b"", "text/html; charset=utf-8", {"Location": bare})
    else:
        reply.send(404, b"404 page not found", "text/plain")


def _inventory(host: Host, request: Request, reply: Reply) -> None:
    if request.path in GETS:
        GETS[request.path](host, reply)
        return
    try:
        inventory.retrieve_v1(host, request.path.removeprefix(RETRIEVE), reply)
    except Refused as refused:
        compat.V1Outlet(reply).error(refused.status, refused.text)


def _show(host: Host, request: Request, reply: Reply) -> None:
    try:
        reply.json(200, inventory.show(host, decode.decode(request.body, decode.SHOW)))
    except BadBody as error:
        Outlet(reply).error(400, str(error))
    except Refused as refused:
        Outlet(reply).error(refused.status, refused.text)


async def _manage(host: Host, request: Request, reply: Reply) -> None:
    shape, handler = MANAGEMENT[request.path]
    outlet = Outlet(reply)
    try:
        await handler(host, decode.decode(request.body, shape), outlet)
    except BadBody as error:
        outlet.error(400, str(error))
    except Refused as refused:
        outlet.error(refused.status, refused.text)


async def _infer(host: Host, request: Request, reply: Reply, fault: Fault | None) -> None:
    outlet = compat.V1Outlet(reply) if request.path in V1 else Outlet(reply)
    try:
        if request.path in V1:
            outlet, native, handler = _through_v1(request, reply)
        else:
            shape, handler = NATIVE[request.path]
            native = decode.decode(request.body, shape)
        await handler(host, native, outlet, fault)
    except BadBody as error:
        outlet.error(400, str(error))
    except Refused as refused:
        outlet.error(refused.status, refused.text)
    except RunnerFailed as failed:
        await outlet.failed(str(failed))
    except SilentEnd:
        outlet.end()
    except Cut as cut:
        _cut(cut, reply)


def _cut(cut: Cut, reply: Reply) -> None:
    if cut.reset:
        reply.reset()
    else:
        reply.close()


def _through_v1(request: Request, reply: Reply) -> tuple[Outlet, dict[str, Any], Inference]:
    match request.path:
        case "/v1/chat/completions":
            body = decode.decode(request.body, decode.V1_CHAT, empty="EOF")
            return compat.ChatOutlet(reply, body), compat.chat_request(body), chat
        case "/v1/completions":
            body = decode.decode(request.body, decode.V1_COMPLETION, empty="EOF")
            native = compat.completion_request(body)
            return compat.CompletionOutlet(reply, body), native, generate
    body = decode.decode(request.body, decode.V1_EMBEDDING, empty="EOF")
    return compat.EmbeddingOutlet(reply, body), compat.embed_request(body), embed
