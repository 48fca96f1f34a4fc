"""The access log: one JSON line a request, encoded in batches off the event loop.

The names of the fields are documented in docs/logs.md. A line holds no text of any prompt or
answer, no key and no query string. When the writer is slower than the requests, lines are dropped
and counted: a log may lose lines, a gateway may not lose its memory.
"""

from collections.abc import Callable, Sequence

import msgspec

from arriero.core.record import Record
from arriero.telemetry.timestamp import rfc3339_ms

LINES_MAX = 16_384  # waiting to be written; about 16 MB at the most
TEXT_MAX = 256  # characters of any string, because clients choose some of them
COUNT_MAX = 2**53  # beyond, a JSON reader loses digits
ENCODE_LINES = 256  # at once: encoding holds the interpreter lock, and streams are waiting


class Line(msgspec.Struct, omit_defaults=True, gc=False, kw_only=True):
    """What is written of a request; a field with its default value is left out."""

    time: str
    request_id: str
    client: str = ""
    principal: str = ""
    method: str
    path: str
    operation: str = ""
    alias: str = ""
    backend: str = ""
    attempts: int = 0
    stream: bool = False
    status: int
    outcome: str
    code: str = ""
    duration_s: float
    first_token_s: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    ignored: str = ""


class AccessLog:
    """Records wait here until they are written. `write` None means that there is no log.

    `add` and `take` belong to the event loop's thread, `write_out` to any one thread at a time.
    """

    __slots__ = ("_lines_max", "_pending", "_write", "dropped")

    def __init__(self, write: Callable[[bytes], None] | None, lines_max: int = LINES_MAX) -> None:
        self._write = write
        self._lines_max = lines_max
        self._pending: list[Record] = []
        self.dropped = 0  # lines lost since the start

    def add(self, record: Record) -> None:
        """Note a settled request; the record must not be changed afterwards."""
        if self._write is None:
            return
        if len(self._pending) >= self._lines_max:
            self.dropped += 1
        else:
            self._pending.append(record)

    def take(self) -> list[Record]:
        """Return what waits, and forget it."""
        taken, self._pending = self._pending, []
        return taken

    def write_out(self, records: Sequence[Record]) -> None:
        """Encode and write what `take` returned. Raises what the writer raises (OSError)."""
        if self._write is not None and records:
            self._write(encode_lines(records))

    def drain(self) -> bytes:
        """Return what waits as JSON lines, and forget it."""
        return encode_lines(self.take())

    def flush(self) -> None:
        """Write what waits, here and now."""
        self.write_out(self.take())


_encoder = msgspec.json.Encoder()


def encode_lines(records: Sequence[Record]) -> bytes:
    """Return JSON lines, each ended by a newline."""
    return b"".join(
        _encoder.encode_lines([_line(record) for record in records[start : start + ENCODE_LINES]])
        for start in range(0, len(records), ENCODE_LINES)
    )


def _line(record: Record) -> Line:
    return Line(
        time=rfc3339_ms(record.started_unix_s),
        request_id=_text(record.request_id),
        client=_text(record.client),
        principal=_text(record.principal),
        method=_text(record.method),
        path=_text(record.path.partition("?")[0]),
        operation=record.operation,
        alias=_text(record.alias),
        backend=record.backend,
        attempts=record.attempts,
        stream=record.stream,
        status=record.status,
        outcome=record.outcome,
        code=_text(record.code),
        duration_s=round(record.duration_s, 6),
        first_token_s=round(record.first_token_s, 6) if record.first_token_s >= 0 else None,
        prompt_tokens=min(record.prompt_tokens, COUNT_MAX),
        cached_tokens=min(record.cached_tokens, COUNT_MAX),
        completion_tokens=min(record.completion_tokens, COUNT_MAX),
        request_bytes=record.request_bytes,
        response_bytes=record.response_bytes,
        ignored=_text(record.ignored),
    )


def _text(text: str) -> str:
    """Bound a string, and replace what UTF-8 cannot hold: one bad line must not cost a batch."""
    if len(text) > TEXT_MAX:
        text = text[: TEXT_MAX - 1] + "…"
    if text.isascii():
        return text
    return text.encode("utf-8", "replace").decode("utf-8")
