"""The graceful end: what is under way is finished, nothing new is taken, and it ends in time."""

import asyncio
import os
import socket

import pytest
from tests.server.client import Answer, Client, chat, request
from tests.server.conftest import Launch
from tests.server.running import LONG_ANSWER, Running, until

from arriero.testing.ollama import Fault, Kind


def slow(running: Running, delay_s: float = 0.02) -> None:
    """Make the next answer take a while."""
    running.sims[0].faults.add(Fault(kind=Kind.SLOW, delay_s=delay_s, count=1))


async def begun_stream(running: Running) -> Client:
    """Return a client whose stream has begun."""
    client = await running.connect()
    client.write(request("POST", "/v1/chat/completions", chat(stream=True)))
    await until(lambda: running.open()["in flight"])
    return client


async def ended(running: Running) -> None:
    assert running.task is not None
    for client in running.clients:  # which the gateway gives a while to do so
        await client.close()
    async with asyncio.timeout(10):
        await running.task


async def test_a_stream_under_way_is_finished(running: Running) -> None:
    slow(running)
    client = await begun_stream(running)
    running.service.stop()
    answer = await client.answer()
    assert answer.text == "You said: hello"
    assert await client.rest() == b""
    await ended(running)


async def test_an_answer_under_way_is_finished_and_says_that_it_closes(running: Running) -> None:
    slow(running)
    client = await running.connect()
    client.write(request("POST", "/v1/chat/completions", chat()))
    await until(lambda: running.open()["in flight"])
    running.service.stop()
    answer = await client.answer()
    assert answer.status == 200
    assert answer.closes
    await ended(running)


async def test_a_request_whose_body_is_on_its_way_is_served(running: Running) -> None:
    client = await running.connect()
    whole = request("POST", "/v1/chat/completions", chat())
    client.write(whole[:-5])
    await until(lambda: running.open()["requests"])
    running.service.stop()
    await until(lambda: running.gateway.draining)
    client.write(whole[-5:])
    answer = await client.answer()
    assert answer.status == 200
    assert answer.closes
    await ended(running)


async def test_what_waits_in_a_pipeline_is_not_begun(running: Running) -> None:
    """The answer before it says that the connection closes; RFC 9112, 9.6: ask again elsewhere."""
    slow(running)
    client = await running.connect()
    client.write(request("POST", "/v1/chat/completions", chat()) * 3)
    await until(lambda: running.open()["in flight"])
    running.service.stop()
    assert (await client.answer()).closes
    assert await client.rest() == b""
    assert running.generations() == 1
    await ended(running)


async def test_idle_connections_close_at_once_and_new_ones_are_refused(running: Running) -> None:
    slow(running, 0.1)
    idle, silent = [await running.connect() for _ in range(2)]
    assert (await idle.ask("GET", "/v1/models")).status == 200
    busy = await begun_stream(running)
    running.service.stop()
    for client in (idle, silent):
        assert await client.rest() == b""
    assert running.gateway.metrics.requests_open == 1
    with pytest.raises(ConnectionRefusedError):
        await running.connect()
    assert (await busy.answer()).text == "You said: hello"
    await ended(running)


async def test_a_head_that_has_begun_to_arrive_is_served(running: Running) -> None:
    client = await running.connect()
    whole = request("GET", "/v1/models")
    client.write(whole[:9])
    await until(lambda: running.connection()._head_bytes)
    running.service.stop()
    await until(lambda: running.gateway.draining)
    client.write(whole[9:])
    answer = await client.answer()
    assert answer.status == 200
    assert answer.closes
    await ended(running)


async def test_an_answer_that_the_client_still_reads_is_not_cut_off(running: Running) -> None:
    """It is complete for the gateway, but not yet out of its buffers."""
    client = await running.connect(receive_bytes=4096)
    client.write(request("POST", "/v1/chat/completions", chat("long")))
    await until(lambda: running.generations() and not running.gateway.metrics.requests_open)
    assert running.connection()._unwritten()
    running.service.stop()
    await until(lambda: running.gateway.draining)
    assert (await client.answer()).json()["choices"][0]["message"]["content"] == LONG_ANSWER
    await ended(running)


