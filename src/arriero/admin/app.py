"""The key API as an ASGI application: its endpoints, and the way each call goes.

Errors are raised through it: whoever runs the application (`server/asgi.py`) words them as it does
all others, so that there is one shape of errors and one place that logs them.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from arriero.admin import keys
from arriero.admin.audit import AuditAnswer, AuditQuery, audit
from arriero.admin.calls import Asked, Endpoint, Nothing, Text, check_access
from arriero.admin.desk import Desk
from arriero.admin.fields import GenerateRequest, RegenerateRequest, UpdateRequest
from arriero.admin.listing import ListAnswer, ListQuery, list_keys
from arriero.admin.openapi import describe
from arriero.admin.reading import read_body, read_query
from arriero.admin.rows import KeyObject, MadeKey, UpdatedKey
from arriero.admin.usage import (
    RequestsAnswer,
    RequestsAsked,
    SumsAnswer,
    SumsAsked,
    requests,
    usage,
)
from arriero.base.errors import MethodNotAllowed, StoreDown, UnknownRoute
from arriero.core.keys import Key


async def openapi(desk: Desk, asked: Asked[Nothing, Nothing]) -> dict[str, Any]:  # noqa: ARG001 - as all handlers
    """Describe this API."""
    return describe(ENDPOINTS)


def _change(path: str, handle: Callable[..., Awaitable[Any]], **more: Any) -> Endpoint:
    return Endpoint(path=path, method="POST", access="admin", handle=handle, **more)


ENDPOINTS: Final = (
    _change("/key/generate", keys.generate, body=GenerateRequest, answer=MadeKey),
    Endpoint(
        path="/key/info",
        method="GET",
        access="own",
        handle=keys.info,
        query=keys.InfoQuery,
        answer=keys.InfoAnswer,
    ),
    Endpoint(
        path="/v2/key/info",
        method="POST",
        access="look",
        handle=keys.infos,
        body=keys.NamedKeys,
        answer=keys.InfosAnswer,
    ),
    _change("/key/update", keys.change, body=UpdateRequest, answer=UpdatedKey),
    _change("/key/delete", keys.remove, body=keys.NamedKeys, answer=keys.DeleteAnswer),
    Endpoint(
        path="/key/list",
        method="GET",
        access="look",
        handle=list_keys,
        query=ListQuery,
        answer=ListAnswer,
    ),
    _change("/key/regenerate", keys.regenerate, body=RegenerateRequest, answer=MadeKey),
    _change("/key/{key}/regenerate", keys.regenerate, body=RegenerateRequest, answer=MadeKey),
    _change("/key/block", keys.block_key, body=keys.Named, answer=KeyObject),
    _change("/key/unblock", keys.unblock_key, body=keys.Named, answer=KeyObject),
    Endpoint(
        path="/usage", method="GET", access="own", handle=usage, query=SumsAsked, answer=SumsAnswer
    ),
    Endpoint(
        path="/usage/requests",
        method="GET",
        access="own",
        handle=requests,
        query=RequestsAsked,
        answer=RequestsAnswer,
    ),
    Endpoint(
        path="/audit",
        method="GET",
        access="look",
        handle=audit,
        query=AuditQuery,
        answer=AuditAnswer,
    ),
    Endpoint(path="/openapi.json", method="GET", access="own", handle=openapi),
)


def build_app(desk: Desk) -> Starlette:
    """Return the application. A request's state holds the caller's `key` and `client` address."""
    routes = [Route(one.path, _served(one, desk), methods=[one.method]) for one in ENDPOINTS]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refuse})
    app.router.redirect_slashes = False
    return app


def _served(one: Endpoint, desk: Desk) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        by = request.state.key
        check_access(by, one.access)
        await _see(desk, by, one)
        asked = Asked(
            by,
            request.state.client,
            read_query(one.query, request.query_params),
            read_body(one.body, await request.body()),
            request.path_params.get("key", ""),
            request.headers.get("accept", ""),
        )
        said = await one.handle(desk, asked)
        if isinstance(said, Text):
            return Response(said.content, headers=said.headers, media_type=said.content_type)
        return Response(msgspec.json.encode(said), media_type="application/json")

    return serve


async def _see(desk: Desk, by: Key, one: Endpoint) -> None:
    """Look at the store first, for those who look at other keys than their own."""
    if by.role == "user":
        return
    try:
        await desk.look()
    except StoreDown:
        if one.access == "admin":
            raise
        # Keys can be shown as they were known last: that is also what they are served by.


async def _refuse(request: Request, error: Exception) -> Response:
    """Word what Starlette refuses by itself: a path that is none, or another method."""
    assert isinstance(error, HTTPException)
    allow = (error.headers or {}).get("Allow")
    if allow is not None:
        raise MethodNotAllowed(f"{request.method} is not allowed here", allow=allow)
    raise UnknownRoute("there is nothing at this path", hint="GET /openapi.json lists all")
