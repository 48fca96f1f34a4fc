"""A gateway per test. Whatever a test does, at its end nothing may be open, counted or logged."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest_asyncio
from tests.server.client import Client
from tests.server.running import Running, config, sim

Launch = Callable[..., Awaitable[Running]]


@pytest_asyncio.fixture
async def launch() -> AsyncIterator[Launch]:
    """Give a function that starts a gateway: `await launch(sims=2, server={...})`."""
    async with AsyncExitStack() as stack:

        async def start(
            *, sims: int = 1, server: dict[str, Any] | None = None, **more: Any
        ) -> Running:
            hosts = [await stack.enter_async_context(sim()) for _ in range(sims)]
            running = Running(config(hosts, server or {}, **more), hosts)
            await running.start()
            stack.push_async_callback(running.stop)
            await running.ready()
            return running

        yield start


@pytest_asyncio.fixture
async def running(launch: Launch) -> Running:
    """Give a gateway with the default limits and one host."""
    return await launch()


@pytest_asyncio.fixture
async def client(running: Running) -> Client:
    """Give one connection to it."""
    return await running.connect()
