"""The hosts that conformance tests ask."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx2 as httpx
import pytest_asyncio
from tests.testing.asking import MODELS, REAL, Host

from arriero.testing.ollama import OllamaSim


@pytest_asyncio.fixture
async def host() -> AsyncIterator[Host]:
    async with AsyncExitStack() as stack:
        url = REAL or (await stack.enter_async_context(OllamaSim(MODELS))).url
        client = httpx.AsyncClient(base_url=url, timeout=120)
        yield Host(await stack.enter_async_context(client))


@pytest_asyncio.fixture
async def bare() -> AsyncIterator[Host]:
    """Give a host without any model."""
    async with OllamaSim() as sim, httpx.AsyncClient(base_url=sim.url) as client:
        yield Host(client)
