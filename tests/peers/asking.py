"""Short questions to one of several gateways."""

from typing import Any

from tests.integration.arena import ALIAS, KEY, Running
from tests.server.client import Answer, Client, chat

from arriero.app.exposition import Readings, read

CHAT = "/v1/chat/completions"


async def ask(
    gateway: Running, method: str, path: str, body: object = None, *, key: str = KEY
) -> Answer:
    """Ask once, on a connection of its own."""
    client = await Client.connect(gateway.port)
    try:
        return await client.ask(method, path, body, key=key)
    finally:
        await client.close()


async def say(gateway: Running, key: str = KEY, **more: Any) -> int:
    """Chat, and return the status of the answer."""
    return (await ask(gateway, "POST", CHAT, chat("Say it", model=ALIAS, **more), key=key)).status


async def metrics(gateway: Running) -> Readings:
    """Return what /metrics says."""
    answer = await ask(gateway, "GET", "/metrics")
    readings = read(answer.body.decode())
    assert readings is not None
    return readings
