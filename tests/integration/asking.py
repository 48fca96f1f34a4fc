"""A client that shows answers as they came over the wire."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Self

from tests.integration.arena import ALIAS, KEY

CHAT = "/v1/chat/completions"


def body_of(*, model: str = ALIAS, text: str = "Say it in 12 words", **more: Any) -> dict[str, Any]:
    """A chat's body."""
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


class Answer:
    """A whole response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes, *, clean: bool) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.clean = clean  # the body ended as HTTP says, and not by a cut

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Any]:
        """What `data:` lines say; `[DONE]` is itself."""
        lines = [
            line[5:].strip() for line in self.body.decode().splitlines() if line[:5] == "data:"
        ]
        return [line if line == "[DONE]" else json.loads(line) for line in lines]

    @property
    def comments(self) -> int:
        return sum(line.startswith(":") for line in self.body.decode().splitlines())

    @property
    def streamed(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def done(self) -> bool:
        return self.streamed and self.events[-1:] == ["[DONE]"]

    @property
    def error(self) -> dict[str, Any] | None:
        """The error of the body, or of the stream's last event."""
        if self.streamed:
            last = self.events[-1] if self.events else {}
            found = last.get("error") if isinstance(last, dict) else None
        else:
            found = self.json.get("error")
        assert found is None or isinstance(found, dict)
        return found

    @property
    def text(self) -> str:
        """What the model said."""
        if not self.streamed:
            return str(self.json["choices"][0]["message"]["content"])
        parts = [
            choice["delta"].get("content") or ""
            for event in self.events
            if isinstance(event, dict)
            for choice in event.get("choices", ())
        ]
        return "".join(parts)

    @property
    def good(self) -> bool:
        """A complete answer: 200, all of it, and said to be finished."""
        if self.status != 200 or not self.clean or self.error is not None or not self.text:
            return False
        return self.done if self.streamed else True

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.headers} {self.body[-300:]!r}>"


class Asked:
    """A request under way, whose client can leave at any moment."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.seen = b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def until(self, mark: bytes) -> None:
        """Read on until `mark` has come."""
        while mark not in self.seen:
            data = await self.reader.read(65_536)
            assert data, f"the response ended before {mark!r}: {self.seen!r}"
            self.seen += data

    async def leave(self) -> None:
        """Close the connection."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def answer(self) -> Answer:
        """Read the response to its end, and nothing of a next one."""
        while b"\r\n\r\n" not in self.seen:
            data = await self.reader.read(65_536)
            assert data, f"no whole head: {self.seen!r}"
            self.seen += data
        head, _, self.seen = self.seen.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        body, clean = await self._body(headers)
        return Answer(int(first.split()[1]), headers, body, clean=clean)

    async def _body(self, headers: dict[str, str]) -> tuple[bytes, bool]:
        body = b""
        try:
            if headers.get("transfer-encoding") != "chunked":
                return await self._exactly(int(headers["content-length"])), True
            while True:
                size = int(await self._line(), 16)
                if not size:
                    assert await self._line() == b""
                    return body, True
                body += await self._exactly(size)
                assert await self._line() == b""
        except asyncio.IncompleteReadError as cut:
            return body + cut.partial, False

    async def _exactly(self, size: int) -> bytes:
        if len(self.seen) < size:
            self.seen += await self.reader.readexactly(size - len(self.seen))
        taken, self.seen = self.seen[:size], self.seen[size:]
        return taken

    async def _line(self) -> bytes:
        while b"\r\n" not in self.seen:
            data = await self.reader.read(65_536)
            if not data:
                raise asyncio.IncompleteReadError(b"", None)
            self.seen += data
        line, _, self.seen = self.seen.partition(b"\r\n")
        return line


def request_bytes(body: object, path: str = CHAT, *, key: str = KEY, close: bool = True) -> bytes:
    """A whole POST."""
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: gateway", f"Authorization: Bearer {key}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    lines += ["Connection: close"] if close else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


@contextlib.asynccontextmanager
async def asking(
    port: int, body: object, path: str = CHAT, *, key: str = KEY
) -> AsyncIterator[Asked]:
    """Send a request on a connection of its own, which closes with the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with Asked(reader, writer) as asked:
        writer.write(request_bytes(body, path, key=key))
        yield asked


async def ask(
    port: int, path: str = CHAT, *, key: str = KEY, stream: bool = False, **more: Any
) -> Answer:
    """Ask and return the whole answer; a chat unless `body` is given."""
    body = more.pop("body", None) or body_of(stream=stream, **more)
    async with asking(port, body, path, key=key) as asked:
        return await asked.answer()


async def get(port: int, path: str, *, key: str = KEY) -> Answer:
    """GET with the key."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with Asked(reader, writer) as asked:
        head = f"GET {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\r\n"
        writer.write(f"{head}Connection: close\r\n\r\n".encode())
        return await asked.answer()
