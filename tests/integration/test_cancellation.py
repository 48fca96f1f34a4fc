"""The client leaves, and nothing goes on in its name: upstream cancelled, lease given back."""

import asyncio
import socket

import pytest
from tests.integration.arena import (
    ALIAS,
    MODEL,
    Running,
    eventually,
    serving,
    settings,
    sim,
)
from tests.integration.asking import CHAT, ask, asking, body_of, request_bytes
from tests.integration.scripted import LINES, STREAM, STREAM_HEAD, WHOLE, chunk, scripted, sized

from arriero.config.settings import Server, Timeouts
from arriero.core.health import State
from arriero.testing.ollama import Fault, Kind, OllamaSim

PATIENT = Timeouts(load_s=60, first_token_s=60, inter_token_s=60, response_s=60)


async def left(running: Running, host: OllamaSim, cancelled: int = 1) -> None:
    """Wait until the host noticed and the gateway let go; nobody is to blame."""
    await eventually(lambda: host.stats.cancelled == cancelled, "the host was told")
    await running.at_rest()
    assert host.stats.in_flight.now == 0
    assert running.host("a").breaker.state is State.AVAILABLE
    assert running.host("a").breaker.failures == 0
    counted = {(status, outcome) for (_, _, status, outcome) in running.gateway.metrics.requests}
    assert (499, "client_gone") in counted


@pytest.mark.parametrize("stream", [False, True])
async def test_before_the_first_byte(*, stream: bool) -> None:
    async with sim() as host, serving(settings(host, timeouts=PATIENT)) as running:
        host.faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat", count=1))
        async with asking(running.port, body_of(stream=stream)):
            await eventually(lambda: host.stats.faults[Kind.HANG], "the request at the host")
        await left(running, host)
        assert (await ask(running.port, stream=stream)).good


async def test_in_mid_stream() -> None:
    async with sim(decode_tps=200) as host, serving(settings(host, timeouts=PATIENT)) as running:
        async with asking(running.port, body_of(stream=True, text="in 5000 words")) as asked:
            await asked.until(b'"content"')
        await left(running, host)
        assert host.stats.of(MODEL).running.now == 0, "the slot is free"
        assert host.stats.of(MODEL).tokens < 5000


async def test_of_a_whole_answer_while_it_is_generated() -> None:
    async with sim(decode_tps=200) as host, serving(settings(host, timeouts=PATIENT)) as running:
        async with asking(running.port, body_of(text="in 5000 words")):
            await eventually(lambda: host.stats.of(MODEL).tokens > 2, "tokens")
        await left(running, host)
        assert host.stats.of(MODEL).tokens < 5000


async def test_of_an_embedding() -> None:
    embedder = sim(capabilities=("embedding",), prefill_tps=0.01)
    async with embedder as host, serving(settings(host, timeouts=PATIENT)) as running:
        body = {"model": ALIAS, "input": "hello"}
        async with asking(running.port, body, "/v1/embeddings"):
            await eventually(lambda: host.stats.in_flight.now, "the request at the host")
        await left(running, host)


@pytest.mark.parametrize("stream", [False, True])
async def test_of_a_failed_over_attempt(*, stream: bool) -> None:
    async with sim() as bad, sim() as slow, serving(settings(bad, slow)) as running:
        bad.faults.add(Fault(kind=Kind.RESET, endpoint="/api/chat"))
        slow.faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat"))
        async with asking(running.port, body_of(stream=stream)):
            await eventually(lambda: slow.stats.faults[Kind.HANG], "the second attempt")
        await eventually(lambda: slow.stats.cancelled == 1, "the second host was told")
        await running.at_rest()


async def test_while_dialling() -> None:
    # A listener whose queue is full lets connections wait: the dial is under way for ever.
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.create_connection(address), socket.socket() as filler:
            filler.settimeout(0)
            filler.connect_ex(address)
            url = f"http://127.0.0.1:{address[1]}"
            async with serving(settings(url), known=False) as running:
                async with asking(running.port, body_of()):
                    await eventually(lambda: running.host("a").in_flight, "the dial")
                await eventually(lambda: not running.host("a").in_flight, "the lease's return")
                assert running.gateway.metrics.requests_open == 0


