"""Bytes of a backend become events, however they are split; then the connection is idle or gone."""

from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arriero.fleet.connection import HEAD_BYTES_MAX, UpstreamConnection
from arriero.fleet.errors import UpstreamClosed, UpstreamMalformed

SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n"
)
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
SECOND = b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nbad"
BY_CLOSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello"


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.sent = b""
        self.eof = False
        self.aborted = False
        self.paused = False

    def write(self, data: bytes) -> None:
        assert not self.eof, "nothing can be sent after the end"
        self.sent += data

    def write_eof(self) -> None:
        self.eof = True

    def can_write_eof(self) -> bool:
        return True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Book:
    """The pool and the sink in one: what a connection tells, in order."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.body = b""

    def on_idle(self, connection: UpstreamConnection) -> None:
        assert connection.sink is None, "free for the next request"
        self.told.append("idle")

    def on_gone(self, connection: UpstreamConnection) -> None:
        assert connection.gone
        self.told.append("gone")

    def on_data(self, data: bytes) -> None:
        self.body += data

    def on_end(self) -> None:
        self.told.append("end")

    def on_lost(self, error: Exception) -> None:
        self.told.append(type(error))


def sent() -> tuple[UpstreamConnection, Wire, Book]:
    """A connection on which a request was sent."""
    book, wire = Book(), Wire()
    connection = UpstreamConnection(book)
    connection.connection_made(cast(Any, wire))
    connection.send(b"request", book)
    assert wire.sent == b"request"
    return connection, wire, book


def feed(connection: UpstreamConnection, wire: Wire, data: bytes, cuts: list[int]) -> None:
    """Feed `data` in pieces, as long as the connection is not given up."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in pairwise(edges):
        if start < end and not wire.aborted:
            connection.data_received(data[start:end])


CUTS = st.lists(st.integers(0, 200), max_size=8)


@given(st.sampled_from([SIZED, CHUNKED, INTERIM + SIZED, INTERIM + INTERIM + CHUNKED]), CUTS)
def test_splitting_the_bytes_changes_nothing(response: bytes, cuts: list[int]) -> None:
    connection, wire, book = sent()
    feed(connection, wire, response, cuts)
    assert book.told == ["idle", "end"]
    assert connection.status == 200
    assert book.body == b"hello"
    assert not wire.aborted
    assert connection.sink is None


@given(CUTS)
def test_a_body_that_ends_with_the_connection(cuts: list[int]) -> None:
    connection, wire, book = sent()
    feed(connection, wire, BY_CLOSE, cuts)
    assert book.told == []
    assert connection.status == 200
    connection.connection_lost(None)
    assert book.told == ["gone", "end"]
    assert book.body == b"hello"


@given(
    st.sampled_from([SIZED, CHUNKED]),
    st.sampled_from([b"garbage", SECOND, b"\x00", b"HTTP/1.1 200 OK\r\n"]),
)
def test_what_follows_a_response_at_once_neither_spoils_it_nor_is_kept(
    response: bytes, more: bytes
) -> None:
    connection, wire, book = sent()
    connection.data_received(response + more)
    assert book.body == b"hello"
    assert connection.status == 200
    assert book.told[-1] == "end"
    if more == SECOND:
        assert wire.aborted


@given(st.integers(1, len(SIZED) - 1))
def test_a_cut_is_a_loss(at: int) -> None:
    connection, _, book = sent()
    connection.data_received(SIZED[:at])
    connection.connection_lost(None)
    assert book.told[-2:] == ["gone", UpstreamClosed]
    assert connection.gone


def test_a_reset_is_a_loss_even_where_the_close_would_end_the_body() -> None:
    connection, _, book = sent()
    connection.data_received(BY_CLOSE)
    connection.connection_lost(ConnectionResetError())
    assert book.told == ["gone", ConnectionResetError]


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01", b"HTTP/9 yes\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]
)
def test_what_is_not_http_is_malformed(data: bytes) -> None:
    connection, wire, book = sent()
    connection.data_received(data)
    assert book.told == [UpstreamMalformed]
    assert wire.aborted


@pytest.mark.parametrize(("over", "lost"), [(-64, False), (70_000, True)])
def test_a_head_has_a_limit(over: int, *, lost: bool) -> None:
    connection, wire, book = sent()
    connection.data_received(b"HTTP/1.1 200 OK\r\n")
    filler = b"X-A: " + b"x" * 1000 + b"\r\n"
    for _ in range((HEAD_BYTES_MAX + over) // len(filler)):
        if not wire.aborted:
            connection.data_received(filler)
    assert (book.told == [UpstreamMalformed]) is lost
    assert wire.aborted is lost


@pytest.mark.parametrize(
    "response",
    [
        SIZED.replace(b"\r\nContent", b"\r\nConnection: close\r\nContent"),
        SIZED.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_a_connection_that_is_not_kept_is_closed(response: bytes) -> None:
    connection, wire, book = sent()
    connection.data_received(response)
    assert book.told == ["end"]
    assert wire.aborted


def test_a_hung_up_connection_is_never_idle_again() -> None:
    connection, wire, book = sent()
    connection.hang_up()
    assert wire.eof
    connection.data_received(SIZED)
    assert book.told == ["end"]
    assert wire.aborted


def test_hanging_up_reads_on_so_that_the_end_is_seen() -> None:
    connection, wire, _ = sent()
    connection.pause()
    assert wire.paused
    connection.hang_up()
    assert not wire.paused


def test_a_connection_is_not_idle_while_paused() -> None:
    connection, wire, book = sent()
    connection.pause()
    connection.data_received(SIZED)
    assert not wire.paused
    assert "idle" in book.told


def test_what_an_idle_connection_says_ends_it() -> None:
    connection, wire, book = sent()
    connection.data_received(SIZED)
    connection.data_received(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert wire.aborted
    assert book.told == ["idle", "end"]


def test_a_sink_may_let_go_in_the_middle_of_a_read() -> None:
    class Leaving(Book):
        def on_data(self, data: bytes) -> None:
            assert data == b"hello"
            connection.sink = None
            connection.abort()

    book, wire = Leaving(), Wire()
    connection = UpstreamConnection(book)
    connection.connection_made(cast(Any, wire))
    connection.send(b"request", book)
    connection.data_received(CHUNKED)
    connection.connection_lost(None)
    assert book.told == ["gone"]


def test_a_second_request_on_a_kept_connection() -> None:
    connection, wire, book = sent()
    connection.data_received(SIZED)
    connection.send(b"again", book)
    assert not connection.answered
    connection.data_received(CHUNKED)
    assert book.told == ["idle", "end"] * 2
    assert connection.used == 2
    assert wire.sent == b"requestagain"
