"""Every limit at its edge, and the timeouts, for which the tests move the clock themselves."""

import asyncio

import pytest
from tests.server.client import Client, chat, chunked, request
from tests.server.conftest import Launch
from tests.server.running import Running, until

from arriero.server.connection import (
    HEADERS_MAX,
    LINGER_QUIET_S,
    LINGER_S_MAX,
    WRITE_BUFFER_HIGH_BYTES,
)
from arriero.testing.ollama import Fault, Kind

HEAD_BYTES = 2048
BODY_BYTES = 4096
SMALL = {"head_bytes_max": HEAD_BYTES, "body_bytes_max": BODY_BYTES}


def head_of(size: int, *, field: bytes = b"X-Padding") -> bytes:
    """Return a request whose head is exactly so long."""
    head = request("GET", "/v1/models")[:-2]
    padding = size - len(head) - len(field) - len(b": \r\n\r\n")
    return head + field + b": " + b"a" * padding + b"\r\n\r\n"


def body_of(size: int) -> bytes:
    """Return a chat request's body of exactly that length."""
    start = b'{"model":"llama","messages":[{"role":"user","content":"'
    return start + b"a" * (size - len(start) - 4) + b'"}]}'


# -- sizes


@pytest.mark.parametrize(("over", "status"), [(-1, 200), (0, 200), (1, 431)])
@pytest.mark.parametrize("step", [1_000_000, 300])
async def test_head_bytes(launch: Launch, over: int, status: int, step: int) -> None:
    running = await launch(server=SMALL)
    client = await running.connect()
    head = head_of(HEAD_BYTES + over)
    assert len(head) == HEAD_BYTES + over
    for at in range(0, len(head), step):
        client.write(head[at : at + step])
        await client.writer.drain()
    answer = await client.answer()
    assert answer.status == status
    assert answer.closes == (status == 431)
    if status == 431:
        assert answer.error["code"] == "headers_too_large"
        assert await client.rest() == b""


@pytest.mark.parametrize(("over", "status"), [(-1, 200), (0, 200), (1, 431)])
async def test_head_bytes_before_a_body_in_the_same_read(
    launch: Launch, over: int, status: int
) -> None:
    running = await launch(server=SMALL)
    client = await running.connect()
    body = body_of(3000)
    head = request("POST", "/v1/chat/completions", headers={"Content-Length": "3000"})[:-2]
    padding = HEAD_BYTES + over - len(head) - len(b"X: \r\n\r\n")
    client.write(head + b"X: " + b"a" * padding + b"\r\n\r\n" + body)
    assert (await client.answer()).status == status


@pytest.mark.parametrize("part", ["the target", "a field without an end", "one name many times"])
async def test_a_head_without_an_end_is_cut_off(launch: Launch, part: str) -> None:
    running = await launch(server=SMALL)
    client = await running.connect()
    start = b"GET /" if part == "the target" else request("GET", "/v1/models")[:-2]
    line = b"X: b\r\n" if part == "one name many times" else b"a"
    client.write(start + line * HEAD_BYTES)
    answer = await client.answer()
    assert answer.status == 431
    assert await client.rest() == b""


@pytest.mark.parametrize("names", ["different", "equal"])
@pytest.mark.parametrize(("over", "status"), [(-1, 200), (0, 200), (1, 431)])
async def test_number_of_fields(client: Client, names: str, over: int, status: int) -> None:
    head = request("GET", "/v1/models")[:-2]
    own = head.count(b"\r\n") - 1
    fields = [
        b"X-%d: b\r\n" % (at if names == "different" else 0)
        for at in range(HEADERS_MAX + over - own)
    ]
    client.write(head + b"".join(fields) + b"\r\n")
    assert (await client.answer()).status == status


@pytest.mark.parametrize(("over", "status"), [(-1, 200), (0, 200), (1, 413)])
async def test_declared_body_bytes(launch: Launch, over: int, status: int) -> None:
    running = await launch(server=SMALL)
    client = await running.connect()
    answer = await client.ask("POST", "/v1/chat/completions", body_of(BODY_BYTES + over))
    assert answer.status == status
    assert running.generations() == (status == 200)


@pytest.mark.parametrize(("over", "status"), [(-1, 200), (0, 200), (1, 413)])
@pytest.mark.parametrize("size", [100, 5000])
async def test_chunked_body_bytes(launch: Launch, over: int, status: int, size: int) -> None:
    running = await launch(server=SMALL)
    client = await running.connect()
    body = body_of(BODY_BYTES + over)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    head = {"Transfer-Encoding": "chunked"}
    client.write(request("POST", "/v1/chat/completions", headers=head) + chunked(*parts))
    answer = await client.answer()
    assert answer.status == status
    assert running.generations() == (status == 200)


async def test_a_declared_body_is_refused_before_it_is_sent(launch: Launch) -> None:
    running = await launch(server=SMALL)
    client = await running.connect()
    length = {"Content-Length": str(BODY_BYTES + 1)}
    client.write(request("POST", "/v1/chat/completions", headers=length))
    answer = await client.answer()
    assert answer.status == 413
    assert answer.error["code"] == "payload_too_large"
    assert answer.closes
    assert await client.rest() == b""


