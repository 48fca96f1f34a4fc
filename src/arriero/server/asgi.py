"""Run an ASGI application for one request: the key API is rarely asked, so Starlette is enough.

The data plane knows nothing of ASGI (docs/architecture.md, "Reasons"): a request comes whole, its
answer goes whole, each call is a task of the application's TaskGroup, and all of it has limits. The
application is loaded when it is first asked, in a thread, because that takes as long as hundreds of
requests do.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from arriero.base.errors import PayloadTooLarge, QueueFull, StoreDown
from arriero.fleet.pool import Spawn
from arriero.server.dispatch import Waiter

BODY_BYTES_MAX: Final = 1_048_576
CALLS_MAX: Final = 32  # at once; they share one thread of the store
TIMEOUT_S: Final = 30.0

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class Call(msgspec.Struct, frozen=True):
    """One request to an application. `state` is what its handlers find in `request.state`."""

    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    state: dict[str, object] = {}


class Answer(msgspec.Struct):
    """What an application said; header names are in lower case."""

    status: int = 0
    headers: dict[bytes, bytes] = {}
    body: bytes = b""


async def run_app(app: AsgiApp, call: Call) -> Answer:
    """Return the answer to a call. Raises whatever the application lets escape."""
    answer, parts = Answer(), []
    incoming: list[Message] = [{"type": "http.request", "body": call.body, "more_body": False}]

    async def receive() -> Message:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.lower(): value for name, value in message.get("headers", ())}
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await app(_scope(call), receive, send)
    answer.body = b"".join(parts)
    return answer


def _scope(call: Call) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": call.query,
        "root_path": "",
        "headers": list(call.headers),
        "client": None,
        "server": None,
        "state": dict(call.state),
    }


class AppRunner:
    """An application beside the data plane."""

    def __init__(self, load: Callable[[], AsgiApp], spawn: Spawn) -> None:
        self._load = load
        self._spawn = spawn
        self._app: AsgiApp | None = None
        self._calls: set[asyncio.Task[None]] = set()

    def begin(self, call: Call, waiter: Waiter) -> None:
        """Have a call answered: `waiter` is resumed with an Answer, or thrown what went wrong.

        A call that has begun is finished also when its client leaves: a change of a key is made
        whole or not at all. Raises PayloadTooLarge, QueueFull.
        """
        if len(call.body) > BODY_BYTES_MAX:
            raise PayloadTooLarge(f"a call of the key API has at most {BODY_BYTES_MAX} bytes")
        if len(self._calls) >= CALLS_MAX:
            raise QueueFull(
                f"{CALLS_MAX} calls of the key API are under way",
                reason="key_api",
                retry_after_s=1,
            )
        task = self._spawn(self._answer(call, waiter))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _answer(self, call: Call, waiter: Waiter) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await run_app(await self._loaded(), call)
        except TimeoutError:
            waiter.throw(StoreDown(f"the store took longer than {TIMEOUT_S:.0f} s"))
        except Exception as error:  # noqa: BLE001 - told to the exchange, which answers and logs it
            waiter.throw(error)
        else:
            waiter.resume(answer)

    async def _loaded(self) -> AsgiApp:
        if self._app is None:
            self._app = await asyncio.to_thread(self._load)
        return self._app
