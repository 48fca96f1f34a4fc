"""One request as the parser delivers it."""

from urllib.parse import unquote

import msgspec

_SINGLE = frozenset(
    (b"host", b"authorization", b"x-api-key", b"expect", b"content-type", b"transfer-encoding")
)


class SeenHead(msgspec.Struct, eq=False):
    """A head of which requests may come again: all of it but the figure of Content-Length.

    `admitted` is what the pipeline decided on seeing it, for as long as that holds.
    """

    before: bytes  # the figure
    after: bytes
    figure_start: int
    figure_digits: int
    method: bytes
    target: bytes
    headers: dict[bytes, bytes]
    admitted: object = None


class Request(msgspec.Struct, eq=False):
    """A head, and a body that may still be arriving. Header names are in lower case."""

    method: bytes = b""
    target: bytes = b""
    version: str = "1.1"
    headers: dict[bytes, bytes] = {}
    keep_alive: bool = True
    complete: bool = False
    queued: bool = False  # handed on for answering, perhaps before its body is complete
    body_parts: list[bytes] = []
    received_bytes: int = 0
    framed_bytes: int = 0  # the same with chunk sizes, extensions and trailers, or less
    seen: SeenHead | None = None  # its head has come before
    repeated: bytes | None = None  # a field that must not stand twice, and does
    repeats: int = 0  # fields that `headers` does not show, because a later one has their name
    repeats_bytes: int = 0

    def note_repeated(self, name: bytes, earlier: bytes) -> None:
        """Note a second field of a name: of some, two parsers may believe different ones."""
        if self.method:
            return  # a trailer
        self.repeats += 1
        self.repeats_bytes += len(name) + len(earlier) + 4
        if name in _SINGLE:
            self.repeated = name

    def head_bytes(self) -> int:
        """Return the length of the head, as if it had no needless blanks."""
        line = len(self.method) + len(self.target) + len("  HTTP/1.1\r\n\r\n")
        fields = sum(len(name) + len(value) + 4 for name, value in self.headers.items())
        return line + fields + self.repeats_bytes

    @property
    def path(self) -> str:
        """The target without its query, percent-decoded; of an absolute one, its path."""
        path = self.target.partition(b"?")[0].partition(b"#")[0].decode("latin-1")
        if path[:1] != "/" and "://" in path:  # a client may take us for a proxy (RFC 9112, 3.2.2)
            path = "/" + path.partition("://")[2].partition("/")[2]
        return unquote(path, errors="replace") if "%" in path else path

    def body(self) -> bytes:
        """Return the whole body and let go of its parts."""
        parts = self.body_parts
        if len(parts) == 1:
            return parts[0]
        body = b"".join(parts)
        self.body_parts = [body]
        return body
