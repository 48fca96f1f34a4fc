"""A backend that answers its inventory well, and generations with whatever bytes a test wants."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable

from tests.integration.arena import MODEL

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TAGS = json.dumps({"models": [{"name": MODEL, "model": MODEL, "digest": "d1"}]}).encode()
INVENTORY = {b"/api/tags": TAGS, b"/api/ps": TAGS, b"/api/version": b'{"version":"1"}'}

LINES = (
    b'{"message":{"role":"assistant","content":"Hello"},"done":false}\n',
    b'{"message":{"role":"assistant","content":" there"},"done":false}\n',
    b'{"message":{"content":""},"done":true,"prompt_eval_count":3,"eval_count":2}\n',
)
WHOLE = (
    b'{"message":{"role":"assistant","content":"Hello there"},"done":true,"done_reason":"stop",'
    b'"prompt_eval_count":3,"eval_count":2}'
)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def sized(body: bytes, *fields: bytes) -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (lines, len(body), body)


STREAM = STREAM_HEAD + b"".join(chunk(line) for line in LINES) + b"0\r\n\r\n"


class Scripted:
    """Where it listens, and what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0  # generations
        self.connections = 0  # that carried a generation first
        self.closed = 0  # generations whose client hung up, as the script saw it


@contextlib.asynccontextmanager
async def scripted(script: Script, *, once: bool = False) -> AsyncIterator[Scripted]:
    """Serve while the block runs; with `once` a connection ends after one script."""
    backend = Scripted()
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = True
            while head := await _head(reader):
                path = head.split(b" ", 2)[1]
                if head.startswith(b"GET"):
                    writer.write(sized(INVENTORY[path], b"Connection: close"))
                    break
                backend.asked += 1
                backend.connections += first
                first = False
                await script(reader, writer)
                if once:
                    break
        except ConnectionError:
            pass
        finally:
            writer.close()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        running.add(task)
        task.add_done_callback(running.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    backend.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield backend
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _head(reader: asyncio.StreamReader) -> bytes:
    """Read a request with its body; b"" when the client is gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                await reader.readexactly(int(line.partition(b":")[2]))
    except asyncio.IncompleteReadError:
        return b""
    return head


def saying(*parts: bytes) -> Script:
    """A script that writes its parts, each as a packet of its own."""

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.002)

    return say