async def test_a_chunked_body_is_refused_before_it_ends(launch: Launch) -> None:
    running = await launch(server=SMALL)
    client = await running.connect()
    client.write(
        request("POST", "/v1/chat/completions", headers={"Transfer-Encoding": "chunked"})
        + chunked(b"a" * BODY_BYTES, b"a")[:-5]
    )
    assert (await client.answer()).status == 413
    assert await client.rest() == b""


@pytest.mark.parametrize(
    "piece", [b"1;" + b"a" * 1000 + b"\r\nx\r\n", b"0\r\n" + b"X: b\r\n" * 500]
)
async def test_framing_may_not_outweigh_the_body(launch: Launch, piece: bytes) -> None:
    """Extensions and trailers are thrown away, and could be sent without an end."""
    running = await launch(server=SMALL)
    client = await running.connect()
    head = {"Transfer-Encoding": "chunked"}
    client.write(request("POST", "/v1/chat/completions", headers=head))
    await until(lambda: running.open()["requests"])
    answer = asyncio.create_task(client.answer())
    for _ in range(2000):
        client.write(piece)
        piece = piece.removeprefix(b"0\r\n")
        await client.writer.drain()
        if answer.done():
            break
    assert (await answer).status == 400
    assert (await answer).closes
    assert "extensions" in (await answer).error["message"]


async def test_chunks_of_one_byte_are_no_abuse(launch: Launch) -> None:
    running = await launch(server=SMALL)
    client = await running.connect()
    body = body_of(BODY_BYTES)
    head = {"Transfer-Encoding": "chunked"}
    client.write(request("POST", "/v1/chat/completions", headers=head))
    parts = chunked(*(body[at : at + 1] for at in range(len(body))))
    for at in range(0, len(parts), 500):
        client.write(parts[at : at + 500])
        await client.writer.drain()
    assert (await client.answer()).status == 200


async def test_connections(launch: Launch) -> None:
    running = await launch(server={"connections_max": 3})
    allowed = [await running.connect() for _ in range(3)]
    for client in allowed:
        assert (await client.ask("GET", "/v1/models")).status == 200
    one_more = await running.connect()
    one_more.write(request("GET", "/v1/models"))
    assert await one_more.rest() == b""
    await allowed[0].close()
    await until(lambda: len(running.gateway.connections) == 2)
    again = await running.connect()
    assert (await again.ask("GET", "/v1/models")).status == 200


# -- a client that is still sending hears why it was refused


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (request("POST", "/v1/chat/completions", headers={"Content-Length": "99999999"}), 413),
        (
            request(
                "POST", "/v1/chat/completions", key="x", headers={"Content-Length": "99999999"}
            ),
            401,
        ),
        (request("POST", "/v1/chat/completions", headers={"Transfer-Encoding": "chunked"}), 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /" + b"a" * 3000, 431),
    ],
)
async def test_the_answer_reaches_a_client_that_is_still_sending(
    launch: Launch, start: bytes, status: int
) -> None:
    """It reads only when it has sent everything, as many clients do."""
    running = await launch(server=SMALL)
    client = await running.connect()
    client.write(start)
    for _ in range(64):
        client.write(b"z" * 65_536)
        await client.writer.drain()
    answer = await client.answer()
    assert answer.status == status
    assert answer.closes
    assert await client.rest() == b""


async def refused(running: Running) -> Client:
    """Return a client that was answered 413 and does not close."""
    client = await running.connect()
    client.write(request("POST", "/v1/chat/completions", headers={"Content-Length": "99999999"}))
    assert (await client.answer()).status == 413
    return client


async def test_a_refused_client_that_falls_silent_is_let_go(running: Running) -> None:
    client = await refused(running)
    running.sweep_after(0)
    running.sweep_after(LINGER_QUIET_S - 0.5)
    assert running.gateway.connections
    running.sweep_after(LINGER_QUIET_S + 0.5)
    await until(lambda: not running.gateway.connections)
    assert await client.rest() == b""


async def test_a_refused_client_that_never_stops_is_let_go(running: Running) -> None:
    await refused(running)
    connection = running.connection()
    for second in range(int(LINGER_S_MAX)):
        connection.data_received(b"z")
        running.sweep_after(second)
    assert running.gateway.connections
    connection.data_received(b"z")
    running.sweep_after(LINGER_S_MAX + 0.5)
    await until(lambda: not running.gateway.connections)


# -- timeouts


async def test_a_trickled_head_times_out(launch: Launch) -> None:
    running = await launch(server={"header_timeout_s": 15.0})
    client = await running.connect()
    head = request("GET", "/v1/models")
    client.write(head[:10])
    await until(lambda: running.gateway.connections and running.connection()._head_bytes)
    running.sweep_after(0)
    for at in range(10, 24):  # a byte a second does not buy time
        running.connection().data_received(head[at : at + 1])
        running.sweep_after(at - 9.5)
    assert not running.connection()._lingering
    running.sweep_after(15.5)
    answer = await client.answer()
    assert answer.status == 408
    assert answer.error["code"] == "request_timeout"
    assert answer.headers["x-should-retry"] == "true"
    assert await client.rest() == b""


