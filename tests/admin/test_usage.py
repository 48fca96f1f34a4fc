"""The usage API: sums and single requests, narrowed, as JSON and as CSV."""

import csv
import io

import pytest
from tests.admin.conftest import Api
from tests.server.client import chat

from arriero.admin.usage import UsedRequest, harmless, table

CHAT = "/v1/chat/completions"


async def use(api: Api, secret: str, times: int, model: str = "llama") -> None:
    for _ in range(times):
        answer = await api.client.ask("POST", CHAT, chat("a", model=model), key=secret)
        assert answer.status == 200


@pytest.fixture
async def pair(api: Api) -> list[dict[str, str]]:
    """Two keys that were used two and three times."""
    made = [await api.make(key_alias=alias) for alias in ("ann", "bob")]
    for times, one in enumerate(made, 2):
        await use(api, one["key"], times)
    return made


async def test_usage_is_added_up(api: Api, pair: list[dict[str, str]]) -> None:
    found = await api.ask("GET", "/usage")
    (day,) = found["usage"]
    assert (day["requests"], day["failures"], day["key"]) == (5, 0, "")
    assert day["total_tokens"] == day["prompt_tokens"] + day["completion_tokens"] > 0
    assert found["complete"] is True
    found = await api.ask("GET", "/usage?group_by=key,model,backend")
    assert {(one["key_alias"], one["requests"]) for one in found["usage"]} == {
        ("ann", 2),
        ("bob", 3),
    }
    assert {(one["day"], one["model"], one["backend"]) for one in found["usage"]} == {
        ("", "llama", "host0")
    }
    for named in ("bob", pair[1]["token"], pair[1]["key"]):
        (of_bob,) = (await api.ask("GET", f"/usage?key={named}"))["usage"]
        assert of_bob["requests"] == 3
    assert (await api.ask("GET", "/usage?model=none"))["usage"] == []
    assert (await api.ask("GET", "/usage?end_date=2001-01-01"))["usage"] == []
    assert (await api.ask("GET", "/usage?group_by=key&limit=1"))["complete"] is False
    assert (await api.refused(400, "GET", "/usage?group_by=keys"))["param"] == "group_by"
    assert (await api.refused(404, "GET", "/usage?key=nobody"))["code"] == "key_not_found"


async def test_single_requests_are_listed_page_by_page(
    api: Api, pair: list[dict[str, str]]
) -> None:
    ids: list[str] = []
    before: int | None = 0
    while before is not None:
        page = await api.ask("GET", f"/usage/requests?limit=2&before={before}")
        ids += [one["request_id"] for one in page["requests"]]
        before = page["next"]
    assert len(ids) == len(set(ids)) == 5
    (newest,) = (await api.ask("GET", "/usage/requests?limit=1"))["requests"]
    assert newest["request_id"] == ids[0]
    assert (newest["key"], newest["key_alias"]) == (pair[1]["token"], "bob")
    assert (newest["model"], newest["backend_model"]) == ("llama", "llama3:8b")
    assert (newest["outcome"], newest["status"]) == ("ok", 200)
    assert newest["first_token_s"] is None, "the answer was not streamed"


@pytest.mark.parametrize("way", ["format=csv", "accept"])
async def test_csv(api: Api, pair: list[dict[str, str]], way: str) -> None:
    query, headers = ("&format=csv", None) if way != "accept" else ("", {"accept": "text/csv"})
    answer = await api.client.ask("GET", f"/usage?group_by=key{query}", headers=headers)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["x-arriero-complete"] == "true"
    rows = list(csv.DictReader(io.StringIO(answer.body.decode())))
    assert {(row["key_alias"], row["requests"]) for row in rows} == {("ann", "2"), ("bob", "3")}
    answer = await api.client.ask("GET", f"/usage/requests?limit=2{query}", headers=headers)
    assert len(list(csv.DictReader(io.StringIO(answer.body.decode())))) == 2
    more = answer.headers["x-arriero-next"]
    rest = await api.client.ask("GET", f"/usage/requests?before={more}{query}", headers=headers)
    assert len(list(csv.DictReader(io.StringIO(rest.body.decode())))) == 3
    assert "x-arriero-next" not in rest.headers


async def test_a_users_key_sees_its_own_usage_only(api: Api, pair: list[dict[str, str]]) -> None:
    ann, bob = pair
    for query in ("", "key=ann&", f"key={ann['token']}&"):
        found = await api.ask("GET", f"/usage?{query}group_by=key,backend", key=ann["key"])
        assert [one["requests"] for one in found["usage"]] == [2]
        listed = await api.ask("GET", f"/usage/requests?{query}", key=ann["key"])
        assert {one["key"] for one in listed["requests"]} == {ann["token"]}
    answers = [
        await api.refused(403, "GET", f"/usage?key={other}", key=ann["key"])
        for other in ("bob", bob["token"], "nobody", "master")
    ]
    assert len({one["message"].partition(" [request")[0] for one in answers}) == 1
    looking = await api.make(role="read_only")
    found = await api.ask("GET", "/usage?group_by=key", key=looking["key"])
    assert len(found["usage"]) == 2


async def test_the_usage_of_a_key_that_is_gone_is_still_there(
    api: Api, pair: list[dict[str, str]]
) -> None:
    token = pair[0]["token"]
    await api.ask("POST", "/key/delete", {"keys": [token]})
    (found,) = (await api.ask("GET", f"/usage?key={token}&group_by=key"))["usage"]
    assert (found["requests"], found["key_alias"]) == (2, "")


async def test_a_request_for_no_model_of_ours_used_nothing(api: Api) -> None:
    made = await api.make()
    answer = await api.client.ask("POST", CHAT, chat("a", model="no-such"), key=made["key"])
    assert answer.status == 404
    assert (await api.ask("GET", f"/usage?key={made['token']}"))["usage"] == []


def test_a_table_has_its_names_even_when_it_is_empty() -> None:
    assert table([], UsedRequest, {}).content.startswith(b"request_id,time,key,")


def test_no_cell_is_a_formula() -> None:
    assert harmless(["=1+1", "@x", "a=b", "", 3, -1.5, None]) == [
        "'=1+1", "'@x", "a=b", "", 3, -1.5, None,
    ]  # fmt: skip
