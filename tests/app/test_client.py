"""The commands' HTTP client against a server that says exactly these bytes."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from arriero.app import client
from arriero.app.client import AddressError, Endpoint, Exchange
from arriero.app.clock import SystemClock

Serve = Callable[[bytes], Endpoint]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Give a function that serves one connection with the given bytes, and closes it."""
    with ExitStack() as stack:

        def start(answer: bytes) -> Endpoint:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

            def one() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

            thread = threading.Thread(target=one)
            thread.start()
            stack.callback(thread.join)
            return endpoint(f"http://127.0.0.1:{listener.getsockname()[1]}")

        yield start


def endpoint(url: str) -> Endpoint:
    return Endpoint(url, SystemClock())


def test_a_whole_answer(serve: Serve) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n"
    exchange = serve(head + b"hi").call("POST", "/v1/x", key="sk-secret", body={"a": 1})
    assert exchange.error is None
    assert (exchange.status, exchange.body) == (200, b"hi")
    assert exchange.headers["content-type"] == "text/plain"
    assert exchange.sent_body == b'{"a":1}'
    assert exchange.took_s > 0
    assert "sk-secret" not in repr(exchange)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", "the answer broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhi", "the answer broke off"),
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
    ],
)
def test_what_the_network_does_is_said_in_words(serve: Serve, answer: bytes, reason: str) -> None:
    exchange = serve(answer).call("GET", "/")
    assert exchange.error is not None
    assert reason in exchange.error
    assert exchange.status == 0


@pytest.mark.parametrize(("extra", "fits"), [(-1, True), (0, True), (1, False)])
def test_an_answer_has_a_limit(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, extra: int, *, fits: bool
) -> None:
    monkeypatch.setattr(client, "BODY_BYTES_MAX", 1000)
    body = b"x" * (1000 + extra)
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    exchange = serve(head + body).call("GET", "/")
    assert (exchange.error is None) is fits
    assert fits or exchange.error == "the answer is longer than 1000 bytes"


def test_silence_ends(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        exchange = endpoint(url).call("GET", "/", timeout_s=0.05)
    assert exchange.error == "no answer in time"


def test_tls_is_tried_and_its_failure_told(serve: Serve) -> None:
    plain = serve(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    exchange = endpoint(plain.url.replace("http:", "https:")).call("GET", "/")
    assert exchange.error is not None
    assert "SSL" in exchange.error


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("gateway:4000", "http://gateway:4000"),
        ("http://gateway:4000/v1/", "http://gateway:4000"),
        ("https://user:word@gateway/ai/v1", "https://gateway/ai"),
        ("http://[::1]:4000", "http://[::1]:4000"),
    ],
)
def test_addresses_are_taken_as_people_write_them(url: str, meant: str) -> None:
    assert endpoint(url).url == meant


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://x:99999", "http://x:y"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(AddressError):
        endpoint(url)


def test_a_refused_connection() -> None:
    assert endpoint("127.0.0.1:1").call("GET", "/").error == "connection refused"


def test_an_exchange_begins_empty() -> None:
    exchange = Exchange(method="GET", path="/", sent_headers={})
    assert (exchange.status, exchange.error, exchange.body) == (0, None, b"")
