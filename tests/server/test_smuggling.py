"""Requests that two parsers might read differently: refused, the connection closed, and whatever
was hidden behind them is never answered. No backend sees anything.
"""

import pytest
from tests.server.client import KEY, Client, chat, request
from tests.server.running import Running, until

AUTH = f"Authorization: Bearer {KEY}\r\n".encode()
HOST = b"Host: gateway\r\n"
LINE = b"POST /v1/chat/completions HTTP/1.1\r\n"
HEAD = LINE + HOST + AUTH
BODY = b'{"model":"llama","messages":[{"role":"user","content":"x"}]}'
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
# What an attacker would like to have answered, as a request of its own.
HIDDEN = request("GET", "/v1/models") + request("POST", "/v1/chat/completions", chat("hidden"))

SHAPES: dict[str, bytes] = {
    # Lengths
    "two lengths": HEAD + LENGTH + LENGTH + b"\r\n" + BODY,
    "two lengths that differ": HEAD + LENGTH + b"Content-Length: 0\r\n\r\n" + BODY,
    "a list of lengths": HEAD + b"Content-Length: 60, 60\r\n\r\n" + BODY,
    "a negative length": HEAD + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length with a plus": HEAD + b"Content-Length: +60\r\n\r\n" + BODY,
    "a hexadecimal length": HEAD + b"Content-Length: 0x3c\r\n\r\n" + BODY,
    "an empty length": HEAD + b"Content-Length: \r\n\r\n" + BODY,
    "a length with an underscore": HEAD + b"Content-Length: 6_0\r\n\r\n" + BODY,
    "a length with a fraction": HEAD + b"Content-Length: 60.0\r\n\r\n" + BODY,
    "a length with a blank inside": HEAD + b"Content-Length: 6 0\r\n\r\n" + BODY,
    "a length beyond 64 bits": HEAD + b"Content-Length: 18446744073709551676\r\n\r\n" + BODY,
    "a length in Arabic digits": HEAD + "Content-Length: ٦٠\r\n\r\n".encode() + BODY,
    # Transfer-Encoding
    "length, then chunked": HEAD + LENGTH + CHUNKED + b"\r\n" + CHUNKS,
    "chunked, then length": HEAD + CHUNKED + LENGTH + b"\r\n" + CHUNKS,
    "chunked twice": HEAD + CHUNKED + CHUNKED + b"\r\n" + CHUNKS,
    "chunked, chunked": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + CHUNKS,
    "gzip": HEAD + b"Transfer-Encoding: gzip\r\n\r\n" + CHUNKS,
    "gzip, chunked": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "gzip, then chunked": HEAD + b"Transfer-Encoding: gzip\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    "chunked, then gzip": HEAD + CHUNKED + b"Transfer-Encoding: gzip\r\n\r\n" + CHUNKS,
    "identity": HEAD + b"Transfer-Encoding: identity\r\n\r\n",
    "chunked, identity": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS,
    "an unknown coding": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
    "an empty coding": HEAD + b"Transfer-Encoding: \r\n\r\n" + CHUNKS,
    "a quoted coding": HEAD + b'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNKS,
    "a coding after a tab and VT": HEAD + b"Transfer-Encoding:\t\x0bchunked\r\n\r\n" + CHUNKS,
    "a coding with a parameter": HEAD + b"Transfer-Encoding: chunked;a=b\r\n\r\n" + CHUNKS,
    "a coding in HTTP/1.0": HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + CHUNKED + b"\r\n" + CHUNKS,
    "a coding and a length in HTTP/1.0": (
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + CHUNKED + LENGTH + b"\r\n" + CHUNKS
    ),
    # Line ends, blanks and characters
    "bare LF after the request line": LINE[:-2] + b"\n" + HOST + AUTH + LENGTH + b"\r\n" + BODY,
    "bare LF after a field": LINE + HOST[:-2] + b"\n" + AUTH + LENGTH + b"\r\n" + BODY,
    "bare LF for the empty line": HEAD + LENGTH + b"\n" + BODY,
    "bare LF everywhere": (HEAD + LENGTH + b"\r\n").replace(b"\r\n", b"\n") + BODY,
    "bare CR in a value": HEAD + b"X-A: b\rContent-Length: 0\r\n" + LENGTH + b"\r\n" + BODY,
    "bare CR before the line's end": HEAD + b"X-A: b\r\r\n" + LENGTH + b"\r\n" + BODY,
    "bare CR in the request line": LINE.replace(b" /", b"\r/") + HOST + AUTH + b"\r\n",
    "a folded line": HEAD + b"X-A: b\r\n " + LENGTH + b"\r\n" + BODY,
    "a folded line with a tab": HEAD + b"X-A: b\r\n\tc\r\n" + LENGTH + b"\r\n" + BODY,
    "a folded first field": LINE + b" " + HOST + AUTH + LENGTH + b"\r\n" + BODY,
    "a blank before the colon": HEAD + b"Content-Length : 0\r\n" + LENGTH + b"\r\n" + BODY,
    "a tab before the colon": HEAD + b"Transfer-Encoding\t: chunked\r\n\r\n" + CHUNKS,
    "no name": HEAD + b": value\r\n" + LENGTH + b"\r\n" + BODY,
    "no colon": HEAD + b"Content-Length\r\n" + LENGTH + b"\r\n" + BODY,
    "NUL in a value": HEAD + b"X-A: b\0c\r\n" + LENGTH + b"\r\n" + BODY,
    "NUL in a name": HEAD + b"X\0A: b\r\n" + LENGTH + b"\r\n" + BODY,
    "NUL in the target": LINE.replace(b"/v1", b"/\0v1") + HOST + AUTH + LENGTH + b"\r\n" + BODY,
    "a letter beyond ASCII in a name": HEAD + b"Content-L\xe9ngth: 0\r\n" + LENGTH + b"\r\n" + BODY,
    "brackets in a name": HEAD + b"[X]: b\r\n" + LENGTH + b"\r\n" + BODY,
    "a blank in the target": LINE.replace(b"/v1", b"/v1 ") + HOST + AUTH + LENGTH + b"\r\n" + BODY,
    "a blank before the method": b" " + HEAD + LENGTH + b"\r\n" + BODY,
    # Chunks
    "a blank before the size": HEAD + CHUNKED + b"\r\n " + CHUNKS,
    "a blank after the size": HEAD + CHUNKED + b"\r\n3c \r\n" + BODY + b"\r\n0\r\n\r\n",
    "a size with 0x": HEAD + CHUNKED + b"\r\n0x" + CHUNKS,
    "a negative size": HEAD + CHUNKED + b"\r\n-" + CHUNKS,
    "a size with a plus": HEAD + CHUNKED + b"\r\n+" + CHUNKS,
    "an empty size": HEAD + CHUNKED + b"\r\n\r\n" + CHUNKS,
    "a size beyond 64 bits": HEAD + CHUNKED + b"\r\n1000000000000003c\r\n" + BODY,
    "bare LF after a size": HEAD + CHUNKED + b"\r\n" + CHUNKS.replace(b"\r\n", b"\n", 1),
    "bare LF after the data": HEAD + CHUNKED + b"\r\n3c\r\n" + BODY + b"\n0\r\n\r\n",
    "bare LF in an extension": HEAD + CHUNKED + b"\r\n3c;a\nb\r\n" + BODY + b"\r\n0\r\n\r\n",
    "bare CR in an extension": HEAD + CHUNKED + b"\r\n3c;a\rb\r\n" + BODY + b"\r\n0\r\n\r\n",
    "more data than the size": HEAD + CHUNKED + b"\r\n1\r\n" + BODY + b"\r\n0\r\n\r\n",
    "less data than the size": HEAD + CHUNKED + b"\r\n3d\r\n" + BODY + b"\r\n0\r\n\r\n",
    "an extension without an end": HEAD + CHUNKED + b"\r\n3c;" + b"a" * 100_000,
    # Trailers
    "a length as a trailer": HEAD + CHUNKED + b"\r\n" + CHUNKS[:-2] + b"Content-Length: 5\r\n\r\n",
    "a coding as a trailer": HEAD + CHUNKED + b"\r\n" + CHUNKS[:-2] + CHUNKED + b"\r\n",
    "bare LF in a trailer": HEAD + CHUNKED + b"\r\n" + CHUNKS[:-2] + b"X-A: b\n\r\n",
    "a folded trailer": HEAD + CHUNKED + b"\r\n" + CHUNKS[:-2] + b"X-A: b\r\n c\r\n\r\n",
    "trailers without an end": HEAD + CHUNKED + b"\r\n" + CHUNKS[:-2] + b"X: b\r\n" * 20_000,
    # Host and other fields that decide
    "no host": LINE + AUTH + LENGTH + b"\r\n" + BODY,
    "two hosts": HEAD + b"Host: other\r\n" + LENGTH + b"\r\n" + BODY,
    "the same host twice": HEAD + HOST + LENGTH + b"\r\n" + BODY,
    "two keys": HEAD + b"Authorization: Bearer other\r\n" + LENGTH + b"\r\n" + BODY,
    "the same key twice": HEAD + AUTH + LENGTH + b"\r\n" + BODY,
    "two x-api-keys": HEAD + b"x-api-key: a\r\nX-API-Key: b\r\n" + LENGTH + b"\r\n" + BODY,
    # Versions and methods
    "HTTP/0.9": b"GET /v1/models\r\n",
    "HTTP/0.9, named": HEAD.replace(b"HTTP/1.1", b"HTTP/0.9") + LENGTH + b"\r\n" + BODY,
    "HTTP/1.2": HEAD.replace(b"HTTP/1.1", b"HTTP/1.2") + LENGTH + b"\r\n" + BODY,
    "HTTP/2.0": HEAD.replace(b"HTTP/1.1", b"HTTP/2.0") + LENGTH + b"\r\n" + BODY,
    "HTTP/1.1 in lower case": HEAD.replace(b"HTTP/1.1", b"http/1.1") + LENGTH + b"\r\n" + BODY,
    "HTTP/01.1": HEAD.replace(b"HTTP/1.1", b"HTTP/01.1") + LENGTH + b"\r\n" + BODY,
    "another protocol": HEAD.replace(b"HTTP/1.1", b"ICE/1.1") + LENGTH + b"\r\n" + BODY,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "CONNECT": b"CONNECT gateway:4000 HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
    "CONNECT with a body": b"CONNECT gateway:4000 HTTP/1.1\r\n" + HOST + LENGTH + b"\r\n" + BODY,
    "a method in lower case": b"get /v1/models HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
    "a method of its own": b"FETCH /v1/models HTTP/1.1\r\n" + HOST + AUTH + b"\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(range(200)),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_shape_is_refused_and_the_connection_closed(
    running: Running, client: Client, shape: str
) -> None:
    client.write(SHAPES[shape] + HIDDEN)
    answer = await client.answer()
    assert 400 <= answer.status < 500
    assert answer.error["type"] == "invalid_request_error"
    assert answer.closes
    assert await client.rest() == b"", "something behind it was answered"
    assert running.generations() == 0


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_shape_is_refused_when_it_comes_byte_by_byte(
    running: Running, client: Client, shape: str
) -> None:
    """As reads of one byte, straight into the protocol, for the first 3,000 bytes."""
    data = SHAPES[shape] + HIDDEN
    client.write(data[:1])
    await client.writer.drain()
    await until(lambda: running.gateway.connections)
    connection = running.connection()
    await until(lambda: connection._head_bytes or connection._failed)
    for at in range(1, min(len(data), 3000)):
        connection.data_received(data[at : at + 1])
    connection.data_received(data[3000:])
    answer = await client.answer()
    assert 400 <= answer.status < 500
    assert answer.closes
    assert await client.rest() == b""
    assert running.generations() == 0


@pytest.mark.parametrize(
    "shape", ["two lengths", "gzip, then chunked", "no host", "a negative size"]
)
async def test_a_shape_behind_a_good_request_is_refused_too(
    running: Running, client: Client, shape: str
) -> None:
    client.write(request("POST", "/v1/chat/completions", chat("good")) + SHAPES[shape] + HIDDEN)
    assert (await client.answer()).status == 200
    answer = await client.answer()
    assert answer.status == 400
    assert answer.closes
    assert await client.rest() == b""
    assert running.generations() == 1


async def test_malformed_requests_are_counted(running: Running, client: Client) -> None:
    client.write(SHAPES["two lengths"])
    assert (await client.answer()).status == 400
    assert running.gateway.metrics.malformed_requests == 1
