"""HTTP/1.1 heads: what we write, and the checks that the parser leaves to us.

llhttp (httptools) is strict about framing: two lengths, length and chunked together, bare LF,
folded lines, blanks before a colon and malformed chunk sizes are refused by it. Left to us are
the rules about Host, about Transfer-Encoding values, and about versions (RFC 9112, 3.2, 6.1, 2.3).
"""

from collections.abc import Mapping

from arriero.base.errors import AmbiguousRequest, ExpectationFailed

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_PHRASES = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    417: "Expectation Failed",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_STATUS_LINES = {
    status: f"HTTP/1.1 {status} {phrase}\r\n".encode() for status, phrase in _PHRASES.items()
}


def status_line(status: int) -> bytes:
    """Return the status line with its CRLF; an unlisted status has an empty phrase."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def chunked(data: bytes) -> bytes:
    """Return `data` as one chunk of the chunked coding (RFC 9112, 7.1); b"" would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def check_head(version: str, headers: Mapping[bytes, bytes], repeated: bytes | None) -> None:
    """Refuse heads that two parsers might read differently.

    `headers` has lower-case names; `repeated` is a field that stands twice and must not. Raises
    AmbiguousRequest, and the caller must close the connection then, because the message's end is no
    longer certain.
    """
    if repeated is not None:
        raise AmbiguousRequest(f"the header {repeated.decode('latin-1')} was sent twice")
    if version == "1.1":
        if b"host" not in headers:
            raise AmbiguousRequest("an HTTP/1.1 request has a Host header (RFC 9112, 3.2)")
    elif version != "1.0":
        raise AmbiguousRequest(f"HTTP/{version} is not spoken here", hint="use HTTP/1.1")
    coding = headers.get(b"transfer-encoding")
    if coding is not None and (version == "1.0" or coding.strip().lower() != b"chunked"):
        raise AmbiguousRequest("the only transfer coding is chunked, in HTTP/1.1 (RFC 9112, 6.1)")


def expects_continue(headers: Mapping[bytes, bytes], version: str) -> bool:
    """Say whether the client waits for a 100. Raises ExpectationFailed on any other expectation."""
    expectation = headers.get(b"expect")
    if expectation is None or version == "1.0":  # RFC 9110, 10.1.1: ignore it in HTTP/1.0
        return False
    if expectation.strip().lower() != b"100-continue":
        raise ExpectationFailed("the only expectation is 100-continue")
    return True
