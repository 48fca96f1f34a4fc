"""A small GET: whole, or the reason why not; nothing stays open."""

import asyncio

import pytest
from tests.fleet.backends import listening, pool_of

from arriero.fleet.errors import UpstreamError, UpstreamMalformed
from arriero.fleet.fetch import BODY_BYTES_MAX, fetch
from arriero.fleet.pool import Pool


async def closed(pool: Pool) -> None:
    async with asyncio.timeout(5):
        while "[0 busy" not in repr(pool):  # noqa: ASYNC110 - the transport has no event for it
            await asyncio.sleep(0.001)


async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"GET /api/tags HTTP/1.1\r\n")
    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")


async def test_status_and_body_are_returned() -> None:
    async with listening(answering) as url:
        pool = pool_of(url)
        assert await fetch(pool, b"/api/tags", 5) == (404, b"no")
        await closed(pool)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_a_late_answer_is_a_timeout_and_its_connection_is_closed() -> None:
    async with listening(silent) as url:
        pool = pool_of(url)
        with pytest.raises(TimeoutError):
            await fetch(pool, b"/api/tags", 0.05)
        await closed(pool)


async def test_nobody_there() -> None:
    async with listening(silent) as url:
        pool = pool_of(url)
    with pytest.raises(UpstreamError):
        await fetch(pool, b"/api/tags", 5)


async def breaking(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")


async def test_half_an_answer() -> None:
    async with listening(breaking) as url:
        pool = pool_of(url)
        with pytest.raises(UpstreamError):
            await fetch(pool, b"/api/tags", 5)
        await closed(pool)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x" * 1_000_000)
        await writer.drain()


async def test_an_answer_without_end_is_cut_off() -> None:
    async with listening(endless) as url:
        pool = pool_of(url)
        with pytest.raises(UpstreamMalformed):
            await fetch(pool, b"/api/tags", 10)
        await closed(pool)
    assert BODY_BYTES_MAX < 100_000_000


async def test_giving_up_closes_the_connection() -> None:
    async with listening(silent) as url:
        pool = pool_of(url)
        task = asyncio.create_task(fetch(pool, b"/api/tags", 30))
        while "[1 busy" not in repr(pool):  # noqa: ASYNC110 - the pool has no event for it
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await closed(pool)
