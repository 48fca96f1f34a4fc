"""The way to the key API: whatever an application does, the gateway keeps its shape and limits."""

import asyncio
import logging
from collections.abc import Callable

import pytest
from tests.server.client import Client
from tests.server.running import Running, until

from arriero.server import asgi
from arriero.server.asgi import AppRunner, AsgiApp, Message, Receive, Send
from arriero.server.request import Request
from arriero.server.routes import find_route, route_of

PATHS = ["/key/generate", "/key/info", "/v2/key/info", "/key/update", "/key/delete", "/key/list",
         "/key/regenerate", "/key/some-key/regenerate", "/key/block", "/key/unblock", "/usage",
         "/usage/requests", "/audit", "/openapi.json"]  # fmt: skip
SECRET = "sk-somebodys-0123456789"

Put = Callable[[AsgiApp], AppRunner]


@pytest.fixture
def put(running: Running) -> Put:
    """Return a function that puts an application in the place of the key API."""

    def replace(app: AsgiApp) -> AppRunner:
        runner = AppRunner(lambda: app, running.service._spawn)
        running.gateway.key_api = runner
        return runner

    return replace


async def say_ok(send: Send, body: bytes = b"{}", *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body[:1], "more_body": True})
    await send({"type": "http.response.body", "body": body[1:]})


@pytest.mark.parametrize("path", PATHS)
async def test_without_a_store_the_way_out_is_told(client: Client, path: str) -> None:
    answer = await client.ask("POST", path, {})
    assert (answer.status, answer.error["code"]) == (501, "no_store")
    assert "--state-directory" in answer.error["message"]
    assert answer.headers["x-should-retry"] == "false"
    refused = await client.ask("POST", path, {}, key=SECRET)
    assert refused.status == 401


async def test_an_application_sees_the_call_and_its_answer_goes_out(
    client: Client, put: Put
) -> None:
    seen: list[Message] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.append(dict(scope) | dict(await receive()))
        assert (await receive())["type"] == "http.disconnect"
        await say_ok(send, b"[1]", (b"X-More", b"1"), (b"content-type", b"text/csv"))

    put(app)
    for _ in range(2):
        answer = await client.ask("POST", "/usage/?a=%20b", {"x": 1})
        assert (answer.status, answer.body) == (200, b"[1]")
        assert (answer.headers["content-type"], answer.headers["x-more"]) == ("text/csv", "1")
    call = seen[0]
    assert (call["path"], call["query_string"], call["body"]) == ("/usage", b"a=%20b", b'{"x": 1}')
    assert (call["state"]["key"].role, call["state"]["client"]) == ("admin", "127.0.0.1")
    assert not [name for name, _ in call["headers"] if name == b"authorization"]


async def test_a_defect_is_the_houses_500_and_a_line_in_the_log(
    client: Client, put: Put, running: Running
) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("words that are nobody's business")

    put(app)
    answer = await client.ask("GET", "/key/list")
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert b"nobody" not in answer.body
    (event,) = [one for one in running.events.records if one.levelno >= logging.ERROR]
    assert event.getMessage() == "internal error"
    assert event.__dict__["request_id"] == answer.headers["x-request-id"]
    running.events.records.clear()
    assert (await client.ask("GET", "/v1/models")).status == 200


async def test_a_body_has_a_limit(client: Client, put: Put) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await say_ok(send)

    put(app)
    answer = await client.ask("POST", "/key/generate", b" " * (asgi.BODY_BYTES_MAX + 1))
    assert (answer.status, answer.error["code"]) == (413, "payload_too_large")
    answer = await client.ask("POST", "/key/generate", b" " * asgi.BODY_BYTES_MAX)
    assert answer.status == 200


async def test_time_has_a_limit(client: Client, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "TIMEOUT_S", 0.01)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    put(app)
    answer = await client.ask("GET", "/key/list")
    assert (answer.status, answer.error["code"]) == (503, "store_unavailable")


async def test_calls_at_once_have_a_limit(
    client: Client, put: Put, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "CALLS_MAX", 2)
    go = asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await go.wait()
        await say_ok(send)

    runner = put(app)
    others = [await running.connect() for _ in range(2)]
    asked = [asyncio.create_task(other.ask("GET", "/key/list")) for other in others]
    await until(lambda: len(runner._calls) == 2)
    answer = await client.ask("GET", "/key/list")
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")
    go.set()
    assert [(await one).status for one in asked] == [200, 200]
    assert (await client.ask("GET", "/key/list")).status == 200


async def test_a_call_that_has_begun_is_finished_when_its_client_leaves(
    client: Client, put: Put, running: Running
) -> None:
    go, done = asyncio.Event(), asyncio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await go.wait()
        await say_ok(send)
        done.set()

    runner = put(app)
    client.write(
        b"GET /key/list HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-test-123456\r\n\r\n"
    )
    await until(lambda: len(runner._calls) == 1)
    client.abort()
    await until(lambda: not running.gateway.metrics.requests_open)
    assert not done.is_set()
    go.set()
    await until(lambda: done.is_set() and not runner._calls)


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        (f"/key/{SECRET}/regenerate", "/key/***/regenerate"),
        ("/key/bob/regenerate/", "/key/***/regenerate"),
        (f"/key/{SECRET}", "/key/sk-***"),
        (f"/key/%73k-{SECRET[3:]}/x?key={SECRET}", "/key/sk-***/x"),
        (f"/v1/models/{SECRET}", "/v1/models/sk-***"),
        (f"/key/info?key={SECRET}", "/key/info"),
        ("/v1/models/disk-usage", "/v1/models/disk-usage"),
    ],
)
def test_no_secret_of_a_path_is_shown(target: str, shown: str) -> None:
    assert find_route(Request(b"POST", target.encode()))[1] == shown


def test_only_a_whole_segment_is_a_key() -> None:
    assert route_of("/key/a/b/regenerate") is None
    assert route_of("/key//regenerate") is None
    route = route_of("/key/a/regenerate")
    assert route is not None
    assert route.name == "key_api"
