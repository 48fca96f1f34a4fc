"""A client that sends bytes as they are and takes answers apart strictly."""

import asyncio
import json
import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Self

KEY = "sk-test-123456"
PATIENCE_S = 20.0  # a hang fails its test instead of the whole run

_HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[A-Za-z0-9-]+: [^\r\n]*\r\n)*)\r\n\Z")


class Answer:
    """One response."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.headers} {self.body[:400]!r}>"

    def json(self) -> Any:  # a body is any JSON
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error, whose form is checked in passing: OpenAI's, with the request's id in it."""
        document = self.json()
        assert set(document) == {"error"}
        error: dict[str, Any] = document["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert self.headers["content-type"] == "application/json"
        assert error["message"].endswith(f"[request {self.headers['x-request-id']}]")
        return error

    @property
    def events(self) -> list[str]:
        """The data of a stream's events, without comments."""
        blocks = self.body.decode().split("\n\n")
        assert blocks.pop() == "", "the last event is not ended"
        return [block.removeprefix("data: ") for block in blocks if not block.startswith(":")]

    @property
    def text(self) -> str:
        """What a stream's events say when put together."""
        *chunks, last = self.events
        assert last == "[DONE]"
        deltas = [choice["delta"] for chunk in chunks for choice in json.loads(chunk)["choices"]]
        return "".join(delta.get("content") or "" for delta in deltas)

    @property
    def closes(self) -> bool:
        """Whether the gateway said that it closes the connection."""
        return self.headers.get("connection") == "close"


class Client:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(
        cls, port: int, tls: ssl.SSLContext | None = None, receive_bytes: int = 0
    ) -> Self:
        """Connect; `receive_bytes` makes the kernel's buffer small, as a slow client's may be."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        name = "localhost" if tls else None
        limit = receive_bytes or 2**20
        streams = await asyncio.open_connection(
            sock=sock, ssl=tls, server_hostname=name, limit=limit
        )
        return cls(*streams)

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head_only: bool = False) -> Answer:
        """Read one final response; an interim one is an error here, see `interim`."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._answer(head_only=head_only)

    async def interim(self) -> bytes:
        """Read one interim response."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = KEY,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request and read its answer."""
        self.write(request(method, path, body, key=key, headers=headers))
        return await self.answer(head_only=method == "HEAD")

    async def rest(self) -> bytes:
        """Read until the connection ends, whichever way; fails when it does not."""
        received = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while data := await self.reader.read(65_536):
                    received += data
            except ConnectionResetError:
                return received
        return received

    async def close(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.writer.wait_closed()
        except (OSError, ssl.SSLError):
            return  # the other side was quicker, or ruder

    def abort(self) -> None:
        """Leave without a word."""
        self.writer.transport.abort()

    async def _answer(self, *, head_only: bool) -> Answer:
        head = _HEAD.match(await self.reader.readuntil(b"\r\n\r\n"))
        assert head is not None, "not a well-formed head"
        fields = [line.split(b": ", 1) for line in head[2].split(b"\r\n")[:-1]]
        headers = {name.decode().lower(): value.decode() for name, value in fields}
        assert len(headers) == len(fields), f"a header came twice: {fields}"
        return Answer(int(head[1]), headers, await self._body(headers, head_only=head_only))

    async def _body(self, headers: dict[str, str], *, head_only: bool) -> bytes:
        if head_only:
            return b""
        if "content-length" in headers:
            assert "transfer-encoding" not in headers
            return await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding") == "chunked":
            return await self._chunks()
        assert headers.get("connection") == "close", "how would this body end?"
        return await self.rest()

    async def _chunks(self) -> bytes:
        parts = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            parts.append(await self.reader.readexactly(size))
            assert await self.reader.readexactly(2) == b"\r\n"
        assert await self.reader.readexactly(2) == b"\r\n"
        return b"".join(parts)


def request(
    method: str,
    path: str,
    body: object = None,
    *,
    key: str | None = KEY,
    headers: Mapping[str, str] | None = None,
    version: str = "1.1",
) -> bytes:
    """Return a whole request; a body that is not bytes is sent as JSON."""
    lines = [f"{method} {path} HTTP/{version}", "Host: gateway"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    content = b""
    if body is not None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines.append(f"Content-Length: {len(content)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


def chunked(*parts: bytes) -> bytes:
    """Return parts as the chunks of a body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def chat(text: str = "hello", **more: object) -> dict[str, object]:
    """Return the body of a chat request."""
    return {"model": "llama", "messages": [{"role": "user", "content": text}], **more}
