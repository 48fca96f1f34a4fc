"""A slow client costs no memory, no other client its time, and itself not a byte."""

import asyncio

from tests.server.client import PATIENCE_S, Client, chat, request
from tests.server.running import LONG_ANSWER, LONG_TOKENS, MODEL, Running, until

from arriero.server.connection import WRITE_BUFFER_HIGH_BYTES, ClientConnection
from arriero.wire.http import LAST_CHUNK

# One read from a backend may come on top of the buffer's limit.
READ_BYTES_MAX = 262_144


def connections(running: Running) -> list[ClientConnection]:
    return [one for one in running.gateway.connections if isinstance(one, ClientConnection)]


async def tokens_meanwhile(running: Running, client: Client) -> int:
    """Ask a few times; return how many tokens were made for anybody meanwhile."""
    stats = running.sims[0].stats.of(MODEL)
    before = stats.tokens
    for _ in range(10):
        assert (await client.ask("POST", "/v1/chat/completions", chat())).status == 200
    return stats.tokens - before


async def test_a_stream_waits_for_its_reader(running: Running) -> None:
    other = await running.connect()
    own = await tokens_meanwhile(running, other)
    slow = await running.connect(receive_bytes=4096)
    slow.write(request("POST", "/v1/chat/completions", chat("long", stream=True)))
    await until(lambda: any(one.write_paused for one in connections(running)))
    (connection,) = [one for one in connections(running) if one.write_paused]
    for _ in range(100):
        if await tokens_meanwhile(running, other) == own:
            break
    else:
        raise AssertionError("the sender was never paused")
    assert connection.write_paused
    assert connection._unwritten() <= 2 * READ_BYTES_MAX + WRITE_BUFFER_HIGH_BYTES
    assert running.open()["in flight"] == 1
    answer = await slow.answer()
    assert answer.text == LONG_ANSWER


async def test_a_client_that_stops_reading_and_leaves(running: Running) -> None:
    slow = await running.connect(receive_bytes=4096)
    slow.write(request("POST", "/v1/chat/completions", chat("long", stream=True)))
    await until(lambda: running.gateway.connections and running.connection().write_paused)
    slow.abort()
    await running.settled()
    assert running.sims[0].stats.cancelled == 1


async def test_readers_of_different_pace_get_the_same(running: Running) -> None:
    clients = [await running.connect(receive_bytes=size) for size in (4096, 65_536, 0)]
    for client in clients:
        client.write(request("POST", "/v1/chat/completions", chat("1500 words", stream=True)))
    answers = [await client.answer() for client in clients]
    assert len({answer.text for answer in answers}) == 1


async def test_a_slow_sender_holds_up_nobody(running: Running) -> None:
    slow, quick = await running.connect(), await running.connect()
    whole = request("POST", "/v1/chat/completions", chat("slow"))
    for at in range(0, len(whole), 16):
        slow.write(whole[at : at + 16])
        await slow.writer.drain()
        assert (await quick.ask("POST", "/v1/chat/completions", chat())).status == 200
    answer = await slow.answer()
    assert answer.json()["choices"][0]["message"]["content"] == "You said: slow"


async def test_a_body_is_not_held_for_a_backend_before_it_is_whole(running: Running) -> None:
    client = await running.connect()
    whole = request("POST", "/v1/chat/completions", chat("x" * 1000))
    client.write(whole[:-1])
    await until(lambda: running.open()["requests"])
    assert running.open()["in flight"] == 0
    assert running.generations() == 0
    client.write(whole[-1:])
    assert (await client.answer()).status == 200


async def test_a_reader_that_pauses_and_goes_on(running: Running) -> None:
    client = await running.connect(receive_bytes=65_536)
    client.write(request("POST", "/v1/chat/completions", chat("long", stream=True)))
    parts = [b""]
    async with asyncio.timeout(PATIENCE_S):
        for _ in range(5):
            await until(lambda: running.connection().write_paused)
            parts += [await client.reader.readexactly(200_000) for _ in range(5)]
    while not parts[-1].endswith(LAST_CHUNK):
        parts.append(await client.reader.read(1_000_000))
    assert b"".join(parts).count(b'"content":') >= LONG_TOKENS


async def test_a_pipeline_whose_answers_nobody_reads(running: Running) -> None:
    """Requests of 100 bytes make answers of 500; they wait in the client's kernel, not here."""
    count = 40_000
    client = await running.connect(receive_bytes=4096)
    client.write(request("GET", "/v1/models") * count)
    await until(lambda: running.gateway.connections and running.connection()._read_paused)
    connection = running.connection()
    assert connection.write_paused
    assert connection._unwritten() < WRITE_BUFFER_HIGH_BYTES + READ_BYTES_MAX
    for _ in range(count):
        assert (await client.answer()).status == 200
    assert running.gateway.metrics.client_connections_total == 1
