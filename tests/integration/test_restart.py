"""Restarts and reloads under load: no request fails, on kept connections as on new ones."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.processes import KEY, simulated_ollama, write_config
from tests.integration.supervisor import Supervisor

ROUNDS = 3
ANSWERS_BETWEEN = 20


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[Supervisor]:
    models = {"llama": "llama3:8b"}
    with simulated_ollama(*models.values()) as backend:
        # A slot for each caller: streams go before whole answers, which is not what is tested here.
        config = write_config(tmp_path, [backend], models, slots=16)
        with Supervisor(tmp_path, config) as supervisor:
            yield supervisor


def request(*, stream: bool, keep: bool) -> bytes:
    body = json.dumps(
        {"model": "llama", "stream": stream, "messages": [{"role": "user", "content": "hello"}]}
    ).encode()
    connection = "keep-alive" if keep else "close"
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {KEY}\r\n"
        f"Connection: {connection}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Caller:
    """Asks one thing after the other, as a careless client does: it repeats nothing."""

    def __init__(self, port: int, *, stream: bool, keep: bool) -> None:
        self._port = port
        self._keep = keep
        self._request = request(stream=stream, keep=keep)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.answers = 0
        self.connections = 0
        self.over = False

    async def run(self) -> None:
        """Ask until `over`; whatever goes wrong is raised."""
        while not self.over:
            async with asyncio.timeout(30):
                await self._ask()
            self.answers += 1
        self._leave()

    async def _ask(self) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            self.connections += 1
        reader, writer = self._streams
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200 "), head
        if b"transfer-encoding: chunked" in head:
            body = await reader.readuntil(b"0\r\n\r\n")
            assert b"data: [DONE]" in body
        else:
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert b'"finish_reason":"stop"' in await reader.readexactly(length)
        if not self._keep or b"connection: close" in head:
            self._leave()

    def _leave(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@pytest.mark.timeout(180)
async def test_no_request_fails(supervised: Supervisor) -> None:
    callers = [
        Caller(supervised.port, stream=stream, keep=keep)
        for stream in (True, False)
        for keep in (True, True, False)
    ]

    async def served() -> None:
        """Wait until each got some more answers."""
        goal = [caller.answers + ANSWERS_BETWEEN for caller in callers]
        while any(caller.answers < wanted for caller, wanted in zip(callers, goal, strict=True)):  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.01)

    async with asyncio.timeout(150), asyncio.TaskGroup() as group:
        for caller in callers:
            group.create_task(caller.run())
        await served()
        for _ in range(ROUNDS):
            await asyncio.to_thread(supervised.reload)
            await served()
            await asyncio.to_thread(supervised.restart)
            await served()
        for caller in callers:
            caller.over = True


async def test_a_client_that_waits_keeps_its_connection(supervised: Supervisor) -> None:
    caller = Caller(supervised.port, stream=False, keep=True)
    await caller._ask()
    for round_ in range(1, ROUNDS + 1):
        await asyncio.to_thread(supervised.restart)
        await caller._ask()
        assert supervised.handed_over == round_
    assert caller.connections == 1
    caller._leave()


async def test_what_is_sent_while_nothing_runs_is_answered_later(supervised: Supervisor) -> None:
    kept = Caller(supervised.port, stream=False, keep=True)
    await kept._ask()
    assert await asyncio.to_thread(supervised.stop) == 0
    new = Caller(supervised.port, stream=True, keep=False)
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        waiting = [group.create_task(caller._ask()) for caller in (kept, new)]
        await asyncio.sleep(0)
        await asyncio.to_thread(supervised.start)
        await asyncio.wait(waiting)
    assert kept.connections == 1
    kept._leave()
