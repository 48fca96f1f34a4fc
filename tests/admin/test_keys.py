"""The key API over HTTP, on both databases: keys made, shown, changed and ended."""

import asyncio

import pytest
from tests.admin.conftest import Api
from tests.server.client import KEY, chat

CHAT = "/v1/chat/completions"
OWN = "sk-my-own-0123456789"


async def test_a_key_is_made_used_and_shown(api: Api) -> None:
    made = await api.make(key_alias="bob", models=["llama"], duration="30d", metadata={"a": [1]})
    secret = made["key"]
    assert secret.startswith("sk-")
    assert len(secret) == 46
    assert made["token"] == made["token_id"]
    answer = await api.client.ask("POST", CHAT, chat("a"), key=secret)
    assert answer.status == 200
    for named in (made["token"], "bob", secret):
        shown = await api.ask("GET", f"/key/info?key={named}")
        assert shown["key"] == named
        assert shown["info"]["key_alias"] == "bob"
        assert shown["info"]["metadata"] == {"a": [1]}
        assert shown["info"]["status"] == "active"
        assert shown["info"]["models"] == ["llama"]
        assert "token" not in shown["info"]
        assert "key" not in shown["info"]


async def test_everything_that_is_set_is_shown_back(api: Api) -> None:
    sent = {
        "key_alias": "full",
        "models": ["llama", "org/*"],
        "user_id": "ann",
        "tags": ["a", "b"],
        "max_parallel_requests": 3,
        "rpm_limit": 4,
        "tpm_limit": 5,
        "tpd_limit": 6,
        "tokens_per_month": 7,
        "model_rpm_limit": {"llama": 8},
        "model_tpm_limit": {"llama": 9},
        "team_id": "t",
        "organization_id": "o",
        "project_id": "p",
        "agent_id": "g",
        "operations": ["chat", "models"],
        "priority": "background",
        "trusted": True,
        "blocked": True,
        "metadata": {"deep": {"x": [1, None, "ü"]}},
    }
    made = await api.make(**sent)
    shown = (await api.ask("GET", "/key/info?key=full"))["info"]
    for name, value in sent.items():
        assert made[name] == shown[name] == value, name
    assert shown["allowed_routes"] == ["/v1/chat/completions", "/v1/models"]
    assert shown["model_limits"]["llama"]["requests_per_minute"] == 8
    assert shown["status"] == "revoked"
    assert (shown["role"], shown["key_type"], shown["created_by"]) == ("user", "llm_api", "master")


async def test_a_secret_is_told_from_one_nearly_like_it(api: Api) -> None:
    made = await api.make()
    assert await api.status(made["key"]) == 200
    ring = api.running.gateway.ring
    assert ring.get(made["token"]) is not None
    assert await api.status(made["key"][:-1] + "x") == 401


async def test_block_unblock_and_delete_count_from_the_next_request(api: Api) -> None:
    made = await api.make(key_alias="bob")
    secret, token = made["key"], made["token"]
    other = await api.running.connect()
    for named in (secret, token, "bob"):
        assert (await other.ask("GET", "/v1/models", key=secret)).status == 200
        assert (await api.ask("POST", "/key/block", {"key": named}))["blocked"] is True
        assert (await other.ask("GET", "/v1/models", key=secret)).status == 401
        assert (await api.ask("POST", "/key/unblock", {"key": named}))["blocked"] is False
    assert (await other.ask("GET", "/v1/models", key=secret)).status == 200
    gone = await api.ask("POST", "/key/delete", {"keys": [secret]})
    assert gone == {"deleted_keys": [secret]}
    assert (await other.ask("GET", "/v1/models", key=secret)).status == 401
    await api.refused(404, "GET", f"/key/info?key={token}")


async def test_an_update_is_a_merge_patch(api: Api) -> None:
    token = (await api.make(key_alias="bob", rpm_limit=5, tpm_limit=6, duration="1h"))["token"]
    changed = await api.ask("POST", "/key/update", {"key": token, "rpm_limit": None})
    assert (changed["rpm_limit"], changed["tpm_limit"]) == (None, 6)
    assert changed["expires"] is not None
    changed = await api.ask("POST", "/key/update", {"key_alias": "bob", "duration": "-1"})
    assert changed["expires"] is None
    changed = await api.ask("POST", "/key/update", {"key": token, "key_alias": "robert"})
    assert (changed["key"], changed["key_alias"]) == (token, "robert")
    await api.refused(404, "GET", "/key/info?key=bob")


async def test_an_expired_key_stops_and_can_be_given_more_time(api: Api) -> None:
    secret = (await api.make(key_alias="brief", duration="0.3s"))["key"]
    async with asyncio.timeout(20):
        while await api.status(secret) != 401:  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)
    assert (await api.ask("GET", "/key/info?key=brief"))["info"]["status"] == "expired"
    await api.ask("POST", "/key/update", {"key": secret, "duration": "1h"})
    assert await api.status(secret) == 200


