"""Each phase of an attempt has its own patience; quiet streams are kept alive meanwhile."""

import asyncio
import socket

import msgspec
import pytest
from tests.integration.arena import MODEL, eventually, serving, settings, sim
from tests.integration.asking import Answer, ask, asking, body_of
from tests.integration.scripted import LINES, STREAM_HEAD, WHOLE, chunk, scripted, sized

from arriero.config.settings import Server, Timeouts
from arriero.core.health import Cause, State
from arriero.testing.ollama import Fault, Kind
from arriero.wire.inventory import Loaded

LONG = Timeouts(
    connect_s=60, load_s=0.01, first_token_s=60, inter_token_s=60, response_s=60, total_s=60
)


def only(**phase: float) -> Timeouts:
    """Patience without end, but for the phase in question."""
    return msgspec.structs.replace(LONG, **phase)


def is_timeout(answer: Answer) -> bool:
    assert answer.error
    return bool(answer.error["code"] == "backend_timeout")


async def test_connect() -> None:
    with socket.socket() as listener:  # a full queue lets connections wait
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.create_connection(address), socket.socket() as filler:
            filler.settimeout(0)
            filler.connect_ex(address)
            async with sim(cold=True) as good:
                url = f"http://127.0.0.1:{address[1]}"
                config = settings(url, good, timeouts=only(connect_s=0.1))
                async with serving(config, known=False) as running:
                    await eventually(lambda: running.host("b").installed, "the good host")
                    assert (await ask(running.port)).good
                    assert running.host("a").breaker.state is State.EJECTED


async def test_first_token() -> None:
    async with sim() as host, serving(settings(host, timeouts=only(first_token_s=0.1))) as running:
        host.faults.add(Fault(kind=Kind.WEDGED, count=1))
        answer = await ask(running.port, stream=True)
        assert answer.status == 504
        assert is_timeout(answer)
        assert answer.headers["x-should-retry"] == "false"
        assert running.host("a").breaker.cause is Cause.SILENT
        await eventually(lambda: host.stats.cancelled == 1, "the host was told")


async def test_inter_token() -> None:
    async with sim() as host, serving(settings(host, timeouts=only(inter_token_s=0.1))) as running:
        host.faults.add(Fault(kind=Kind.HANG_MID, after=3, count=1))
        answer = await ask(running.port, stream=True)
        assert answer.status == 200
        assert is_timeout(answer)
        assert len(answer.text.split()) == 3


async def test_tokens_that_come_in_time_renew_the_patience() -> None:
    async with (
        sim(decode_tps=6) as host,
        serving(settings(host, timeouts=only(inter_token_s=1.2))) as running,
    ):
        assert (await ask(running.port, stream=True)).good  # 12 tokens in 2 s


async def test_response() -> None:
    async with sim() as host, serving(settings(host, timeouts=only(response_s=0.1))) as running:
        host.faults.add(Fault(kind=Kind.WEDGED, count=1))
        answer = await ask(running.port)
        assert answer.status == 504
        assert is_timeout(answer)


@pytest.mark.parametrize("stream", [False, True])
async def test_total(*, stream: bool) -> None:
    async with (
        sim(decode_tps=50) as host,
        serving(settings(host, timeouts=only(total_s=0.2))) as running,
    ):
        answer = await ask(running.port, stream=stream, text="in 5000 words")
        assert answer.status == (200 if stream else 504)
        assert is_timeout(answer)
        assert running.host("a").breaker.state is State.AVAILABLE, "it did what it could"
        await eventually(lambda: host.stats.cancelled == 1, "the host was told")


