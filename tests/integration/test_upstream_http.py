"""What backends do with HTTP: keep-alive that is none, odd endings, too much said."""

import asyncio

import msgspec
import pytest
from tests.integration.arena import CALM, eventually, serving, settings, sim
from tests.integration.asking import ask
from tests.integration.scripted import (
    LINES,
    STREAM,
    STREAM_HEAD,
    WHOLE,
    chunk,
    saying,
    scripted,
    sized,
)

from arriero.config.settings import Backend
from arriero.core.health import State

BY_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
SECOND = sized(b'{"message":{"content":"SMUGGLED"},"done":true}')


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([sized(WHOLE)], id="sized"),
        pytest.param([sized(WHOLE)[:30], sized(WHOLE)[30:]], id="in two reads"),
        pytest.param([STREAM_HEAD + chunk(WHOLE) + b"0\r\n\r\n"], id="chunked"),
        pytest.param([STREAM_HEAD + chunk(WHOLE) + b"0\r\nX-Sum: 1\r\n\r\n"], id="trailers"),
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n", sized(WHOLE)], id="interim"),
        pytest.param([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + sized(WHOLE)], id="hints"),
        pytest.param([sized(WHOLE, b"Connection: close")], id="said to close, and does not"),
        pytest.param([sized(WHOLE) + b"garbage after it"], id="garbage at once"),
        pytest.param([sized(WHOLE) + SECOND], id="a second response at once"),
        pytest.param([sized(WHOLE, b"Connection: close") + SECOND], id="after a close"),
    ],
)
async def test_a_whole_answer_is_told_whatever_follows_it(parts: list[bytes]) -> None:
    async with scripted(saying(*parts)) as backend, serving(settings(backend.url)) as running:
        for _ in range(3):
            answer = await ask(running.port)
            assert answer.good
            assert answer.text == "Hello there"
        assert running.host("a").breaker.state is State.AVAILABLE


@pytest.mark.parametrize("more", [b"garbage", SECOND])
async def test_what_an_idle_connection_says_ends_it(more: bytes) -> None:
    async with (
        scripted(saying(sized(WHOLE), more)) as backend,
        serving(settings(backend.url)) as running,
    ):
        pool = running.gateway.runtime.pools["a"]
        for _ in range(3):
            assert (await ask(running.port)).text == "Hello there"
            await eventually(lambda: "0 idle" in repr(pool), "the connection's end")


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([STREAM], id="in one read"),
        pytest.param([STREAM_HEAD, *map(chunk, LINES), b"0\r\n\r\n"], id="line by line"),
        pytest.param([STREAM[:-5] + b"0\r\nX-Sum: 1\r\n\r\n"], id="trailers"),
        pytest.param([STREAM + b"garbage"], id="garbage"),
        pytest.param([STREAM + SECOND], id="a second response"),
    ],
)
async def test_a_whole_stream_is_relayed_whatever_follows_it(parts: list[bytes]) -> None:
    async with scripted(saying(*parts)) as backend, serving(settings(backend.url)) as running:
        for _ in range(3):
            answer = await ask(running.port, stream=True)
            assert answer.good
            assert answer.text == "Hello there"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_may_end_with_its_connection(*, version: bytes, stream: bool) -> None:
    body = b"".join(LINES) if stream else WHOLE
    script = saying(BY_CLOSE.replace(b"1.1", version) + body)
    async with scripted(script, once=True) as backend, serving(settings(backend.url)) as running:
        for _ in range(3):
            assert (await ask(running.port, stream=stream)).text == "Hello there"
        assert backend.connections == 3


async def test_a_backend_that_closes_each_connection_works() -> None:
    script = saying(sized(WHOLE, b"Connection: close"))
    async with scripted(script, once=True) as backend, serving(settings(backend.url)) as running:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(ask(running.port)) for _ in range(30)]
        assert all(task.result().good for task in tasks)
        assert backend.connections == 30


async def test_connections_are_kept_and_used_again() -> None:
    async with scripted(saying(sized(WHOLE))) as backend:
        async with serving(settings(backend.url)) as running:
            for _ in range(10):
                assert (await ask(running.port)).good
        assert (backend.asked, backend.connections) == (10, 1)


