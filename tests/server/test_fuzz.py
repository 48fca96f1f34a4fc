"""Thousands of requests that are none: each is refused, and nothing leaks, hangs or breaks."""

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Iterator

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.server.client import KEY, PATIENCE_S, Client, chat, chunked, request
from tests.server.conftest import Launch
from tests.server.running import Running

REQUESTS = 12_000
AT_ONCE = 60
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")

VALID = [
    request("GET", "/v1/models"),
    request("HEAD", "/v1/models/llama?x=%20"),
    request("GET", "http://gateway/health/readiness", key=None),
    request("POST", "/v1/chat/completions", chat("hello")),
    request("POST", "/v1/chat/completions", chat("hello", stream=True)),
    request("POST", "/v1/embeddings", {"model": "org/embed:v1", "input": "x"}),
    request("POST", "/v1/completions", {"model": "llama", "prompt": "x"}, version="1.0"),
    request("POST", "/v1/chat/completions", chat(), headers={"Expect": "100-continue"}),
    request("GET", "/v1/models", headers={"Connection": "Upgrade", "Upgrade": "h2c"}),
    request("POST", "/v1/chat/completions", headers={"Transfer-Encoding": "chunked"})
    + chunked(b'{"model":"llama",', b'"messages":[{"role":"user","content":"x"}]}'),
]
NASTY = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b",", b";", b"%", b"\xff", b"\x80", b"-1",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n", b"Host: a\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n",
    b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9.9", b"CONNECT ", b"0\r\n\r\n", b"ffffffffffffffff\r\n",
    b"\r\n\r\n", b"A" * 300, b"a: b\r\n" * 130, b"%00", b"\xf0\x9f\xa6\x99", b"\xed\xa0\x80",
]  # fmt: skip


def mutated(chance: random.Random) -> bytes:
    """Return something that was a request once."""
    data = bytearray(chance.choice(VALID))
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0 if at < len(data):
                data[at] = chance.randrange(256)
            case 1:
                data[at:at] = chance.choice(NASTY)
            case 2:
                del data[at : at + chance.choice((1, 2, 10))]
            case 3:
                other = chance.choice(VALID)
                data[at:] = other[chance.randrange(len(other)) :]
            case 4:
                part = data[at : at + chance.randrange(40)]
                data[at:at] = part * chance.choice((1, 2, 30))
            case _:
                data[at : at + 1] = chance.choice(NASTY)
    return bytes(data)


def malformed(chance: random.Random) -> bytes:
    match chance.randrange(10):
        case 0:
            return chance.randbytes(chance.randrange(1, 400))
        case 1:
            whole = chance.choice(VALID)
            return whole[: chance.randrange(1, len(whole))]
        case 2:
            return b"".join(chance.choice(NASTY) for _ in range(chance.randrange(1, 20)))
        case _:
            return mutated(chance)


async def throw(running: Running, batch: Iterator[bytes], statuses: Counter[int]) -> None:
    """Send each on a connection of its own, then leave as clients do: politely or not."""
    async with asyncio.timeout(3 * PATIENCE_S):
        for at, data in enumerate(batch):
            client = await Client.connect(running.port)
            client.write(data)
            if at % 4 == 0:
                client.abort()
                continue
            if at % 4 == 1:  # Nothing that is more of it: an end, or a timeout for want of one.
                client.write(b"\r\n\r\n\0\r\n\r\n")
            else:
                client.writer.write_eof()
            received = await client.rest()
            statuses.update(int(status) for status in _STATUS.findall(received))
            await client.close()


async def test_malformed_requests_do_no_harm(launch: Launch) -> None:
    short = {"header_timeout_s": 0.1, "body_idle_timeout_s": 0.1, "keep_alive_idle_s": 0.1}
    sizes = {"head_bytes_max": 4096, "body_bytes_max": 65_536}
    running = await launch(server=short | sizes)
    statuses: Counter[int] = Counter()
    async with asyncio.TaskGroup() as group:
        for part in range(AT_ONCE):
            chance = random.Random(part)
            batch = (malformed(chance) for _ in range(REQUESTS // AT_ONCE))
            group.create_task(throw(running, batch, statuses))
    await running.settled()
    assert running.gateway.metrics.client_connections_total == REQUESTS
    assert sum(statuses.values()) > REQUESTS / 2
    assert not [status for status in statuses if status >= 500], statuses
    assert {200, 400, 401, 404} <= set(statuses)  # it was no shot at one door only
    client = await running.connect()
    for _ in range(10):
        assert (await client.ask("POST", "/v1/chat/completions", chat())).status == 200


async def test_garbage_in_one_pipeline_ends_it(running: Running) -> None:
    """Good requests with something odd between them: in order, and never one after a refusal."""
    for seed in range(300):
        chance = random.Random(seed)
        client = await Client.connect(running.port)
        good = request("GET", "/v1/models")
        client.write(good * 3 + malformed(chance) + good * 3 + b"\0\r\n\r\n")
        received = await client.rest()
        statuses = [int(status) for status in _STATUS.findall(received)]
        assert statuses[:3] == [200, 200, 200]
        assert max(statuses) < 500
        assert b"Connection: close" in received
        after = received.rpartition(b"Connection: close")[2]
        assert not _STATUS.search(after)
        await client.close()


# -- bodies

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [
        "messages", "prompt", "input", "stream", "stream_options", "temperature", "top_p", "n",
        "max_tokens", "max_completion_tokens", "stop", "seed", "tools", "tool_choice", "logprobs",
        "top_logprobs", "response_format", "reasoning_effort", "think", "encoding_format",
        "dimensions", "frequency_penalty", "presence_penalty", "logit_bias", "user", "suffix",
        "echo", "best_of", "functions", "modalities", "metadata", "options", "keep_alive",
    ]
)  # fmt: skip
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool", "developer"])},
        optional={
            "content": ANYTHING,
            "tool_calls": ANYTHING,
            "tool_call_id": ANYTHING,
            "name": ANYTHING,
        },
    ),
    max_size=4,
)
BODIES = st.builds(
    lambda known, more: known | more,
    st.fixed_dictionaries(
        {"model": st.sampled_from(["llama", "org/embed:v1"]) | ANYTHING},
        optional={"messages": MESSAGES, "prompt": st.text(), "input": st.text()},
    ),
    st.dictionaries(KEYS, ANYTHING, max_size=3),
)
PATHS = st.sampled_from(["/v1/chat/completions", "/v1/completions", "/v1/embeddings"])


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(path=PATHS, body=BODIES | ANYTHING)
async def test_any_json_is_answered_or_refused(running: Running, path: str, body: object) -> None:
    client = await running.connect()
    running.clients.remove(client)
    answer = await client.ask("POST", path, json.dumps(body).encode())
    assert 200 <= answer.status < 500, answer
    if answer.status >= 400:
        assert answer.error["message"]
    await client.close()
    await running.settled()


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=PATHS, body=st.binary(max_size=200), cut=st.integers(0, 200))
async def test_any_bytes_are_refused(running: Running, path: str, body: bytes, cut: int) -> None:
    client = await running.connect()
    running.clients.remove(client)
    whole = json.dumps(chat()).encode()
    spliced = whole[:cut] + body + whole[cut:]
    answer = await client.ask("POST", path, spliced, key=KEY)
    assert answer.status < 500
    await client.close()
