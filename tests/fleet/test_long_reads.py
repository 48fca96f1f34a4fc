"""A read of many lines is taken in slices, so that nobody waits for the whole of it."""

import asyncio
from typing import Any, cast

import pytest
from tests.fleet.test_connection import Book, Wire

from arriero.fleet.connection import SLICE_BYTES, UpstreamConnection

BODY = bytes(range(256)) * 1000
RESPONSE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


def asked() -> tuple[UpstreamConnection, Wire, Book]:
    book, wire = Book(), Wire()
    connection = UpstreamConnection(book)
    connection.connection_made(cast(Any, wire))
    connection.send(b"request", book)
    return connection, wire, book


def reads(wire: Wire) -> bool:
    return not wire.paused


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_each_turn_of_the_loop_takes_a_slice() -> None:
    connection, wire, book = asked()
    connection.data_received(RESPONSE)
    assert not reads(wire), "the rest must not pile up behind it"
    assert 0 < len(book.body) <= SLICE_BYTES
    await turns(2)
    assert SLICE_BYTES < len(book.body) <= 3 * SLICE_BYTES
    await turns(len(RESPONSE) // SLICE_BYTES + 1)
    assert book.body == BODY
    assert book.told == ["idle", "end"]
    assert reads(wire)
    assert not wire.aborted


@pytest.mark.parametrize("size", [SLICE_BYTES - 1, SLICE_BYTES, SLICE_BYTES + 1])
async def test_the_edge_of_a_slice(size: int) -> None:
    connection, wire, book = asked()
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    length = size - len(head % size)
    response = head % length + b"x" * length
    assert len(response) == size
    connection.data_received(response)
    await turns(3)
    assert len(book.body) == length
    assert book.told == ["idle", "end"]
    assert reads(wire)


async def test_a_slow_client_stops_the_slices() -> None:
    connection, wire, book = asked()
    connection.data_received(RESPONSE)
    connection.pause()
    await turns(2)
    held = len(book.body)
    await turns(5)
    assert len(book.body) == held
    connection.resume()
    assert not reads(wire), "what was read comes before what is to be read"
    await turns(len(RESPONSE) // SLICE_BYTES + 2)
    assert book.body == BODY
    assert reads(wire)


async def test_a_closed_connection_deals_out_no_more() -> None:
    connection, _wire, book = asked()
    connection.data_received(RESPONSE)
    held = len(book.body)
    connection.connection_lost(None)
    await turns(5)
    assert len(book.body) == held
    assert book.told[0] == "gone"


async def test_a_response_with_more_behind_it_is_not_used_again() -> None:
    connection, wire, book = asked()
    connection.data_received(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + b"y" * SLICE_BYTES)
    await turns(3)
    assert book.told == ["end"]
    assert book.body == b"ok"
    assert wire.aborted