async def test_a_kept_connection_that_went_stale_costs_no_failure() -> None:
    # The backend closes as it answers, without having said so: the next request may meet the close.
    script = saying(sized(WHOLE))
    async with scripted(script, once=True) as backend, serving(settings(backend.url)) as running:
        for _ in range(20):
            assert (await ask(running.port)).good
        assert running.host("a").breaker.state is State.AVAILABLE
        assert not running.gateway.metrics.backend_failures.counts


async def test_a_request_that_meets_the_close_is_sent_once_more() -> None:
    answered = 0

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        if backend.asked == 2:  # on the kept connection: closed with the request unread, so to say
            writer.transport.abort()
            return
        writer.write(sized(WHOLE))
        answered += 1

    async with scripted(script) as backend, serving(settings(backend.url)) as running:
        assert (await ask(running.port)).good
        assert (await ask(running.port)).good
        assert (backend.asked, backend.connections, answered) == (3, 2, 2)
        assert running.host("a").breaker.failures == 0


async def test_a_fresh_connection_that_is_reset_is_a_failure() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with scripted(script) as backend, serving(settings(backend.url)) as running:
        answer = await ask(running.port)
        assert answer.status == 502
        assert backend.asked == 1


async def test_a_connection_that_is_closed_as_soon_as_it_stands_holds_nothing_up() -> None:
    def shut(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(shut, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, sim() as good, serving(settings(url, good)) as running:
        running.host("a").installed = dict(running.host("b").installed or {})
        for _ in range(5):
            running.host("a").breaker.state = State.AVAILABLE
            assert (await ask(running.port)).good


async def test_a_cut_inside_a_sized_body_is_no_answer() -> None:
    script = saying(sized(WHOLE)[:-5])
    async with scripted(script, once=True) as backend, serving(settings(backend.url)) as running:
        answer = await ask(running.port)
        assert answer.status == 502


async def test_an_error_line_and_the_end_of_its_body_in_one_read() -> None:
    error = b'{"error":"an error was encountered while running the model: gone"}\n'
    script = saying(STREAM_HEAD + chunk(LINES[0]) + chunk(error) + b"0\r\n\r\n")
    async with scripted(script) as backend, serving(settings(backend.url)) as running:
        answer = await ask(running.port, stream=True)
        assert answer.text == "Hello"
        assert answer.error
        assert not answer.done


async def test_a_head_without_end_is_no_answer() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing():
            writer.write(b"X-Filler: " + b"x" * 1000 + b"\r\n")
            await writer.drain()

    async with scripted(script) as backend, serving(settings(backend.url)) as running:
        assert (await ask(running.port)).status == 502


async def test_our_own_limit_of_connections_is_no_fault_of_the_backend() -> None:
    async with sim(decode_tps=100) as one, sim(decode_tps=100) as two:
        config = settings(one, two)
        limited = tuple(
            Backend(name=backend.name, url=backend.url, connections_max=2, slots=64)
            for backend in config.backends
        )
        async with serving(msgspec.structs.replace(config, backends=limited)) as running:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(running.port)) for _ in range(6)]
            answers = sorted(task.result().status for task in tasks)
            assert answers == [200] * 4 + [503] * 2
            assert one.stats.in_flight.most <= 2
            for name in "ab":
                assert running.host(name).breaker.state is State.AVAILABLE


async def test_the_inventory_reaches_a_host_whose_connections_are_all_in_use() -> None:
    async with sim(decode_tps=100) as host:
        routing = msgspec.structs.replace(CALM, inventory_interval_s=0.02)
        config = settings(host, routing=routing)
        one = Backend(name="a", url=host.url, connections_max=1)
        async with serving(msgspec.structs.replace(config, backends=(one,))) as running:
            task = asyncio.create_task(ask(running.port, stream=True))
            await eventually(lambda: running.host("a").in_flight, "the stream")
            looks = host.stats.endpoints["GET /api/tags"]
            await eventually(
                lambda: host.stats.endpoints["GET /api/tags"] >= looks + 2, "two more looks"
            )
            assert running.host("a").breaker.state is State.AVAILABLE
            assert (await task).good
