"""One request as the parser delivers it."""

from urllib.parse import unquote

_SINGLE = frozenset((b"host", b"authorization", b"x-api-key", b"expect", b"content-type"))


class Request:
    """A head, and a body that may still be arriving. Header names are in lower case."""

    __slots__ = (
        "body_parts", "complete", "headers", "keep_alive", "method", "queued",
        "received_bytes", "repeated", "target", "version",
    )  # fmt: skip

    def __init__(self) -> None:
        self.method = b""
        self.target = b""
        self.version = "1.1"
        self.headers: dict[bytes, bytes] = {}
        self.repeated: bytes | None = None  # a field that must not stand twice, and does
        self.keep_alive = True
        self.body_parts: list[bytes] = []
        self.received_bytes = 0
        self.complete = False
        self.queued = False  # handed on for answering, perhaps before its body is complete

    def note_repeated(self, name: bytes) -> None:
        """Note a second field of a name: of these, two parsers may believe different ones."""
        if name in _SINGLE:
            self.repeated = name

    @property
    def path(self) -> str:
        """The target without its query, percent-decoded, always beginning with a slash."""
        path = self.target.partition(b"?")[0].partition(b"#")[0].decode("latin-1")
        return unquote(path, errors="replace") if "%" in path else path

    def body(self) -> bytes:
        """Return the whole body and let go of its parts."""
        parts = self.body_parts
        if len(parts) == 1:
            return parts[0]
        body = b"".join(parts)
        self.body_parts = [body]
        return body