async def test_total_spans_all_attempts() -> None:
    async with sim() as a, sim() as b, sim() as c:
        timeouts = only(first_token_s=0.15, total_s=0.25)
        async with serving(settings(a, b, c, timeouts=timeouts)) as running:
            for host in (a, b, c):
                host.faults.add(Fault(kind=Kind.WEDGED))
            answer = await ask(running.port, stream=True)
            assert is_timeout(answer)
            assert c.stats.faults[Kind.WEDGED] == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cold_load_may_take_longer_than_the_first_token(*, stream: bool) -> None:
    timeouts = only(first_token_s=0.1, response_s=0.1, load_s=30)
    async with sim(load_s=0.4) as host, serving(settings(host, timeouts=timeouts)) as running:
        assert (await ask(running.port, stream=stream)).good
        assert host.stats.of(MODEL).loads == 1
        assert host.stats.of(MODEL).loads_aborted == 0


async def test_a_loaded_model_gets_no_time_for_loading() -> None:
    timeouts = only(first_token_s=0.1, load_s=60)
    async with sim() as host, serving(settings(host, timeouts=timeouts)) as running:
        running.host("a").resident = {MODEL: Loaded()}
        host.faults.add(Fault(kind=Kind.WEDGED, count=1))
        assert (await ask(running.port, stream=True)).status == 504


async def test_a_quiet_stream_is_kept_alive_by_comments() -> None:
    server = Server(heartbeat_s=0.05)
    async with sim(load_s=0.4) as host:
        config = settings(host, timeouts=only(load_s=60), server=server)
        async with serving(config) as running:
            answer = await ask(running.port, stream=True)
            assert answer.good
            assert answer.comments >= 3
            assert answer.body.startswith(b":")


async def test_a_failure_after_a_heartbeat_is_an_event() -> None:
    async with sim() as host:
        config = settings(host, timeouts=only(first_token_s=0.3), server=Server(heartbeat_s=0.05))
        async with serving(config) as running:
            host.faults.add(Fault(kind=Kind.WEDGED, count=1))
            answer = await ask(running.port, stream=True)
            assert answer.status == 200
            assert answer.comments
            assert is_timeout(answer)
            assert answer.error
            assert answer.headers["x-request-id"] in answer.error["message"]
            assert not answer.done


async def test_a_failover_after_a_heartbeat_is_not_seen() -> None:
    async with sim() as bad, sim() as good:
        timeouts = only(first_token_s=0.2)
        config = settings(bad, good, timeouts=timeouts, server=Server(heartbeat_s=0.05))
        async with serving(config) as running:
            bad.faults.add(Fault(kind=Kind.WEDGED, count=1))
            answer = await ask(running.port, stream=True)
            assert answer.good
            assert answer.comments
            ids = {event["id"] for event in answer.events if event != "[DONE]"}
            assert len(ids) == 1


async def test_no_comment_stands_in_a_whole_answer() -> None:
    async with sim(load_s=0.2) as host:
        config = settings(host, timeouts=only(load_s=60), server=Server(heartbeat_s=0.02))
        async with serving(config) as running:
            assert (await ask(running.port)).good


async def test_a_slow_client_is_no_reason_to_blame_the_backend() -> None:
    line = b'{"message":{"role":"assistant","content":"%b"},"done":false}\n' % (b"x" * 60_000)

    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for _number in range(400):
            writer.write(chunk(line))
            await writer.drain()
        writer.write(chunk(LINES[-1]) + b"0\r\n\r\n")

    async with scripted(script) as backend:
        config = settings(backend.url, timeouts=only(inter_token_s=0.1))
        async with serving(config) as running:
            async with asking(running.port, body_of(stream=True)) as asked:
                await asked.until(b"xxx")
                await asyncio.sleep(0.5)  # the client reads nothing for longer than the timeout
                answer = await asked.answer()
            assert answer.good
            assert len(answer.text) == 400 * 60_000
            assert running.host("a").breaker.failures == 0


async def test_answers_on_time_are_left_alone() -> None:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sized(WHOLE))

    async with scripted(script) as backend, serving(settings(backend.url)) as running:
        for _ in range(5):
            assert (await ask(running.port)).good
