"""The access log: one JSON line a request, encoded when it is counted, written in batches.

Encoding takes about 1.5 µs and is done on the event loop. Another thread that encoded a batch took
the interpreter from the loop for whole switch intervals, which was the longest wait that the
gateway added to a request.

The names of the fields are documented in docs/logs.md. A line holds no text of any prompt or
answer, no key and no query string. When the writer is slower than the requests, lines are dropped
and counted: a log may lose lines, a gateway may not lose its memory.
"""

from collections.abc import Callable

import msgspec

from arriero.core.record import Record
from arriero.telemetry.timestamp import rfc3339_ms

LINES_MAX = 16_384  # waiting to be written; about 16 MB at the most
TEXT_MAX = 256  # characters of any string, because clients choose some of them
COUNT_MAX = 2**53  # beyond, a JSON reader loses digits


class Line(msgspec.Struct, omit_defaults=True, gc=False):
    """What is written of a request; a field with its default value is left out.

    The impossible defaults (None, -1) belong to the fields that stand in every line.
    """

    time: str | None = None
    request_id: str | None = None
    client: str = ""
    principal: str = ""
    method: str | None = None
    path: str | None = None
    operation: str = ""
    alias: str = ""
    backend: str = ""
    attempts: int = 0
    stream: bool = False
    status: int = -1
    outcome: str | None = None
    code: str = ""
    duration_s: float = -1.0
    first_token_s: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    request_bytes: int = 0
    response_bytes: int = 0
    ignored: str = ""
    queue_s: float | None = None
    user: str = ""
    resumed: int = 0


class AccessLog:
    """Lines wait here until they are written. `write` None means that there is no log.

    `add` and `take` belong to the event loop's thread, `write_out` to any one thread at a time.
    """

    __slots__ = ("_count", "_lines", "_lines_max", "_write", "dropped")

    def __init__(self, write: Callable[[bytes], None] | None, lines_max: int = LINES_MAX) -> None:
        self._write = write
        self._lines_max = lines_max
        self._lines = bytearray()
        self._count = 0  # of the lines in it
        self.dropped = 0  # lines lost since the start

    def add(self, record: Record) -> None:
        """Note a settled request."""
        if self._write is None:
            return
        if self._count >= self._lines_max:
            self.dropped += 1
        else:
            self._count += 1
            self._lines += encode_line(record)

    def take(self) -> bytearray:
        """Return the lines that wait, and forget them."""
        taken, self._lines = self._lines, bytearray()
        self._count = 0
        return taken

    def write_out(self, lines: bytearray) -> None:
        """Write what `take` returned. Raises what the writer raises (OSError)."""
        if self._write is not None and lines:
            self._write(bytes(lines))

    def flush(self) -> None:
        """Write what waits, here and now."""
        self.write_out(self.take())


_encode = msgspec.json.Encoder().encode_lines


def encode_line(record: Record) -> bytes:
    """Return a JSON line, ended by a newline."""
    line = _line(record)
    try:
        return _encode((line,))
    except UnicodeEncodeError:  # a lone surrogate, from bytes of a client that were no UTF-8
        return _encode((_cleaned(line),))


def _line(record: Record) -> Line:
    """Return the line for a record; positions spare half of the time that keywords take."""
    first_token_s = record.first_token_s
    return Line(
        rfc3339_ms(record.started_unix_s),
        _bounded(record.request_id),
        record.client,
        record.principal,
        _bounded(record.method),
        _path(record.path),
        record.operation,
        _bounded(record.alias),
        record.backend,
        record.attempts,
        record.stream,
        record.status,
        record.outcome,
        record.code,
        int(record.duration_s * 1e6) / 1e6,
        int(first_token_s * 1e6) / 1e6 if first_token_s >= 0 else None,
        _count(record.prompt_tokens),
        _count(record.cached_tokens),
        _count(record.completion_tokens),
        record.request_bytes,
        record.response_bytes,
        _bounded(record.ignored),
        int(record.queue_s * 1e6) / 1e6 if record.queue_s else None,
        record.user,
        record.resumed,
    )


def _path(path: str) -> str:
    if "?" in path:  # a query may hold a key
        path = path[: path.index("?")]
    return _bounded(path)


def _bounded(text: str) -> str:
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"


def _count(count: int) -> int:
    return min(count, COUNT_MAX)


def _cleaned(line: Line) -> Line:
    changes = {
        name: value.encode("utf-8", "replace").decode("utf-8")
        for name, value in msgspec.structs.asdict(line).items()
        if isinstance(value, str)
    }
    return msgspec.structs.replace(line, **changes)
