"""A head that comes again is told from all that only looks like it."""

import httptools
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.client import Client, chat, request
from tests.server.running import Running

from arriero.config.settings import Access, Secret
from arriero.server.gateway import Runtime
from arriero.server.heads import recognise, remember
from arriero.server.request import Request

HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\n"
    b"Content-Length: %d\r\nContent-Type: application/json\r\n\r\n"
)
LIMIT = 1_000_000


def message(body: bytes, head: bytes = HEAD) -> bytes:
    return head % len(body) + body


class Parsed:
    """What the parser makes of bytes: all requests, or that it refuses them."""

    def __init__(self, data: bytes) -> None:
        self.requests: list[Request] = []
        self.whole = 0
        self._parser = httptools.HttpRequestParser(self)
        self.refused = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.refused = True

    def on_message_begin(self) -> None:
        self.requests.append(Request())

    def on_url(self, url: bytes) -> None:
        self.requests[-1].target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        request = self.requests[-1]
        if name in request.headers:
            request.note_repeated(name, value)
        request.headers[name] = value

    def on_headers_complete(self) -> None:
        request = self.requests[-1]
        request.method = self._parser.get_method()
        request.version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        request = self.requests[-1]
        request.body_parts.append(body)
        request.received_bytes += len(body)

    def on_message_complete(self) -> None:
        self.requests[-1].complete = True
        self.whole += 1


def parse(data: bytes) -> Request:
    (request,) = Parsed(data).requests
    assert request.complete
    return request


def test_the_same_head_with_another_body_is_recognised() -> None:
    first = message(b'{"model": "anoth"}')
    seen = remember(first, parse(first), LIMIT)
    assert seen is not None
    again = recognise(seen, message(b'{"model": "another"}'))
    assert again is not None
    assert again.body() == b'{"model": "another"}'
    assert again.seen is seen
    assert seen.before + b"18" + seen.after == first[: -len(b'{"model": "anoth"}')]


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"Content-Length", b"content-LENGTH"),
        HEAD.replace(b"Host: a\r\n", b"Host: a\r\nConnection: keep-alive\r\nAccept: */*\r\n"),
    ],
)
def test_spelling_and_company_do_not_matter(head: bytes) -> None:
    seen = remember(message(b"{}", head), parse(message(b"{}", head)), LIMIT)
    assert seen is not None
    assert recognise(seen, message(b"[]", head)) is not None


@pytest.mark.parametrize(
    "head",
    [
        HEAD.replace(b"HTTP/1.1", b"HTTP/1.0"),
        HEAD.replace(b"Host: a\r\n", b"Host: a\r\nConnection: close\r\n"),
        HEAD.replace(b"Host: a\r\n", b"Host: a\r\nHost: b\r\n"),
        HEAD.replace(b"Host: a\r\n", b"Host: a\r\nExpect: 100-continue\r\n"),
        HEAD.replace(b"Host: a\r\n", b"Host: a\r\nUpgrade: h2c\r\n"),
        HEAD.replace(b"Host: a\r\n", b"Host: a\r\nX: " + b"x" * 2048 + b"\r\n"),
        HEAD.replace(b"Content-Length: %d", b"Content-Length:  %d"),
        HEAD.replace(b"Content-Length: %d", b"Content-Length:%d"),
        HEAD.replace(b"Content-Length: %d", b"Content-Length: %d "),
    ],
)
def test_what_is_not_plain_is_not_remembered(head: bytes) -> None:
    data = message(b"{}", head)
    assert remember(data, parse(data), LIMIT) is None


def test_a_chunked_body_is_not_remembered() -> None:
    data = (
        HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") + b"1\r\na\r\n0\r\n\r\n"
    )
    assert remember(data, parse(data), LIMIT) is None


def test_a_read_with_more_than_the_request_is_not_remembered() -> None:
    data = message(b"{}")
    request = parse(data)
    assert remember(data + b"P", request, LIMIT) is None
    assert remember(data[:-1], request, LIMIT) is None


def test_a_body_that_may_be_over_the_limit_is_left_to_the_parser() -> None:
    data = message(b"x" * 100)
    assert remember(data, parse(data), 1000) is not None
    assert remember(data, parse(data), 999) is None


def test_another_number_of_digits_is_left_to_the_parser() -> None:
    data = message(b"x" * 99)
    seen = remember(data, parse(data), LIMIT)
    assert seen is not None
    assert recognise(seen, message(b"x" * 10)) is not None
    assert recognise(seen, message(b"x" * 100)) is None
    assert recognise(seen, message(b"x" * 9)) is None


figures = st.one_of(
    st.integers(0, 40).map(lambda n: b"%d" % n),
    st.sampled_from(
        [b"", b"+2", b"-1", b"0x2", b"2 ", b" 2", b"2,2", b"02", b"\xb2", b"2_0", b"1e1"]
    ),
    st.binary(max_size=10),
)


@given(figures, st.binary(max_size=40), st.data())
def test_whatever_is_recognised_the_parser_reads_alike(
    figure: bytes, body: bytes, data: st.DataObject
) -> None:
    first = message(data.draw(st.sampled_from([b"{}", b"0123456789"])))
    seen = remember(first, parse(first), LIMIT)
    assert seen is not None
    sent = seen.before + figure + seen.after + body
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(sent)))
        sent = (
            sent[:at] + data.draw(st.binary(max_size=3)) + sent[at + data.draw(st.integers(0, 3)) :]
        )
    found = recognise(seen, sent)
    if found is None:
        return
    parsed = Parsed(sent)
    assert not parsed.refused
    (expected,) = parsed.requests
    assert expected.complete
    assert (found.method, found.target, found.version) == (
        expected.method,
        expected.target,
        expected.version,
    )
    assert found.headers | {b"content-length": b""} == expected.headers | {b"content-length": b""}
    assert (found.keep_alive, found.body(), found.received_bytes) == (
        expected.keep_alive,
        expected.body(),
        expected.received_bytes,
    )


# -- on a connection


async def test_a_kept_connection_gets_each_answer_of_its_own(client: Client) -> None:
    for at in range(20):
        answer = await client.ask("POST", "/v1/chat/completions", chat(f"say {'x' * at}"))
        assert answer.json()["choices"][0]["message"]["content"] == f"You said: say {'x' * at}"


async def test_the_same_head_in_pieces_or_with_a_successor_is_parsed(client: Client) -> None:
    one = request("POST", "/v1/chat/completions", chat("one"))
    for at in (1, 30, len(one) - 1, len(one)):
        client.write(one)
        assert (await client.answer()).status == 200
        client.write(one + one[:at])
        assert (await client.answer()).status == 200
        client.write(one[at:])
        assert (await client.answer()).status == 200


async def test_a_head_admitted_once_is_not_admitted_for_ever(
    client: Client, running: Running
) -> None:
    assert (await client.ask("POST", "/v1/chat/completions", chat("a"))).status == 200
    assert (await client.ask("POST", "/v1/chat/completions", chat("b"))).status == 200
    gateway = running.service.gateway
    config = msgspec.structs.replace(
        gateway.runtime.config, access=Access(master_key=Secret("sk-another"))
    )
    gateway.runtime = Runtime(config, gateway.runtime.fleet, gateway.runtime.pools, 0)
    refused = await client.ask("POST", "/v1/chat/completions", chat("c"))
    assert refused.status == 401
    assert refused.error["code"] == "invalid_api_key"
