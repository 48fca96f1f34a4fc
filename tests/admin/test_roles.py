"""Who may make which call, and that nobody learns of keys that are not theirs."""

import shutil
from pathlib import Path

import pytest
from tests.admin.conftest import Api
from tests.server.client import KEY

from arriero.admin.app import ENDPOINTS
from arriero.admin.calls import check_access
from arriero.base.errors import Forbidden
from arriero.core.keys import Key

READS = {"/key/info", "/v2/key/info", "/key/list", "/usage", "/usage/requests", "/audit",
         "/openapi.json"}  # fmt: skip
OWN = {"/key/info", "/usage", "/usage/requests", "/openapi.json"}
BODIES = {
    "/key/update": {"key": "bob"},
    "/key/delete": {"keys": ["bob"]},
    "/key/regenerate": {"key": "bob"},
    "/key/block": {"key": "bob"},
    "/key/unblock": {"key": "bob"},
    "/v2/key/info": {"keys": ["bob"]},
}


@pytest.fixture
def url(prepared_file: Path, tmp_path: Path) -> str:
    """One database will do: nothing here depends on it."""
    shutil.copy(prepared_file, tmp_path / "arriero.db")
    return f"sqlite:///{tmp_path}/arriero.db"


def test_only_the_reading_calls_are_for_more_than_administrators() -> None:
    assert {one.path for one in ENDPOINTS if one.access != "admin"} == READS
    assert {one.path for one in ENDPOINTS if one.access == "own"} == OWN


@pytest.mark.parametrize(
    ("role", "may"),
    [("admin", {"admin", "look", "own"}), ("read_only", {"look", "own"}), ("user", {"own"})],
)
def test_roles(role: str, may: set[str]) -> None:
    key = Key(id="k", digest=b"", role=role)  # type: ignore[arg-type]  # parametrised
    for access in ("admin", "look", "own"):
        if access in may:
            check_access(key, access)
        else:
            with pytest.raises(Forbidden):
                check_access(key, access)


async def test_every_call_asks_for_the_role_it_is_declared_with(api: Api) -> None:
    await api.make(key_alias="bob")
    secrets = {role: (await api.make(role=role))["key"] for role in ("user", "read_only", "admin")}
    for one in ENDPOINTS:
        path = one.path.replace("{key}", "bob")
        for role, secret in secrets.items():
            answer = await api.client.ask(one.method, path, BODIES.get(one.path), key=secret)
            allowed = role == "admin" or path in OWN or (role == "read_only" and path in READS)
            if not allowed:
                assert (answer.status, answer.error["code"]) == (403, "permission_denied")
            else:
                # What is gone by now, because an administrator deleted it, is told as such.
                assert answer.status in (200, 404), (one.path, role, answer)
    for one in ENDPOINTS:
        answer = await api.client.ask(one.method, one.path, BODIES.get(one.path), key=None)
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


async def test_a_users_key_sees_itself_and_cannot_tell_others_from_none(api: Api) -> None:
    own = await api.make(key_alias="own")
    other = await api.make(key_alias="other")
    for named in ("", own["token"], "own", own["key"]):
        shown = await api.ask("GET", f"/key/info?key={named}", key=own["key"])
        assert shown["info"]["token_id"] == own["token"]
    answers = [
        await api.refused(403, "GET", f"/key/info?key={named}", key=own["key"])
        for named in (other["token"], "other", other["key"], "nobody", "sk-nobody-0123456789", KEY)
    ]
    assert len({one["message"].partition(" [request")[0] for one in answers}) == 1


async def test_an_old_secret_in_its_grace_is_still_ones_own(api: Api) -> None:
    old = await api.make(key_alias="own")
    new = await api.ask("POST", "/key/regenerate", {"key": "own", "grace_period": "1h"})
    for asking in (old["key"], new["key"]):
        for named in (old["key"], new["key"]):
            shown = await api.ask("GET", f"/key/info?key={named}", key=asking)
            assert shown["info"]["token_id"] == old["token"]


async def test_keys_that_are_not_good_are_refused_alike(api: Api) -> None:
    blocked, gone, brief = [await api.make() for _ in range(3)]
    await api.ask("POST", "/key/block", {"key": blocked["token"]})
    await api.ask("POST", "/key/delete", {"keys": [gone["token"]]})
    turned = await api.ask("POST", "/key/regenerate", {"key": brief["token"]})
    assert await api.status(turned["key"]) == 200
    answers = [
        await api.refused(401, "GET", path, key=one)
        for one in (blocked["key"], gone["key"], brief["key"], "sk-nobody-0123456789", "x" * 300)
        for path in ("/key/info", "/key/list", "/v1/models", "/no/such/path")
    ]
    assert len({one["message"].partition(" [request")[0] for one in answers}) == 1


async def test_an_administrators_key_makes_the_next_one(api: Api) -> None:
    admin = await api.make(role="admin", key_alias="admin")
    made = await api.make_as(admin["key"], key_alias="bob")
    assert made["created_by"] == admin["token"]
    assert (await api.make(key_type="management"))["role"] == "admin"
    manager = await api.make(key_type="management")
    chat = {"model": "llama", "messages": [{"role": "user", "content": "x"}]}
    error = await api.refused(403, "POST", "/v1/chat/completions", chat, key=manager["key"])
    assert error["code"] == "permission_denied", "LiteLLM's management keys use no model either"
    assert (await api.client.ask("GET", "/metrics", key=admin["key"])).status == 200


async def test_other_methods_and_paths_are_refused_in_the_same_shape(api: Api) -> None:
    answer = await api.client.ask("GET", "/key/generate")
    assert (answer.status, answer.error["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == "POST"
    answer = await api.client.ask("POST", "/key/list", {})
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}
    assert (await api.refused(404, "GET", "/key/nothing"))["code"] == "unknown_url"
    assert (await api.client.ask("GET", "/key/list/")).status == 200
    assert (await api.client.ask("HEAD", "/key/list")).status == 200
    assert (await api.refused(400, "GET", "/key/list?sizes=3"))["param"] == "sizes"
    assert (await api.refused(400, "GET", "/key/list?size=101"))["param"] == "size"
    assert (await api.refused(400, "POST", "/key/generate", b"{"))["code"] == "invalid_request"
    assert (await api.refused(400, "POST", "/key/generate", b"[]"))["code"] == "invalid_request"