async def test_the_head_after_a_request_has_its_own_time(launch: Launch) -> None:
    """Its beginning came in one read with the end of the request before."""
    running = await launch(server={"header_timeout_s": 15.0})
    client = await running.connect()
    whole = request("POST", "/v1/chat/completions", chat())
    client.write(whole[:-5])
    await until(lambda: running.open()["requests"])
    client.write(whole[-5:] + b"GET /v1/mod")
    assert (await client.answer()).status == 200
    running.sweep_after(0)
    running.sweep_after(14.5)
    client.write(b"els HTTP/1.1\r\n")
    running.sweep_after(15.5)
    assert (await client.answer()).status == 408


async def test_a_whole_head_starts_the_next_ones_time_anew(launch: Launch) -> None:
    running = await launch(server={"header_timeout_s": 15.0})
    client = await running.connect()
    client.write(b"GET /v1/models HT")
    await until(lambda: running.gateway.connections and running.connection()._head_bytes)
    running.sweep_after(0)
    running.connection().data_received(b"TP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await client.answer()).status == 401
    client.write(b"GET /v1/models HT")
    await until(lambda: running.connection()._head_bytes)
    running.sweep_after(15.5)  # the second head's time begins here
    running.connection().data_received(b"TP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await client.answer()).status == 401


async def test_a_body_that_stops_coming_times_out(launch: Launch) -> None:
    running = await launch(server={"body_idle_timeout_s": 30.0})
    client = await running.connect()
    whole = request("POST", "/v1/chat/completions", chat())
    client.write(whole[:-20])
    await until(lambda: running.open()["requests"])
    connection = running.connection()
    for at, byte in enumerate(whole[-20:-10]):  # each byte buys time
        running.sweep_after(25.0 * at)
        running.sweep_after(25.0 * at + 24.0)
        connection.data_received(bytes([byte]))
    running.sweep_after(250.0)
    assert running.open()["requests"]
    running.sweep_after(280.5)
    answer = await client.answer()
    assert answer.status == 408
    assert answer.closes
    assert running.generations() == 0


async def test_an_idle_connection_is_closed(launch: Launch) -> None:
    running = await launch(server={"keep_alive_idle_s": 120.0})
    client = await running.connect()
    assert (await client.ask("GET", "/v1/models")).status == 200
    running.sweep_after(0)
    running.sweep_after(119.0)
    assert running.gateway.connections
    running.sweep_after(120.5)
    await until(lambda: not running.gateway.connections)
    assert await client.rest() == b""


async def test_a_connection_that_never_asked_is_closed(launch: Launch) -> None:
    running = await launch(server={"keep_alive_idle_s": 120.0})
    client = await running.connect()
    await until(lambda: running.gateway.connections)
    running.sweep_after(0)
    running.sweep_after(120.5)
    assert await client.rest() == b""


async def test_a_waiting_client_is_not_idle(launch: Launch) -> None:
    running = await launch(server={"keep_alive_idle_s": 20.0, "header_timeout_s": 10.0})
    running.sims[0].faults.add(Fault(kind=Kind.SLOW, delay_s=0.2, count=1))
    client = await running.connect()
    client.write(request("POST", "/v1/chat/completions", chat()))
    await until(lambda: running.open()["in flight"])
    running.sweep_after(0)
    running.sweep_after(60)
    assert (await client.answer()).status == 200


async def test_a_client_that_takes_nothing_is_cut_off(launch: Launch) -> None:
    running = await launch(server={"write_stall_timeout_s": 40.0})
    client = await running.connect(receive_bytes=4096)
    client.write(request("POST", "/v1/chat/completions", chat("long", stream=True)))
    await until(lambda: running.gateway.connections and running.connection().write_paused)
    await until(lambda: running.connection()._unwritten() > WRITE_BUFFER_HIGH_BYTES)
    running.sweep_after(0)
    running.sweep_after(39.5)
    assert running.gateway.connections
    running.sweep_after(40.5)
    await running.settled()
    assert running.sims[0].stats.cancelled == 1


@pytest.mark.parametrize("more", [{}, {"Connection": "close"}])
async def test_a_slow_reader_of_a_whole_answer_gets_it(
    launch: Launch, more: dict[str, str]
) -> None:
    """Slow is not stalled, also when the connection is to be closed behind the answer."""
    running = await launch(server={"write_stall_timeout_s": 40.0})
    client = await running.connect(receive_bytes=4096)
    client.write(request("POST", "/v1/chat/completions", chat("long"), headers=more))
    await until(lambda: running.gateway.connections and running.connection().write_paused)
    received = b""
    at_s = 0.0
    while running.gateway.connections and running.connection()._unwritten():
        at_s += 30.0
        running.sweep_after(at_s)
        before = running.connection()._unwritten()
        while running.gateway.connections and running.connection()._unwritten() == before:
            received += await client.reader.read(65_536)
    assert at_s > 120.0
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body += await client.reader.readexactly(length - len(body))
    assert body.endswith(b"}")
