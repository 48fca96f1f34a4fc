"""A key that is not known yet gets one look at the store; no look lets anybody in."""

import asyncio

import pytest
from tests.server.client import Client
from tests.server.running import Running, until

from arriero.core.keys import Key, KeyRing, digest
from arriero.server import secondlook
from arriero.server.secondlook import SecondLook

PEPPER = b"pepper"
SECRET = "sk-elsewhere-0123456789"
KEY = Key(id="key-1", digest=digest(SECRET.encode(), PEPPER))


class Elsewhere:
    """What another gateway did, which a look takes over."""

    def __init__(self, running: Running) -> None:
        self.looks = 0
        self.made: list[Key] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self._ring = KeyRing(PEPPER)
        running.gateway.ring = self._ring
        self.again = SecondLook(self.look, running.service._spawn, running.gateway.clock)
        running.gateway.second_look = self.again

    async def look(self) -> None:
        self.looks += 1
        await self.hold.wait()
        for key in self.made:
            self._ring.put(key)


@pytest.fixture
def elsewhere(running: Running) -> Elsewhere:
    return Elsewhere(running)


async def test_a_key_made_elsewhere_is_good_at_once(client: Client, elsewhere: Elsewhere) -> None:
    elsewhere.made.append(KEY)
    assert (await client.ask("GET", "/v1/models", key=SECRET)).status == 200
    assert (await client.ask("GET", "/v1/models", key=SECRET)).status == 200
    assert elsewhere.looks == 1


async def test_a_wrong_key_is_refused_after_the_look(client: Client, elsewhere: Elsewhere) -> None:
    for _ in range(2):
        answer = await client.ask("GET", "/v1/models", key="sk-wrong-0123456789")
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert elsewhere.looks == 2


async def test_nobody_looks_for_a_good_key_or_for_none(
    client: Client, elsewhere: Elsewhere
) -> None:
    assert (await client.ask("GET", "/v1/models")).status == 200
    assert (await client.ask("GET", "/v1/models", key=None)).status == 401
    assert elsewhere.looks == 0


async def test_many_wait_for_one_look(running: Running, elsewhere: Elsewhere) -> None:
    clients = [await running.connect() for _ in range(8)]
    elsewhere.hold.clear()
    first = asyncio.create_task(clients[0].ask("GET", "/v1/models", key=SECRET))
    await until(lambda: elsewhere.looks == 1)
    rest = [asyncio.create_task(one.ask("GET", "/v1/models", key=SECRET)) for one in clients[1:]]
    await until(lambda: len(elsewhere.again._waiting) == 7)
    elsewhere.made.append(KEY)
    elsewhere.hold.set()
    assert [(await one).status for one in (first, *rest)] == [200] * 8
    assert elsewhere.looks == 2


async def test_who_leaves_while_waiting_leaves_nothing(
    running: Running, client: Client, elsewhere: Elsewhere
) -> None:
    elsewhere.hold.clear()
    client.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-x\r\n\r\n")
    await until(lambda: elsewhere.looks == 1)
    client.abort()
    await until(lambda: not running.gateway.metrics.requests_open)
    elsewhere.hold.set()
    await until(lambda: elsewhere.again._running is None)


async def test_waiting_has_limits(
    running: Running, client: Client, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secondlook, "TIMEOUT_S", 0.05)
    monkeypatch.setattr(secondlook, "WAITING_MAX", 0)
    elsewhere.hold.clear()
    assert (await client.ask("GET", "/v1/models", key=SECRET)).status == 401
    assert elsewhere.looks == 0, "too many wait already"
    monkeypatch.setattr(secondlook, "WAITING_MAX", 1)
    assert (await client.ask("GET", "/v1/models", key=SECRET)).status == 401
    assert elsewhere.looks == 1, "the look took too long"
    elsewhere.hold.set()


async def test_a_body_may_arrive_meanwhile(client: Client, elsewhere: Elsewhere) -> None:
    elsewhere.made.append(KEY)
    elsewhere.hold.clear()
    body = b'{"model":"llama","messages":[{"role":"user","content":"a"}]}'
    client.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (SECRET.encode(), len(body), body[:20])
    )
    await until(lambda: elsewhere.looks == 1)
    client.write(body[20:])
    elsewhere.hold.set()
    assert (await client.answer()).status == 200
