"""The small server: what it parses, how it may misbehave, and that nothing of it stays behind."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.testing import http
from arriero.testing.http import Connection, HttpServer, Reply, Request

Handler = Callable[[Request, Reply], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
POST = (
    b"POST /a%20path?x=1&y HTTP/1.1\r\nHost: x\r\nX-Many: one\r\nX-Many: two\r\n"
    b"Content-Length: 5\r\n\r\nhello"
)
CHUNKED = (
    b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
)


async def echo(request: Request, reply: Reply) -> None:
    reply.json(200, {"path": request.path, "body": request.body.decode()})


@asynccontextmanager
async def connected(
    handle: Handler,
) -> AsyncIterator[tuple[HttpServer, asyncio.StreamReader, asyncio.StreamWriter]]:
    async with HttpServer(handle) as server, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        try:
            yield server, reader, writer
        finally:
            writer.close()
            with suppress(ConnectionError):  # the server's fault may be the point of the test
                await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


class Recorder(HttpServer):
    """Takes requests and runs nothing."""

    def __init__(self) -> None:
        super().__init__(echo)
        self.seen: list[Request] = []

    @property
    def listening(self) -> bool:
        return True

    def run(self, work: Coroutine[Any, Any, None]) -> Callable[[], object]:
        # The coroutine's own arguments are the request: nothing is awaited here.
        assert work.cr_frame is not None  # type: ignore[attr-defined]  # a coroutine of `async def` has one
        self.seen.append(work.cr_frame.f_locals["request"])  # type: ignore[attr-defined]  # see above
        work.close()
        return lambda: None


class NoTransport(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        pass


@given(cuts=st.lists(st.integers(0, len(POST)), max_size=6), chunked=st.booleans())
def test_a_request_may_be_cut_anywhere(cuts: list[int], *, chunked: bool) -> None:
    data = CHUNKED if chunked else POST
    server = Recorder()
    connection = Connection(server)
    connection.connection_made(NoTransport())
    edges = [0, *sorted(cuts), len(data)]
    for start, end in pairwise(edges):
        connection.data_received(data[start:end])
    (request,) = server.seen
    assert request.body == b"hello"
    if not chunked:
        assert (request.method, request.path, request.query) == ("POST", "/a path", "x=1&y")
        assert request.headers["x-many"] == "two"


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_a_request_or_a_400(data: bytes) -> None:
    server = Recorder()
    connection = Connection(server)
    transport = NoTransport()
    connection.connection_made(transport)
    connection.data_received(data)
    assert not transport.written or transport.written.startswith(b"HTTP/1.1 400")


async def test_requests_are_answered_in_order_on_one_connection() -> None:
    async with connected(echo) as (_, reader, writer):
        writer.write(POST + CHUNKED + GET)
        answers = [await answer(reader) for _ in range(3)]
    assert [b'"path":"/a path"' in body for _, body in answers] == [True, False, False]
    assert b'"path":"/b"' in answers[1][1]


async def test_too_many_requests_at_once_are_refused() -> None:
    async def never(_request: Request, _reply: Reply) -> None:
        await asyncio.Event().wait()

    async with connected(never) as (_, reader, writer):
        writer.write(GET * (http.PIPELINED_MAX + 2))
        assert (await answer(reader))[0] == 429


async def test_head_gets_the_length_and_no_body() -> None:
    async with connected(echo) as (_, reader, writer):
        writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: 22" in head
        assert (await answer(reader))[0] == 200


async def test_a_client_that_wants_to_close_is_closed() -> None:
    async with connected(echo) as (_, reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        whole = await reader.read()
    assert b"Connection: close" in whole


async def test_a_client_may_ask_whether_to_go_on() -> None:
    async with connected(echo) as (_, reader, writer):
        writer.write(POST.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue"))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await answer(reader))[0] == 200


@pytest.mark.parametrize(("size", "status"), [(9, 200), (10, 200), (11, 413)])
async def test_bodies_have_a_limit(monkeypatch: pytest.MonkeyPatch, size: int, status: int) -> None:
    monkeypatch.setattr(http, "BODY_BYTES_MAX", 10)
    async with connected(echo) as (_, reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        assert (await answer(reader))[0] == status


@pytest.mark.parametrize(("size", "status"), [(99, 200), (100, 200), (101, 400)])
async def test_heads_have_a_limit(monkeypatch: pytest.MonkeyPatch, size: int, status: int) -> None:
    monkeypatch.setattr(http, "HEAD_BYTES_MAX", 100)
    async with connected(echo) as (_, reader, writer):
        value = b"v" * (size - len("/") - len("name"))
        writer.write(b"GET / HTTP/1.1\r\nname: " + value + b"\r\n\r\n")
        assert (await answer(reader))[0] == status


async def test_connections_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 1)
    async with connected(echo) as (server, reader, writer):
        writer.write(GET)
        await answer(reader)
        late, late_writer = await asyncio.open_connection(server.host, server.port)
        assert await late.read() == b""
        late_writer.close()


async def test_a_chunked_answer() -> None:
    async def stream(_request: Request, reply: Reply) -> None:
        reply.start(200, "text/plain")
        for part in (b"one", b"two"):
            await reply.write(part)
        reply.end()

    async with connected(stream) as (_, reader, writer):
        writer.write(GET)
        assert (await reader.readuntil(b"0\r\n\r\n")).endswith(b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")


async def test_a_client_that_leaves_cancels_its_handler() -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(_request: Request, _reply: Reply) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with connected(wait) as (_, _reader, writer):
        writer.write(GET)
        await began.wait()
        writer.close()
        await cancelled.wait()


async def test_a_reset_is_a_reset() -> None:
    async def reset(_request: Request, reply: Reply) -> None:
        reply.start(200, "text/plain")
        await reply.write(b"one")
        reply.reset()

    async with connected(reset) as (_, reader, writer):
        writer.write(GET)
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_a_close_ends_where_it_stands() -> None:
    async def close(_request: Request, reply: Reply) -> None:
        reply.start(200, "text/plain")
        await reply.write(b"one")
        reply.close()

    async with connected(close) as (_, reader, writer):
        writer.write(GET)
        assert (await reader.read()).endswith(b"3\r\none\r\n")


async def test_an_answer_left_in_the_middle_is_closed() -> None:
    async def forget(_request: Request, reply: Reply) -> None:
        reply.start(200, "text/plain")

    async with connected(forget) as (_, reader, writer):
        writer.write(GET)
        assert (await reader.read()).endswith(b"\r\n\r\n")


async def test_writers_wait_for_slow_readers() -> None:
    written = 0

    async def pour(_request: Request, reply: Reply) -> None:
        nonlocal written
        reply.start(200, "text/plain")
        for _ in range(400):
            await reply.write(b"x" * 65536)
            written += 1
        reply.end()

    async with connected(pour) as (server, reader, writer):
        writer.write(GET)
        while not server._connections:  # noqa: ASYNC110 - nothing tells of an accepted connection
            await asyncio.sleep(0)
        (connection,) = server._connections
        while connection.writable.is_set():  # noqa: ASYNC110 - there is no event for its being unset
            await asyncio.sleep(0)
        assert written < 400
        while not (await reader.read(1 << 20)).endswith(b"0\r\n\r\n"):
            pass
        assert written == 400


async def test_a_handlers_defect_is_told_at_the_end() -> None:
    async def fail(_request: Request, _reply: Reply) -> None:
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError):
        async with connected(fail) as (_, reader, writer):
            writer.write(GET)
            with pytest.raises(ConnectionResetError):
                await reader.read()


async def test_a_port_can_be_refused_and_taken_again() -> None:
    async with HttpServer(echo) as server:
        port = server.port
        server.stop_listening()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(server.host, port)
        await server.listen()
        assert server.port == port
        _, writer = await asyncio.open_connection(server.host, port)
        writer.close()


async def test_work_in_the_background_ends_with_the_server() -> None:
    async with asyncio.timeout(5), HttpServer(echo) as server:
        server.run(asyncio.sleep(3600))


async def test_an_error_in_the_block_is_not_hidden_by_waiting_handlers() -> None:
    async def wait(_request: Request, _reply: Reply) -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        async with connected(wait) as (_, _reader, writer):
            writer.write(GET)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
