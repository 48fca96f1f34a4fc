"""JSON text for answers, safe in every client's stream reader."""

import msgspec

_EVENT_HEAD = b"data: "
_EVENT_TAIL = b"\n\n"


def json_text(text: str) -> bytes:
    """Return a string as JSON, in a form that survives naive line splitting.

    JSON escapes CR and LF itself. U+0085, U+2028 and U+2029 need not be escaped, but Python's
    `str.splitlines` and several SSE readers built on it take them for line ends and tear the event
    apart. A lone surrogate, which UTF-8 cannot carry, becomes a question mark.
    """
    try:
        encoded = msgspec.json.encode(text)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(text.encode("utf-8", "replace").decode())
    if text.isascii():
        return encoded
    return (
        encoded.replace(b"\xc2\x85", b"\\u0085")
        .replace(b"\xe2\x80\xa8", b"\\u2028")
        .replace(b"\xe2\x80\xa9", b"\\u2029")
    )


def raw_text(text: str) -> msgspec.Raw:
    """Return `json_text` for use within a larger value."""
    return msgspec.Raw(json_text(text))


def one_line(raw: msgspec.Raw) -> bytes:
    """Return raw JSON without the line breaks that may stand between its tokens."""
    return bytes(raw).replace(b"\r", b" ").replace(b"\n", b" ")


def event(data: bytes) -> bytes:
    """Return one server-sent event."""
    return _EVENT_HEAD + data + _EVENT_TAIL


DONE = event(b"[DONE]")
