"""How answers leave: Ollama's own dialect, and the base of its OpenAI-compatible one.

As in Ollama, the handlers speak the native dialect only; `/v1` is an outlet that rewrites what
they write (middleware/openai.go).
"""

from typing import Any

import msgspec

from arriero.testing.http import Reply

encode = msgspec.json.encode
JSON = "application/json; charset=utf-8"


class Outlet:
    """The native dialect: JSON when whole, a line of JSON for each piece of a stream."""

    content_type = "application/x-ndjson"

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    def error(self, status: int, text: str) -> None:
        """Refuse the request."""
        self.reply.send(status, encode({"error": text}), JSON)

    def whole(self, value: dict[str, Any]) -> None:
        """Answer in one piece."""
        self.reply.send(200, encode(value), JSON)

    async def line(self, value: dict[str, Any]) -> None:
        """Stream one piece."""
        data = self.translate(value)
        if not self.reply.started:
            self.reply.start(200, self.content_type)
        if data:
            await self.reply.write(data)

    async def garble(self, value: dict[str, Any]) -> None:
        """Stream a piece that breaks off in the middle of its JSON."""
        data = self.translate(value).rstrip()
        if not self.reply.started:
            self.reply.start(200, self.content_type)
        await self.reply.write(data[: len(data) // 2] + b"\n")

    async def failed(self, text: str) -> None:
        """Report a failure: as a status before the first piece, after it as Ollama does."""
        if not self.reply.started:
            self.error(500, text)
            return
        await self.line({"error": text})
        self.reply.end()

    def end(self) -> None:
        """End a stream; one without any piece is an empty answer with status 200."""
        if not self.reply.started:
            self.reply.start(200, self.content_type)
        self.reply.end()

    def translate(self, value: dict[str, Any]) -> bytes:
        """Return the bytes of one native piece in this dialect."""
        return encode(value) + b"\n"
