"""The service's beginning and end, in this process: nothing stays open, whatever ends it."""

import asyncio
import socket

import pytest
from tests.server.client import PATIENCE_S, Client, chat, request
from tests.server.running import config, sim, until

from arriero.app.run import Service
from arriero.testing.ollama import Fault, Kind, OllamaSim


def counted(service: Service) -> int:
    """Return how much is open or under way."""
    gateway = service.gateway
    hosts = gateway.runtime.fleet.hosts.values()
    in_flight = sum(host.in_flight for host in hosts)
    open_now = len(gateway.connections) + len(gateway.leftovers)
    return gateway.metrics.requests_open + in_flight + open_now


async def started(service: Service) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(service.run())
    async with asyncio.timeout(PATIENCE_S):
        await service.listening.wait()
    return task


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(asyncio.CancelledError):
            await task


async def refuses(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def mid_answer(backend: OllamaSim, service: Service, *, stream: bool) -> Client:
    """Return a client whose request hangs at the backend."""
    backend.faults.add(Fault(kind=Kind.HANG_MID if stream else Kind.HANG, count=1))
    client = await Client.connect(service.port)
    client.write(request("POST", "/v1/chat/completions", chat(stream=stream)))
    await until(lambda: backend.stats.in_flight.now)
    return client


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_cancelling_closes_all_and_ends_every_task(*, stream: bool) -> None:
    before = asyncio.all_tasks()
    async with sim() as backend:
        service = Service(config([backend], {}))
        task = await started(service)
        idle = await Client.connect(service.port)
        busy = await mid_answer(backend, service, stream=stream)
        await cancelled(task)
        assert counted(service) == 0
        assert await refuses(service.port)
        await idle.close()
        await busy.close()
        await until(lambda: not backend.stats.in_flight.now)
    assert asyncio.all_tasks() == before


async def test_cancelling_a_drain_ends_it() -> None:
    async with sim() as backend:
        service = Service(config([backend], {"drain_timeout_s": 3600.0}))
        task = await started(service)
        busy = await mid_answer(backend, service, stream=True)
        service.stop()
        await until(lambda: service.gateway.draining)
        await cancelled(task)
        assert counted(service) == 0
        await busy.close()


async def test_stopping_during_an_inventory_blames_nobody() -> None:
    async with sim() as backend:
        backend.faults.add(Fault(kind=Kind.HANG, endpoint="/api/tags"))
        service = Service(config([backend], {}))
        task = await started(service)
        await until(lambda: any(seen.path == "/api/tags" for seen in backend.requests))
        service.stop()
        async with asyncio.timeout(PATIENCE_S):
            await task
        (host,) = service.gateway.runtime.fleet.hosts.values()
        assert host.breaker.failures == 0


async def test_a_taken_port_is_an_oserror_and_nothing_is_left() -> None:
    before = asyncio.all_tasks()
    with socket.create_server(("127.0.0.1", 0)) as other:
        async with sim() as backend:
            port = other.getsockname()[1]
            with pytest.raises(OSError, match="address already in use"):
                await Service(config([backend], {"port": port})).run()
            assert not backend.requests
    assert asyncio.all_tasks() == before


async def test_the_port_is_free_again_after_a_stop() -> None:
    async with sim() as backend:
        first = Service(config([backend], {}))
        task = await started(first)
        first.stop()
        await task
        second = Service(config([backend], {"port": first.port}))
        task = await started(second)
        client = await Client.connect(second.port)
        assert (await client.ask("POST", "/v1/chat/completions", chat())).status == 200
        await client.close()
        second.stop()
        await task