async def test_rotation_with_and_without_grace(api: Api) -> None:
    old = (await api.make(key_alias="bob"))["key"]
    new = await api.ask("POST", f"/key/{old}/regenerate", {"grace_period": "1h"})
    assert new["previous_until"] is not None
    assert [await api.status(one) for one in (old, new["key"])] == [200, 200]
    newest = await api.ask("POST", "/key/bob/regenerate")
    assert newest["token"] == new["token"]
    assert [await api.status(one) for one in (old, new["key"], newest["key"])] == [401, 401, 200]
    own = await api.ask("POST", "/key/regenerate", {"key": "bob", "new_key": OWN, "models": ["x"]})
    assert (own["key"], own["models"]) == (OWN, ["x"])
    assert [await api.status(one) for one in (newest["key"], OWN)] == [401, 200]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"key": "sk-short"}, "key"),
        ({"key": "no-prefix-0123456789"}, "key"),
        ({"key": KEY}, "key"),
        ({"duration": "soon"}, "duration"),
        ({"models": "llama"}, "models"),
        ({"rpm_limit": -1}, "rpm_limit"),
        ({"rpm_limit": "5"}, "rpm_limit"),
        ({"max_parallel_requests": 0}, "max_parallel_requests"),
        ({"role": "god"}, "role"),
        ({"key_alias": "sk-0123456789abcdef"}, "key_alias"),
        ({"metadata": {"x": "y" * 20_000}}, "metadata"),
        ({"key_type": "management", "role": "user"}, "key_type"),
        ({"allowed_routes": ["/key/generate"]}, "allowed_routes"),
        ({"max_budget": 5}, "max_budget"),
        ({"modles": ["llama"]}, "modles"),
    ],
)
async def test_what_cannot_be_is_refused_and_named(
    api: Api, body: dict[str, object], param: str
) -> None:
    error = await api.refused(400, "POST", "/key/generate", body)
    assert error["param"] == param
    assert "hint" in error["message"] or ":" in error["message"]
    assert KEY not in error["message"]
    assert len(api.running.gateway.ring) == 0


async def test_names_and_secrets_are_given_once(api: Api) -> None:
    await api.make(key_alias="bob", key=OWN)
    for body in ({"key_alias": "bob"}, {"key": OWN}):
        error = await api.refused(400, "POST", "/key/generate", body)
        assert error["code"] == "key_exists"
        assert OWN not in error["message"]
    other = await api.make()
    body = {"key": other["token"], "key_alias": "bob"}
    assert (await api.refused(400, "POST", "/key/update", body))["param"] == "key_alias"
    same = {"key": other["token"], "new_key": OWN}
    assert (await api.refused(400, "POST", "/key/regenerate", same))["param"] == "new_key"


async def test_nothing_is_deleted_when_one_of_the_keys_is_not_there(api: Api) -> None:
    made = await api.make(key_alias="bob")
    error = await api.refused(404, "POST", "/key/delete", {"keys": ["bob", "sk-not-here-0123456"]})
    assert error["param"] == "keys[1]"
    assert "sk-not" not in error["message"]
    assert await api.status(made["key"]) == 200
    assert (await api.refused(400, "POST", "/key/delete", {}))["param"] == "keys"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/key/delete", {"keys": [KEY]}),
        ("POST", "/key/block", {"key": KEY}),
        ("POST", "/key/update", {"key": KEY, "models": ["x"]}),
        ("POST", f"/key/{KEY}/regenerate", {}),
        ("GET", f"/key/info?key={KEY}", None),
        ("GET", "/key/info", None),
    ],
)
async def test_the_master_key_is_no_virtual_key(
    api: Api, method: str, path: str, body: object
) -> None:
    error = await api.refused(400, method, path, body)
    assert "master key" in error["message"]
    assert KEY not in error["message"]
    assert await api.status(KEY) == 200


async def test_changes_at_the_same_time_do_not_undo_each_other(api: Api) -> None:
    token = (await api.make())["token"]
    clients = [await api.running.connect() for _ in range(8)]
    names = ("rpm_limit", "tpm_limit", "tpd_limit", "tokens_per_month", "user_id", "priority",
             "team_id", "agent_id")  # fmt: skip
    values = (1, 2, 3, 4, "ann", "background", "t", "g")
    async with asyncio.TaskGroup() as group:
        for client, name, value in zip(clients, names, values, strict=True):
            group.create_task(client.ask("POST", "/key/update", {"key": token, name: value}))
    shown = (await api.ask("GET", f"/key/info?key={token}"))["info"]
    assert tuple(shown[name] for name in names) == values


async def test_every_change_stands_in_the_audit(api: Api) -> None:
    made = await api.make(key_alias="bob", models=["llama"], metadata={"x": "private"})
    admin = await api.make(role="admin")
    token = made["token"]
    await api.ask("POST", "/key/update", {"key": token, "rpm_limit": 1}, key=admin["key"])
    await api.ask("POST", "/key/block", {"key": token})
    await api.ask("POST", "/key/unblock", {"key": token})
    turned = await api.ask("POST", "/key/regenerate", {"key": token, "grace_period": "1m"})
    await api.ask("POST", "/key/delete", {"keys": [token]})
    await api.refused(400, "POST", "/key/generate", {"max_budget": 1})
    found = await api.ask("GET", f"/audit?key={token}")
    assert found["next"] is None
    entries = found["entries"]
    actions = [one["action"] for one in entries]
    assert actions == ["delete", "rotate", "unblock", "block", "update", "create"]
    assert {one["client"] for one in entries} == {"127.0.0.1"}
    assert [one["actor"] for one in entries[-2:]] == [admin["token"], "master"]
    assert entries[-1]["detail"] == {"alias": "bob", "fields": ["alias", "models", "metadata"]}
    answer = await api.client.ask("GET", "/audit")
    for secret in (made["key"], admin["key"], turned["key"], "private", KEY):
        assert secret.encode() not in answer.body


async def test_the_audit_has_pages(api: Api) -> None:
    for _ in range(5):
        await api.make()
    seqs: list[int] = []
    before: int | None = 0
    while before is not None:
        page = await api.ask("GET", f"/audit?limit=2&before={before}")
        seqs += [one["seq"] for one in page["entries"]]
        before = page["next"]
    assert len(seqs) == 5
    assert seqs == sorted(seqs, reverse=True)
