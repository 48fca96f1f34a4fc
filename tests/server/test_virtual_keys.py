"""Virtual keys on the data plane: scopes, and revocation at the next request."""

import msgspec
import pytest
from tests.server.client import Client, chat
from tests.server.running import Running

from arriero.core.keys import Key, KeyRing, digest

PEPPER = b"pepper"
SECRET = "sk-virtual-0123456789"
KEY = Key(id="key-1", digest=digest(SECRET.encode(), PEPPER))
CHAT = "/v1/chat/completions"


def give(running: Running, **fields: object) -> KeyRing:
    """Let the gateway know one key."""
    ring = KeyRing(PEPPER, [msgspec.structs.replace(KEY, **fields)])
    running.service.gateway.ring = ring
    return ring


async def test_a_key_is_good_for_what_it_is_for(client: Client, running: Running) -> None:
    give(running, models=("llama",), operations=("chat", "models"))
    assert (await client.ask("POST", CHAT, chat("a"), key=SECRET)).status == 200
    models = await client.ask("GET", "/v1/models", key=SECRET)
    assert [one["id"] for one in models.json()["data"]] == ["llama"]
    assert (await client.ask("GET", "/v1/models/llama", key=SECRET)).status == 200
    embed = {"model": "org/embed:v1", "input": "x"}
    refused = await client.ask("POST", "/v1/embeddings", embed, key=SECRET)
    assert (refused.status, refused.error["code"]) == (403, "permission_denied")


@pytest.mark.parametrize("path", ["/metrics", "/arriero/status"])
async def test_the_gateways_own_pages_are_for_administrators(
    client: Client, running: Running, path: str
) -> None:
    give(running)
    assert (await client.ask("GET", path, key=SECRET)).status == 403
    give(running, role="read_only")
    assert (await client.ask("GET", path, key=SECRET)).status == 200
    assert (await client.ask("POST", CHAT, chat("a"), key=SECRET)).status == 403


async def test_models_outside_a_scope_cannot_be_told_from_none(
    client: Client, running: Running
) -> None:
    give(running, models=("other*",))
    answers = [
        await client.ask("POST", CHAT, chat("a", model=name), key=SECRET)
        for name in ("llama", "no-such-model")
    ]
    answers += [
        await client.ask("GET", f"/v1/models/{name}", key=SECRET) for name in ("llama", "none")
    ]
    assert {one.status for one in answers} == {403}
    assert len({one.error["message"].partition(" [request")[0] for one in answers}) == 1


async def test_a_revoked_key_stops_at_the_next_request_of_a_kept_connection(
    client: Client, running: Running
) -> None:
    ring = give(running)
    for text in "abc":
        assert (await client.ask("POST", CHAT, chat(text), key=SECRET)).status == 200
    ring.put(msgspec.structs.replace(KEY, blocked=True))
    refused = await client.ask("POST", CHAT, chat("d"), key=SECRET)
    assert (refused.status, refused.error["code"]) == (401, "invalid_api_key")
    ring.put(KEY)
    assert (await client.ask("POST", CHAT, chat("e"), key=SECRET)).status == 200
    ring.remove(KEY.id)
    assert (await client.ask("POST", CHAT, chat("f"), key=SECRET)).status == 401


async def test_the_key_is_in_the_record_by_its_id(client: Client, running: Running) -> None:
    give(running)
    gateway = running.service.gateway
    gateway.count_settled()
    assert (await client.ask("POST", CHAT, chat("a"), key=SECRET)).status == 200
    (record,) = gateway._settled
    assert record.principal == "key-1"
