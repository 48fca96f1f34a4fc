"""Two gateways on one store: what one changes counts for the other within a second."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.admin.conftest import Api
from tests.server.client import PATIENCE_S
from tests.server.running import Running, config, sim, until

from arriero.app import keeper
from arriero.config.settings import Secret, Store


@pytest.fixture
async def other(url: str, api: Api) -> AsyncIterator[Api]:
    """Another gateway on the store of the first."""
    async with sim() as host:
        running = Running(config([host], {}, store=Store(url=Secret(url))), [host])
        api.running.events = running.events  # both log to one place in this process
        await running.start()
        await running.ready()
        yield Api(await running.connect(), running)
        await running.stop()


async def is_answered(api: Api, secret: str, status: int) -> None:
    """Wait until a key is answered like that."""
    async with asyncio.timeout(PATIENCE_S):
        while await api.status(secret) != status:  # noqa: ASYNC110 - polled
            await asyncio.sleep(0.02)


async def test_a_key_of_one_is_good_at_the_other_until_it_is_revoked(api: Api, other: Api) -> None:
    made = await api.make(key_alias="bob")
    await is_answered(other, made["key"], 200)
    await other.ask("POST", "/key/block", {"key": "bob"})
    assert await other.status(made["key"]) == 401
    await is_answered(api, made["key"], 401)
    await api.ask("POST", "/key/delete", {"keys": ["bob"]})
    await until(lambda: other.running.gateway.ring.by_alias("bob") is None)
    actions = [one["action"] for one in (await other.ask("GET", "/audit"))["entries"]]
    assert actions == ["delete", "block", "create"]


async def test_a_key_can_be_used_anywhere_as_soon_as_it_is_made(
    api: Api, other: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "INTERVAL_S", 600.0)  # nobody looks by the way
    for _ in range(3):
        made = await api.make()
        assert await other.status(made["key"]) == 200
    assert await other.status("sk-nobody-0123456789") == 401


async def test_a_name_is_given_once_whoever_gives_it(api: Api, other: Api) -> None:
    await api.make(key_alias="bob")
    error = await other.refused(400, "POST", "/key/generate", {"key_alias": "bob"})
    assert error["code"] == "key_exists", "the store knows, though this gateway may not yet"


async def test_a_script_may_ask_any_of_them(
    api: Api, other: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "INTERVAL_S", 600.0)  # nobody looks by the way
    made = await api.make(key_alias="bob")
    assert (await other.ask("GET", "/key/info?key=bob"))["info"]["token_id"] == made["token"]
    await other.ask("POST", "/key/update", {"key": made["key"], "rpm_limit": 1})
    await api.ask("POST", "/key/update", {"key": made["key"], "tpm_limit": 2})
    await other.ask("POST", "/key/update", {"key": "bob", "user_id": "ann"})
    (shown,) = (await api.ask("GET", "/key/list?return_full_object=true"))["keys"]
    assert (shown["rpm_limit"], shown["tpm_limit"], shown["user_id"]) == (1, 2, "ann")
    await api.ask("POST", "/key/delete", {"keys": ["bob"]})
    await other.refused(404, "GET", "/key/info?key=bob")


async def test_changes_of_one_key_at_both_are_all_kept(api: Api, other: Api) -> None:
    """Each changes its own field, without waiting for what the other one did."""
    await api.make(key_alias="bob")
    for number in range(1, 6):
        async with asyncio.TaskGroup() as group:
            group.create_task(api.ask("POST", "/key/update", {"key": "bob", "rpm_limit": number}))
            group.create_task(other.ask("POST", "/key/update", {"key": "bob", "tpm_limit": number}))
        (shown,) = (await api.ask("GET", "/key/list?return_full_object=true"))["keys"]
        assert (shown["rpm_limit"], shown["tpm_limit"]) == (number, number)


async def test_what_another_one_deleted_is_not_made_again(
    api: Api, other: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "INTERVAL_S", 600.0)  # nobody looks by the way
    made = await api.make(key_alias="bob")
    await api.ask("POST", "/key/delete", {"keys": ["bob"]})
    await other.refused(404, "POST", "/key/update", {"key": made["token"], "rpm_limit": 1})
    assert (await api.ask("GET", "/key/list"))["keys"] == []


async def test_usage_of_both_is_one(api: Api, other: Api) -> None:
    made = await api.make()
    await is_answered(other, made["key"], 200)
    body = {"model": "llama", "messages": [{"role": "user", "content": "x"}]}
    for one in (api, other, other):
        await one.ask("POST", "/v1/chat/completions", body, key=made["key"])
    await other.ask("GET", "/usage")  # has the other one write
    (found,) = (await api.ask("GET", f"/usage?key={made['token']}"))["usage"]
    assert found["requests"] == 3
