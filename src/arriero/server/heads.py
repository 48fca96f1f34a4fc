"""A head that comes again, which is what the clients of kept connections nearly always send.

An SDK's requests on one connection differ in their bodies and in the figure of Content-Length. The
parser keeps nothing between two messages, so where every other byte of a head is the one that it
accepted before, it would say the same again. Comparing them costs a tenth of parsing; whatever
differs, or did not come whole in one read, goes to the parser.
"""

from arriero.server.request import Request, SeenHead

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length: "
_LENGTH_DIGITS_MAX = 8
_HEAD_BYTES_MAX = 2048  # kept by each connection
# With these a request is more than its head and a body of known length.
_UNFIT = (b"transfer-encoding", b"expect", b"upgrade")

_KEPT_WHOLE_QUEUED = (True, True, True)  # `keep_alive`, `complete` and `queued` of a Request


def remember(data: bytes, request: Request, body_bytes_max: int) -> SeenHead | None:
    """Return the head of `request` if `data` is all of it and nothing else, and plain enough.

    What it recognises has as many digits in its Content-Length, and so no body over the limit.
    """
    end = data.find(_HEAD_END, 0, _HEAD_BYTES_MAX) + len(_HEAD_END)
    headers = request.headers
    if end < len(_HEAD_END) or request.version != "1.1" or not request.keep_alive:
        return None
    if request.repeats or any(name in headers for name in _UNFIT):
        return None
    figure = headers.get(b"content-length", b"")
    start = data[:end].lower().find(_LENGTH) + len(_LENGTH)
    if start < len(_LENGTH) or not data.startswith(figure + b"\r\n", start):
        return None
    if not figure.isdigit() or int(figure) != len(data) - end:
        return None
    digits = len(figure)
    if digits > _LENGTH_DIGITS_MAX or 10**digits > body_bytes_max:
        return None
    return SeenHead(
        data[:start],
        data[start + digits : end],
        start,
        digits,
        request.method,
        request.target,
        headers,
    )


def recognise(seen: SeenHead, data: bytes) -> Request | None:
    """Return the request in `data` if it is whole and its head the one that was seen."""
    start, after = seen.figure_start, seen.after
    end = start + seen.figure_digits
    if not (data.startswith(seen.before) and data.startswith(after, end)):
        return None
    figure, body = data[start:end], data[end + len(after) :]
    length = len(body)
    if not figure.isdigit() or int(figure) != length:
        return None
    # By position, as keywords cost half as much again.
    return Request(
        seen.method, seen.target, "1.1", seen.headers, *_KEPT_WHOLE_QUEUED, [body], length, 0, seen
    )
