"""A gateway with a store, in this process, and a client that asks its key API."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.server.client import Client
from tests.server.running import Running, config, sim
from tests.store.conftest import postgresql, prepared_database, prepared_file, url

from arriero.config.settings import Secret, Store

__all__ = ["postgresql", "prepared_database", "prepared_file", "url"]


class Api:
    """The key API as somebody with a key sees it; the master key by default."""

    def __init__(self, client: Client, running: Running) -> None:
        self.client = client
        self.running = running

    async def ask(self, method: str, path: str, body: object = None, **more: Any) -> Any:
        """Return what a call that must succeed says."""
        answer = await self.client.ask(method, path, body, **more)
        assert answer.status == 200, answer
        return answer.json()

    async def refused(
        self, status: int, method: str, path: str, body: object = None, **more: Any
    ) -> dict[str, Any]:
        """Return the error of a call that must fail like that."""
        answer = await self.client.ask(method, path, body, **more)
        assert answer.status == status, answer
        return answer.error

    async def make(self, **fields: Any) -> dict[str, Any]:
        """Make a key."""
        made: dict[str, Any] = await self.ask("POST", "/key/generate", fields)
        return made

    async def make_as(self, secret: str, **fields: Any) -> dict[str, Any]:
        """Make a key in the name of another."""
        made: dict[str, Any] = await self.ask("POST", "/key/generate", fields, key=secret)
        return made

    async def status(self, secret: str) -> int:
        """Return what a request with this key is answered by."""
        answer = await self.client.ask("GET", "/v1/models", key=secret)
        return answer.status


@pytest.fixture
async def api(url: str) -> AsyncIterator[Api]:
    async with sim() as host:
        running = Running(config([host], {}, store=Store(url=Secret(url))), [host])
        await running.start()
        await running.ready()
        yield Api(await running.connect(), running)
        await running.stop()