class Heir:
    """Takes connections as the next process would: by a copy of its file."""

    def __init__(self, running: Running) -> None:
        self.sockets: list[socket.socket] = []
        running.gateway.hand_over = self.take

    def take(self, fd: int) -> bool:
        self.sockets.append(socket.socket(fileno=os.dup(fd)))
        return True

    async def read(self) -> bytes:
        """Return what the client of the only connection sends."""
        (one,) = self.sockets
        one.settimeout(0)
        async with asyncio.timeout(10):
            return await asyncio.get_running_loop().sock_recv(one, 65_536)

    def close(self) -> None:
        for one in self.sockets:
            one.close()


async def test_a_client_that_waits_is_handed_over_open(running: Running) -> None:
    heir = Heir(running)
    client = await running.connect()
    assert (await client.ask("GET", "/v1/models")).status == 200
    running.service.stop()
    await until(lambda: heir.sockets)
    assert running.task is not None
    await running.task
    client.write(b"a request")
    assert await heir.read() == b"a request"
    heir.close()


async def test_a_stream_that_promised_to_go_on_is_handed_over_at_its_end(running: Running) -> None:
    """Its head went out before the end began, so the client may send as soon as it has read it."""
    slow(running)
    heir = Heir(running)
    client = await begun_stream(running)
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"close" not in head
    running.service.stop()
    await until(lambda: heir.sockets)
    stream = await client._chunks()
    assert stream.endswith(b"data: [DONE]\n\n")
    client.write(b"a request")
    assert await heir.read() == b"a request"
    assert running.task is not None
    await running.task
    heir.close()


async def test_readiness_says_so(running: Running) -> None:
    """Its head came before the end began, its body after."""
    client = await running.connect()
    whole = request("GET", "/health/readiness", b"{}")
    client.write(whole[:-1])
    await until(lambda: running.open()["requests"])
    running.service.stop()
    await until(lambda: running.gateway.draining)
    client.write(whole[-1:])
    answer = await client.answer()
    assert answer.status == 503
    assert answer.json() == {"status": "not ready"}
    assert answer.closes
    await ended(running)


async def test_what_does_not_finish_is_cut_off_and_settled(launch: Launch) -> None:
    running = await launch(server={"drain_timeout_s": 0.05})
    running.sims[0].faults.add(Fault(kind=Kind.HANG_MID, after=1, count=1))
    client = await begun_stream(running)
    running.service.stop()
    assert b"[DONE]" not in await client.rest()
    await ended(running)
    assert not any(running.open().values()), running.open()


async def test_a_body_that_never_comes_does_not_hold_up_the_end(launch: Launch) -> None:
    running = await launch(server={"drain_timeout_s": 0.05})
    client = await running.connect()
    client.write(request("POST", "/v1/chat/completions", chat())[:-5])
    await until(lambda: running.open()["requests"])
    running.service.stop()
    assert await client.rest() == b""
    await ended(running)


async def test_stopping_twice_is_stopping_once(running: Running) -> None:
    slow(running)
    client = await begun_stream(running)
    running.service.stop()
    running.service.stop()
    assert (await client.answer()).text == "You said: hello"
    await ended(running)


async def test_many_streams_drain_together(running: Running) -> None:
    running.sims[0].faults.add(Fault(kind=Kind.SLOW, delay_s=0.02, count=20))
    clients = [await running.connect() for _ in range(20)]
    for client in clients:
        client.write(request("POST", "/v1/chat/completions", chat(stream=True)))
    await until(lambda: running.open()["in flight"] == 20)
    running.service.stop()
    answers: list[Answer] = [await client.answer() for client in clients]
    assert {answer.text for answer in answers} == {"You said: hello"}
    await ended(running)
