"""Pipelining: many requests in one write, answers in order, and the bytes cut anywhere."""

import asyncio
import itertools
import json
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.server.client import Client, chat, chunked, request
from tests.server.conftest import Launch
from tests.server.running import Running, until

from arriero.testing.ollama import Fault, Kind


async def test_twenty_requests_in_one_write(client: Client, running: Running) -> None:
    client.write(
        b"".join(request("POST", "/v1/chat/completions", chat(f"n{at}")) for at in range(20))
    )
    for at in range(20):
        answer = await client.answer()
        assert answer.json()["choices"][0]["message"]["content"] == f"You said: n{at}"
    assert running.generations() == 20


async def test_a_mixture_is_answered_in_order(client: Client) -> None:
    plan: list[tuple[bytes, int]] = [
        (request("GET", "/v1/models"), 200),
        (request("POST", "/v1/chat/completions", chat("a", stream=True)), 200),
        (request("POST", "/v1/chat/completions", b"{"), 400),
        (request("GET", "/nothing"), 404),
        (request("POST", "/v1/chat/completions", chat("b")), 200),
        (request("GET", "/v1/models", key="wrong"), 401),
        (request("HEAD", "/v1/models"), 200),
        (request("POST", "/v1/chat/completions", chat(model="none")), 404),
        (request("POST", "/v1/embeddings", {"model": "org/embed:v1", "input": "x"}), 200),
        (request("DELETE", "/v1/models"), 405),
    ]
    client.write(b"".join(one for one, _ in plan * 2))
    for one, status in plan * 2:
        answer = await client.answer(head_only=one.startswith(b"HEAD"))
        assert answer.status == status
        if b'"a"' in one:
            assert answer.text == "You said: a"


async def test_a_pipeline_ends_where_it_says_so(client: Client, running: Running) -> None:
    last = request("GET", "/v1/models", headers={"Connection": "close"})
    after = request("POST", "/v1/chat/completions", chat())
    client.write(request("GET", "/v1/models") + last + after)
    assert (await client.answer()).status == 200
    assert (await client.answer()).closes
    assert await client.rest() == b""
    assert running.generations() == 0


async def test_what_comes_before_nonsense_is_answered_first(client: Client) -> None:
    client.write(request("POST", "/v1/chat/completions", chat("a")) + b"nonsense\r\n\r\n")
    assert (await client.answer()).status == 200
    answer = await client.answer()
    assert answer.status == 400
    assert answer.closes
    assert await client.rest() == b""


async def test_a_malformed_body_behind_a_slow_answer_is_refused_in_its_turn(
    client: Client, running: Running
) -> None:
    """It was handed on before its body went wrong; nobody waits for the rest of it."""
    running.sims[0].faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat", count=1))
    client.write(request("POST", "/v1/chat/completions", chat("a")))
    await until(lambda: running.open()["in flight"] == 1)
    head = {"Transfer-Encoding": "chunked"}
    client.write(request("POST", "/v1/chat/completions", headers=head))
    client.write(b"5\r\nhello\r\nzz\r\n")
    await until(lambda: running.gateway.metrics.malformed_requests == 1)
    running.sims[0].kill()  # ends the first answer
    assert (await client.answer()).status == 502
    answer = await client.answer()
    assert answer.status == 400
    assert answer.closes
    assert await client.rest() == b""


async def test_reading_stops_when_too_many_wait(launch: Launch) -> None:
    running = await launch(server={"pipelined_requests_max": 4})
    client = await running.connect()
    running.sims[0].faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat", count=1))
    client.write(request("POST", "/v1/chat/completions", chat("a")))
    await until(lambda: running.open()["in flight"] == 1)
    connection = running.connection()
    client.write(request("GET", "/v1/models") * 3)
    await until(lambda: len(connection._waiting) == 3)
    assert not connection._read_paused
    client.write(request("GET", "/v1/models"))
    await until(lambda: connection._read_paused)
    client.write(request("GET", "/v1/models/llama") * 3)  # stays in the kernel
    running.sims[0].kill()
    assert (await client.answer()).status >= 500
    for _ in range(4):
        assert (await client.answer()).json()["object"] == "list"
    for _ in range(3):
        assert (await client.answer()).json()["object"] == "model"