async def test_while_its_own_body_arrives() -> None:
    async with sim() as host, serving(settings(host)) as running:
        whole = request_bytes(body_of(text="x" * 1000))
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(whole[:-100])
        await eventually(lambda: running.gateway.metrics.requests_open, "the request's head")
        writer.close()
        await writer.wait_closed()
        await running.at_rest()
        assert [seen for seen in host.requests if seen.path == "/api/chat"] == []


async def test_the_slot_is_held_until_the_backend_is_done() -> None:
    proceed = asyncio.Event()
    hung_up = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        hung_up.set()
        await proceed.wait()  # a backend that takes its time to stop
        writer.close()

    async with scripted(script) as backend, serving(settings(backend.url)) as running:
        async with asking(running.port, body_of()):
            await eventually(lambda: backend.asked, "the request at the backend")
        await hung_up.wait()
        assert running.host("a").in_flight == 1
        assert len(running.gateway.leftovers) == 1
        assert running.gateway.metrics.requests_open == 0, "for the client it is over"
        proceed.set()
        await running.at_rest()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_backend_that_finishes_all_the_same_spoils_nothing_later(*, stream: bool) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if backend.asked == 1:
            assert await reader.read() == b"", "hung up on"
        writer.write(STREAM if stream else sized(WHOLE))

    async with scripted(script) as backend, serving(settings(backend.url)) as running:
        async with asking(running.port, body_of(stream=stream)):
            await eventually(lambda: backend.asked, "the request at the backend")
        await running.at_rest()
        for _ in range(3):
            assert (await ask(running.port, stream=stream)).good


async def test_a_backend_that_never_stops_is_let_go_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("arriero.server.gateway.LEFTOVER_S_MAX", 0.1)

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        while not writer.is_closing():
            writer.write(chunk(LINES[0]))
            await asyncio.sleep(0.005)

    async with scripted(script) as backend, serving(settings(backend.url)) as running:
        async with asking(running.port, body_of(stream=True)) as asked:
            await asked.until(b"Hello")
        await eventually(lambda: running.gateway.leftovers, "the leftover")
        await running.at_rest()


async def test_many_at_once_leave_nothing_behind() -> None:
    async with sim(decode_tps=200) as host, serving(settings(host, timeouts=PATIENT)) as running:

        async def leave(number: int) -> None:
            stream = number % 2 == 0
            async with asking(running.port, body_of(stream=stream, text="5000 words")) as asked:
                if stream:
                    await asked.until(b'"content"')
                else:
                    await asyncio.sleep(number / 1000)

        async with asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(leave(number))
        await eventually(lambda: host.stats.in_flight.now == 0, "an idle host")
        await running.at_rest()
        assert (await ask(running.port)).good


async def test_pipelined_requests_of_a_client_that_left_are_not_begun() -> None:
    async with sim() as host, serving(settings(host, timeouts=PATIENT)) as running:
        host.faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat"))
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(request_bytes(body_of(), CHAT, close=False) * 3)
        await eventually(lambda: host.stats.faults[Kind.HANG], "the first at the host")
        writer.close()
        await writer.wait_closed()
        await left(running, host)
        assert host.stats.faults[Kind.HANG] == 1


async def test_the_gateways_end_cancels_what_does_not_finish_in_time() -> None:
    async with sim() as host:
        config = settings(host, timeouts=PATIENT, server=Server(drain_timeout_s=0.1))
        host.faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat"))
        async with serving(config) as running, asking(running.port, body_of()):
            await eventually(lambda: host.stats.faults[Kind.HANG], "the request at the host")
            running.service.stop()
            await running.ended()
            assert running.gateway.metrics.requests_open == 0
            await eventually(lambda: host.stats.cancelled == 1, "the host was told")
