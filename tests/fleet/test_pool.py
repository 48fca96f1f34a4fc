"""Connections are kept, limited, expired, and closed with their backend."""

import asyncio

import pytest
from tests.fleet.backends import dialled, heard, listening, pool_of

from arriero.config.settings import Backend, Secret
from arriero.fleet.errors import UpstreamFull, UpstreamRefused
from arriero.fleet.pool import IDLE_S_MAX, Pool

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def polite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while head := await reader.readuntil(b"\r\n\r\n"):
        del head
        writer.write(SIZED)


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_a_connection_is_kept_and_taken_again() -> None:
    async with listening(polite) as url:
        pool = pool_of(url)
        assert pool.take() is None
        connection = await dialled(pool)
        assert repr(pool) == "<Pool a [1 busy, 0 idle]>"
        assert (await heard(connection, pool.get_request(b"/"))).body == b"ok"
        assert repr(pool) in {"<Pool a [0 busy, 1 idle]>", "<Pool a [0 busy, 0 idle]>"}
        pool.abort()


async def test_the_most_recently_used_is_taken_first() -> None:
    async with listening(polite) as url:
        pool = pool_of(url)
        first, second = await dialled(pool), await dialled(pool)
        for connection in (first, second):
            await heard(connection, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert pool.take() is second
        assert pool.take() is first
        assert pool.take() is None
        assert repr(pool) == "<Pool a [2 busy, 0 idle]>"
        pool.abort()


async def test_the_limit_counts_what_is_busy_and_what_is_being_dialled() -> None:
    async with listening(mute) as url:
        pool = pool_of(url, connections_max=2)
        results = await asyncio.gather(*(dialled(pool) for _ in range(4)), return_exceptions=True)
        assert [isinstance(result, UpstreamFull) for result in results].count(True) == 2
        with pytest.raises(UpstreamFull):
            await dialled(pool)
        await dialled(pool, limited=False)
        assert repr(pool) == "<Pool a [3 busy, 0 idle]>"
        pool.abort()


async def test_nobody_there_is_refused() -> None:
    async with listening(mute) as url:
        pool = pool_of(url)
    with pytest.raises(UpstreamRefused):
        await dialled(pool)
    assert repr(pool) == "<Pool a [0 busy, 0 idle]>"


async def test_a_connection_expires_that_was_idle_for_too_long() -> None:
    async with listening(polite) as url:
        pool = pool_of(url)
        old, new = await dialled(pool), await dialled(pool)
        await heard(old, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        pool.expire(100.0)  # the first sweep that sees it idle
        await heard(new, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        pool.expire(100.0 + IDLE_S_MAX)
        assert repr(pool) == "<Pool a [0 busy, 2 idle]>"
        pool.expire(100.5 + IDLE_S_MAX)
        assert repr(pool) == "<Pool a [0 busy, 1 idle]>"
        assert pool.take() is new
        pool.abort()


async def test_a_closed_pool_lets_busy_connections_finish_and_keeps_none() -> None:
    async with listening(polite) as url:
        pool = pool_of(url)
        idle, busy = await dialled(pool), await dialled(pool)
        await heard(idle, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        pool.close()
        assert pool.take() is None
        assert (await heard(busy, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"ok"
        assert repr(pool) == "<Pool a [0 busy, 0 idle]>"
        late = await dialled(pool)  # a request that began before the reload fails over
        assert (await heard(late, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"ok"
        assert repr(pool) == "<Pool a [0 busy, 0 idle]>"


async def test_an_aborted_pool_dials_no_more() -> None:
    async with listening(mute) as url:
        pool = pool_of(url)
        pool.abort()
        with pytest.raises(UpstreamRefused):
            await dialled(pool)


async def test_requests_carry_host_length_and_key() -> None:
    pool = Pool(
        Backend(name="a", url="http://[::1]:8080", api_key=Secret("sk-1")),
        asyncio.create_task,
    )
    assert pool.request(b"/api/chat", b"{}") == (
        b"POST /api/chat HTTP/1.1\r\nHost: [::1]:8080\r\nAuthorization: Bearer sk-1\r\n"
        b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert pool.get_request(b"/api/tags").endswith(b"Connection: close\r\n\r\n")