async def test_reading_stops_when_the_bodies_that_wait_are_large(launch: Launch) -> None:
    running = await launch()
    running.sims[0].faults.add(Fault(kind=Kind.SLOW, delay_s=0.3, count=1))
    client = await running.connect()
    large = chat("x" * 700_000)
    client.write(request("POST", "/v1/chat/completions", chat("a")))
    await until(lambda: running.open()["in flight"])
    client.write(request("POST", "/v1/chat/completions", large) * 3)
    await until(lambda: running.connection()._read_paused)
    assert [(await client.answer()).status for _ in range(4)] == [200] * 4
    assert not running.connection()._read_paused


async def test_many_more_in_one_read_than_may_wait(launch: Launch) -> None:
    """Reading goes on when they are through, not when one of them is."""
    running = await launch(server={"pipelined_requests_max": 4})
    client = await running.connect()
    client.write(request("POST", "/v1/chat/completions", chat("a")) * 200)
    await until(lambda: running.gateway.connections and running.connection()._waiting)
    connection = running.connection()
    while connection._waiting:
        assert connection._read_paused == (len(connection._waiting) >= 4)
        await asyncio.sleep(0)
    for _ in range(200):
        assert (await client.answer()).status == 200


async def test_a_client_that_leaves_takes_its_pipeline_along(
    client: Client, running: Running
) -> None:
    running.sims[0].faults.add(Fault(kind=Kind.HANG, endpoint="/api/chat", count=1))
    client.write(request("POST", "/v1/chat/completions", chat("a")) * 5)
    await until(lambda: running.open()["in flight"] == 1)
    client.abort()
    await running.settled()
    assert running.generations() == 1


# -- the same bytes, cut anywhere

ASK = json.dumps(chat("split")).encode()
SEQUENCE = b"".join(
    [
        request("GET", "/v1/models"),
        request("POST", "/v1/chat/completions", chat("one", stream=True)),
        b"\r\n",
        request("POST", "/v1/chat/completions", headers={"Transfer-Encoding": "chunked"}),
        chunked(ASK[:3], ASK[3:20], ASK[20:]),
        request("POST", "/v1/chat/completions", b'{"model"'),
        request("HEAD", "/v1/models"),
        request("GET", "/v1/models/llama", headers={"Connection": "Upgrade", "Upgrade": "h2c"}),
        request("POST", "/v1/embeddings", {"model": "org/embed:v1", "input": ["a", "b"]}),
        request("GET", "http://gateway/v1/models/none", headers={"Connection": "close"}),
    ]
)
_VARYING = [
    (re.compile(rb"Date: [^\r]*"), b"Date: *"),
    (re.compile(rb"[0-9a-f]{24}"), b"ID"),
    (re.compile(rb'"created":\d+'), b'"created":0'),
]


def normal(received: bytes) -> bytes:
    """Take out what is different each time, and join chunks: their cuts are the backend's."""
    for pattern, instead in _VARYING:
        received = pattern.sub(instead, received)
    return re.sub(rb"\r\n\r\n[0-9a-f]+\r\n(?=data:)|\n\n\r\n[0-9a-f]+\r\n", b"\n\n", received)


async def answers(running: Running, pieces: list[bytes], *, breathe: bool) -> bytes:
    """Return what the gateway says when each piece is one read of its own."""
    client = await running.connect()
    await until(lambda: len(running.gateway.connections) == 1)
    connection = running.connection()
    for piece in pieces:
        if piece:
            connection.data_received(piece)
        if breathe:
            await asyncio.sleep(0)
    received = await client.rest()
    await client.close()
    running.clients.remove(client)
    await running.settled()
    return normal(received)


async def test_the_sequence_is_what_it_should_be(running: Running) -> None:
    whole = await answers(running, [SEQUENCE], breathe=False)
    statuses = re.findall(rb"HTTP/1.1 (\d+) ", whole)
    assert statuses == [b"200", b"200", b"200", b"400", b"200", b"200", b"200", b"404"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # one gateway for all
@given(
    places=st.lists(st.integers(0, len(SEQUENCE)), min_size=1, max_size=12), breathe=st.booleans()
)
async def test_cutting_the_bytes_anywhere_changes_nothing(
    running: Running, places: list[int], *, breathe: bool
) -> None:
    edges = [0, *sorted(places), len(SEQUENCE)]
    pieces = [SEQUENCE[a:b] for a, b in itertools.pairwise(edges)]
    whole = await answers(running, [SEQUENCE], breathe=breathe)
    assert await answers(running, pieces, breathe=breathe) == whole


async def test_byte_by_byte_changes_nothing(running: Running) -> None:
    whole = await answers(running, [SEQUENCE], breathe=False)
    single = [SEQUENCE[at : at + 1] for at in range(len(SEQUENCE))]
    assert await answers(running, single, breathe=True) == whole
